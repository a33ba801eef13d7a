"""Writes docs/errors.md, the catalogue of errors, from the places in the code that raise them.

Each error is shown as a terminal of 80 columns shows it. Its text is the code's own; only the values in it are
examples, and a value without one stands in ‹›. A test compares the page with the code.
"""

from __future__ import annotations

import ast
import builtins
import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

from cyclopts import CycloptsError

from automl import errors
from automl.cli.app import app
from automl.cli.error_text import error_text
from automl.cli.usage import usage_error
from automl.errors import AutomlError
from automl.history.rows.quarantine import Reason
from automl.problem import load_problem
from automl.workspace import Workspace

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "errors.md"
WIDTH = 80
MEANS = {
    1: "the command failed",
    2: "wrong usage or problem file",
    3: "the data were refused",
    4: "no model to use",
    5: "MLflow, a source or a database does not respond",
    6: "scoring or publishing failed, or a disk",
    7: "another run holds the cycle",
}
HOME = Path("/srv/flights")
FILE = HOME / "problem.toml"
NAME = "flight-delays"
# codes that are made from a value: what it can be
NAMED = {"what": ("family", "columns", "policy")}
FROM_TABLES = {
    "automl.disk": "_KINDS",
    "automl.history.limits": "_ADVICE",
}
PASSED_ON = ("error.code", "refusal.code", "worst.code", "self._disk.code", "self._down.code")
USAGE = (
    ["chek"],
    ["cycle"],
    ["cycle", "problem.toml", "--budgt", "5m"],
    ["cycle", "problem.toml", "--plan", "fast"],
    ["rollback", "problem.toml", "--to", "last", "--reason", "R"],
    ["check", "problem.toml", "other.toml"],
)
HEAD = """# Errors

Made from the code by `python docs/errors.py`; a test compares. Every error says where, what was found, what was wanted,
and what to type or change next. A command that could have changed something also says what is in effect: `unchanged:`
followed by champion and predictions, or `in effect:` if it came after the commit.

On a terminal sentences wrap at its width, and a command to copy stays in one piece; in a file or a mail each part is
one line. With `--json` the same parts are one document, `{"schema": 1, "error": {"code": ..., "message": ...,
"exit_code": ..., "next": ..., "unchanged": ..., "in_effect": ...}}`. Codes are stable, messages are not. Values here are
examples; what stands in ‹› comes from the data or the system. Warnings, and what to do about refused data, are in
[operations](operations.md#findings).
"""


class Stand:
    """Stands in for a value that only a running command has; every operation gives a stand-in."""

    def __init__(self, name: str) -> None:
        self.__name__ = name

    def __str__(self) -> str:
        return f"‹{self.__name__.strip('_')}›"

    __repr__ = __str__

    def __format__(self, _: str) -> str:
        return str(self)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if name == "problem" and self.__name__ in ("hold", "owner"):
            return NAME
        return EXAMPLES.get(name, Stand(name))

    def __call__(self, *_: Any, **__: Any) -> Stand:
        return self

    def __getitem__(self, _: Any) -> Stand:
        return self

    def __iter__(self) -> Iterator[Stand]:
        return iter([self])

    def __len__(self) -> int:
        return 12

    __int__ = __index__ = __len__

    def __lt__(self, _: object) -> bool:
        return True

    def __sub__(self, _: object) -> Stand:
        return self

    __add__ = __mul__ = __truediv__ = __rmul__ = __sub__


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One place that raises an error."""

    code: str
    exit_code: int
    message: str
    next_step: str
    module: str

    @property
    def text(self) -> str:
        """As a terminal shows it."""
        return error_text(self.message, next_step=self.next_step, width=WIDTH)


def _examples() -> dict[str, Any]:
    """Values by the names that messages use for them."""
    problem = load_problem(ROOT / "examples" / "flights" / "problem.toml")
    problem = problem.model_copy(update={"file": FILE})
    workspace = Workspace(
        root=HOME,
        home=HOME / ".automl",
        database_url=f"sqlite:///{HOME}/.automl/automl.db",
        tracking_uri="http://127.0.0.1:5000",
        workers=2,
    )
    day = datetime(2013, 11, 4, tzinfo=UTC)
    return {
        "problem": problem, "workspace": workspace, "as_of": day, "start": day, "end": day, "until": day,
        "newest": day, "expires_at": day, "path": FILE, "file": FILE.name, "folder": HOME / "predictions",
        "root": HOME, "home": HOME / ".automl", "version": 4, "model_version": 4, "to": 9, "from_version": 3,
        "name": "carrier", "target": "late", "count": 12, "total": 240, "found": "3", "names": ["carrier", "late"],
        "missing": ["carrier"], "versions": "1, 2, 3", "generation": 7, "error": ValueError("unexpected value"),
        "entry": "families/mine.py", "source": "sqlite:///warehouse.db", "where": "history.source",
        "kind": "a list", "argument": "--as-of", "value": "yesterday", "family": "lightgbm", "text": "the reason",
        "known": "2013-10-28, 2013-10-21", "limit": 0.01, "uri": "http://127.0.0.1:5000", "holder": "process 4711 since 03:00",
        "blend": "lightgbm 60 %, linear 40 %", "reason": "the refit failed", "status": "failed", "columns": ["carrier", "late"],
        "lines": ["history.targt: unknown key. Did you mean 'target'?", "sweep.budget: found '5 min'; wanted a duration"],
        "mistakes": ["found name 'My Family'; wanted lower case"], "failed": {"mine": "policy mine raised KeyError"},
        "before": 6301, "now": 189.0, "strength": 0.998, "table": "flight_delays", "pattern": "data/*.csv",
        "small": "sweep.budget: in 20s no start point but the constant baseline was fitted; wanted 40s or more",
        "message": "/srv/flights/.automl: No space left on device", "command": "automl check FILE",
        "span": "240 rows from 2013-10-01 to 2013-11-03", "why": "out of time after 8.2 s", "how": "pip install xgboost-cpu",
        "said": ["found 'nightly'; wanted a policy", "Correct --policies."], "days": "from 2013-11-04 to 2013-11-25 no row has a label",
        "step": "Choose a window whose labels have arrived: --from, --to.", "what": "does not respond: the connection is refused",
        "next_step": "Start it, then run the same command again.", "wanted": "the path of a file of variables",
        "encoding": "UTF-16", "others": ["carrier"], "out_of_range": "the model's output holds 1.2; wanted probabilities",
        "block": "2013-10-28", "renamed": "", "hidden": "", "named": "KeyError: ", "first_line": "'carrier'",
        "shown": ["relation flights does not exist"], "labels": 240, "check": "AUTOML_DATABASE_URL", "variable": "AUTOML_ENV_FILE",
    }  # fmt: skip


EXAMPLES: dict[str, Any] = {}
# values of single codes, where the usual ones would mislead
BY_CODE: dict[str, dict[str, Any]] = {
    "audit": {"mistakes": ["found 6300 rows; wanted 6301", "found 1 key twice"]},
    "backtest_window": {"block": "7d", "end": datetime(2013, 11, 6, tzinfo=UTC)},
    "backwards": {"newest": datetime(2013, 11, 11, tzinfo=UTC)},
    "bad_file": {"file": "data/2013.csv", "lines": ["Parquet magic bytes not found in footer"]},
    "bad_type": {"found": "lists"},
    "bad_weight": {"name": "weight", "found": ["negative", "missing"], "frame": range(240)},
    "batch_size": {"found": 900},
    "busy": {"problem": NAME},
    "class_vanished": {"missing": ["diverted"]},
    "columns_raise": {"path": HOME / "columns.py"},
    "columns_wrong": {"path": HOME / "columns.py", "found": "list", "rows": ""},
    "contract": {"lines": ["column 'carrier': found numbers; wanted text"], "hidden": ["email"]},
    "contract_file": {"path": HOME / "problem.contract.json", "wrong": "bytes"},
    "decimal_mark": {"a": "1,5", "comma": "delay", "b": "2.5", "point": "distance"},
    "digest_mismatch": {"changed": ["model.skops"]},
    "empty_batch": {"name": "scheduled", "until": datetime(2013, 11, 11, tzinfo=UTC)},
    "encoding": {"file": Path("data/2013.csv")},
    "environment": {"lines": ["AUTOML_WORKERS: found 'many'; wanted a whole number"]},
    "family_fails": {"failed": ["save and load: predictions differ"]},
    "family_raises": {"path": HOME / "families" / "mine.py"},
    "family_wrong": {"path": HOME / "families" / "mine.py"},
    "feature_empty": {"newest": range(6301)},
    "fenced": {"problem": NAME},
    "file_unread": {"names": "2013.dat", "pattern": "data/*"},
    "files_differ": {"differing": ["carrier"]},
    "folder_taken": {"path": HOME},
    "guards": {"lines": "predictions differ after loading"},
    "refused": {"lines": "it predicts other values after it was loaded"},
    "kind_changed": {"found": "text", "kind": "number"},
    "late_rows": {"text": "found 12 rows that came later than history.overlap; wanted none"},
    "library_missing": {"missing": ["xgboost"], "name": "xgboost", "fitted_with": "3.0.2"},
    "missing_column": {"lines": "history.time: 'sheduled' is not a column", "names": ["scheduled", "late"]},
    "names_collide": {"other": "Carrier"},
    "new_class": {"unknown": ["diverted"]},
    "no_columns": {"path": HOME / "columns.py"},
    "no_family": {"path": HOME / "families" / "mine.py"},
    "no_policy": {"path": HOME / "policy.py"},
    "no_snapshot": {"path": HOME / ".automl/history/flight-delays/42880b2e"},
    "not_waiting": {"version": 3},
    "parquet": {"root": HOME / "predictions", "error": "Permission denied"},
    "parquet_owner": {"where": "publish.parquet 'predictions'", "file": "_owner.json"},
    "parquet_place": {"where": "publish.parquet 'data'"},
    "policies_failed": {"text": "policy mine raised KeyError"},
    "policy": {"where": "policy.py: decide()", "what": "returned 'maybe'; wanted skip, refit, warm or full"},
    "policy_raises": {"path": HOME / "policy.py"},
    "predict_not_finite": {"wanted": "(240, 2)"},
    "python": {"text": "No module named 'rows'"},
    "rows_deleted": {"text": "found 12 rows less than at the last pull; wanted none to be deleted"},
    "share_alone": {"path": HOME / "families" / "mine.py"},
    "source_denied": {"shown": ["password authentication failed"]},
    "source_raises": {"entry": "rows:fetch"},
    "source_unreachable": {"entry": "rows:fetch", "shown": ["connection refused"], "path": HOME / "warehouse.db",
                           "text": "connection refused"},
    "store_url": {"found": "mysql://host/automl", "wanted": "wanted sqlite:///file.db or postgresql://host/database"},
    "table_columns": {"found": ["flight_id", "score"], "wanted": {"flight_id": 1, "probability": 1}},
    "table_format": {"path": HOME / "data", "kind": "Delta Lake"},
    "table_owner": {"name": "flight_delays", "owner": "parcels"},
    "untrusted_type": {"foreign": ["mine.Model"]},
    "usage": {"chosen": ["--check", "--install"]},
    "version_gone": {"error": "RESOURCE_DOES_NOT_EXIST"},
}  # fmt: skip


def entries() -> list[Entry]:
    """Every place in the code that raises an error of its own, by code."""
    EXAMPLES.update(_examples())
    found = [*_usage()]
    for file in sorted((ROOT / "automl").rglob("*.py")):
        if "migrations" in file.parts or file.name == "usage.py":  # usage errors are made above
            continue
        tree = ast.parse(file.read_text(encoding="utf-8"))
        calls = [n for n in ast.walk(tree) if isinstance(n, ast.Call) and _kind(n) is not None]
        if not any(_code(call) for call in calls):
            continue
        name = ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        module = importlib.import_module(name)
        for call in calls:
            found += _entries_of(call, module)
    return sorted(set(found), key=lambda e: (e.code, e.exit_code, e.module, e.message))


def _usage() -> Iterator[Entry]:
    for typed in USAGE:
        try:
            app.parse_args(typed, exit_on_error=False, print_error=False)
        except CycloptsError as error:
            shown = usage_error(error)
            yield Entry(
                code="usage",
                exit_code=shown.exit_code,
                message=str(shown),
                next_step=shown.next_step,
                module="automl.cli.usage",
            )


def _kind(call: ast.Call) -> type[AutomlError] | None:
    name = ast.unparse(call.func).rpartition(".")[2]
    kind = getattr(errors, name, None)
    return kind if isinstance(kind, type) and issubclass(kind, AutomlError) else None


def _code(call: ast.Call) -> ast.expr | None:
    return next((k.value for k in call.keywords if k.arg == "code"), None)


def _entries_of(call: ast.Call, module: ModuleType) -> Iterator[Entry]:
    kind, code = _kind(call), _code(call)
    step = next((k.value for k in call.keywords if k.arg == "next_step"), None)
    if kind is None or code is None or not call.args or ast.unparse(code) in PASSED_ON:
        return
    for given in _values_of(code, module):
        values = {**BY_CODE.get(given["code"], {}), **given}
        yield Entry(
            code=values["code"],
            exit_code=kind.exit_code,
            message=_text(call.args[0], module, values),
            next_step="" if step is None else _text(step, module, values),
            module=module.__name__,
        )


def _values_of(code: ast.expr, module: ModuleType) -> Iterator[dict[str, Any]]:
    """What the code of an error can be, with the value that it is made from."""
    if isinstance(code, ast.IfExp):
        yield from _values_of(code.body, module)
        yield from _values_of(code.orelse, module)
    elif isinstance(code, ast.JoinedStr):
        name = next(n.id for n in ast.walk(code) if isinstance(n, ast.Name))
        for value in NAMED[name]:
            yield {"code": _text(code, module, {name: value}), name: value}
    elif isinstance(code, ast.Name) and not hasattr(module, code.id):
        table = getattr(module, FROM_TABLES.get(module.__name__, ""), {})
        reason = ("scheduled", "12 cells cannot be read")
        yield from ({"code": value, "reason": Reason(value, *reason)} for value in table)
    else:
        yield {"code": _text(code, module, {})}


def _text(node: ast.expr, module: ModuleType, values: dict[str, Any]) -> str:
    """A text of the code, with examples for its values."""
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(part, module, values) for part in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return _text(node.left, module, values) + _text(node.right, module, values)
    if isinstance(node, ast.IfExp):
        return _text(node.body, module, values)
    if isinstance(node, ast.FormattedValue):
        inner = ast.JoinedStr([node])
        return _evaluated(ast.fix_missing_locations(inner), node.value, module, values)
    return _evaluated(node, node, module, values)


def _evaluated(node: ast.expr, named: ast.expr, module: ModuleType, values: dict[str, Any]) -> str:
    scope: dict[str, Any] = {**vars(builtins), **vars(module)}
    used = [n.id for n in ast.walk(node) if isinstance(n, ast.Name)]
    bound = {
        n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)
    }
    for name in used:
        if name in values or name in EXAMPLES:
            scope[name] = values.get(name, EXAMPLES.get(name))
        elif name not in scope and name not in bound:
            scope[name] = Stand(name)
    expression = ast.Expression(ast.parse(ast.unparse(node), mode="eval").body)
    try:
        return str(eval(compile(ast.fix_missing_locations(expression), "error", "eval"), scope))  # noqa: S307  our own code
    except Exception:  # noqa: BLE001  the value needs a running command
        words = [
            n.id for n in ast.walk(named) if isinstance(n, ast.Name) and n.id not in vars(builtins)
        ]
        return str(Stand(words[0] if words else "value"))


def page(found: list[Entry]) -> str:
    """The catalogue."""
    parts = [HEAD, "| exit code | means |\n| --- | --- |"]
    parts[1] += "".join(f"\n| {code} | {text} |" for code, text in MEANS.items())
    for code in dict.fromkeys(e.code for e in found):
        own = [e for e in found if e.code == code]
        exits = sorted({e.exit_code for e in own})
        parts.append(f"## {code}\n\nExit code {' or '.join(map(str, exits))}.")
        texts = dict.fromkeys(e.text for e in own)
        parts.append("```text\n" + "\n\n".join(texts) + "\n```")
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(entries()), encoding="utf-8")
