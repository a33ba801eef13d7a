"""The reference pages of the site, made from the code at every build: `python docs/reference.py` prints them.

What a page says of a command, key, table, code or function is what the code says; sentences of the hand-written pages
that explain it are quoted or linked, never written a second time.
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args, get_origin

from cyclopts import App
from docstrings import as_markdown, summary
from sqlalchemy.dialects import postgresql

import automl
from automl import errors
from automl.api import Project, Tryout
from automl.cli.app import app
from automl.cli.entry import main  # noqa: F401  importing it registers the commands
from automl.predictions import tables as published
from automl.problem import Problem
from automl.store import WATCHED_TABLES
from automl.store import tables as stored

ROOT = Path(__file__).parents[1]
SHARED = ("--json", "--debug", "--quiet")  # options of every command
WRITTEN = "Made from the code of this version.\n"


def pages() -> dict[str, str]:
    """Path below docs/ -> Markdown of the page."""
    made: dict[str, Callable[[], str]] = {
        "reference/commands.md": commands,
        "reference/keys.md": keys,
        "reference/tables.md": tables,
        "reference/exit-codes.md": exit_codes,
        "reference/codes.md": codes,
        "reference/python-api.md": python_api,
    }
    return {path: make() for path, make in made.items()}


# ---------------------------------------------------------------- commands


def commands() -> str:
    """Every command with its arguments and options, as `--help` groups them."""
    named = {name: app[name] for name in app if not name.startswith("-")}
    order = sorted(named, key=lambda n: (named[n].group[0].sort_key, list(named).index(n)))
    shared = "".join(_option_row(a) for a in _arguments(named["status"]) if a.name in SHARED)
    body, group = [], ""
    for name in order:
        if named[name].group[0].name != group:
            group = named[name].group[0].name
            body.append(f"## {group}\n")
        body.append(_command(name, named[name]))
    return (
        f"# Commands\n\n{WRITTEN}\nOptions of every command:\n\n{_OPTIONS}{shared}\n"
        + "\n".join(body)
    )


_OPTIONS = "| argument | values | default | meaning |\n| --- | --- | --- | --- |\n"


def _command(name: str, command: App) -> str:
    arguments = [a for a in _arguments(command) if a.name not in SHARED]
    usage = command.usage or " ".join(
        [f"automl {name}", *(a.name for a in arguments if not a.name.startswith("-")), "[OPTIONS]"]
    )
    text = inspect.getdoc(command.default_command) or ""
    said = text.split("\nParameters\n")[0].strip()
    rows = "".join(_option_row(a) for a in arguments)
    return f"### {name}\n\n{said}\n\n```\n{usage}\n```\n\n{_OPTIONS}{rows}"


def _arguments(command: App) -> list[Any]:
    """What can be typed; options that stand in a dataclass one by one."""
    found = command.assemble_argument_collection(parse_docstring=True)
    return [a for a in found if a.parse and not a.children]


def _option_row(argument: Any) -> str:
    names = [n for n in argument.names if not n.startswith("--no-")]
    default = argument.field_info.default
    shown = "required" if argument.required else ""
    if default not in (None, "", False, inspect.Parameter.empty, ()) and not argument.required:
        shown = f"`{default}`"
    return _row(", ".join(f"`{n}`" for n in names), _values(argument.hint), shown, argument.parameter.help or "")  # fmt: skip


def _row(*cells: str) -> str:
    plain = (" ".join(c.split()).replace("|", "\\|") for c in cells)
    return f"| {' | '.join(plain)} |\n"


def _values(hint: Any) -> str:
    """A type as what one writes."""
    origin, inner = get_origin(hint), get_args(hint)
    if hint in (None, type(None)):
        return ""
    if origin is types.UnionType or str(origin) == "typing.Union":
        return ", ".join(filter(None, map(_values, inner)))
    if str(origin) == "typing.Literal":
        return ", ".join(f"`{v}`" if v != "" else "empty" for v in inner)
    if str(origin) == "typing.Annotated":
        return _values(inner[0])
    if origin in (list, tuple):
        return f"list of {_values(inner[0])}"
    known = {str: "text", int: "whole number", float: "number", bool: "true or false", Path: "path"}
    return known.get(hint, {"Span": "duration"}.get(getattr(hint, "__name__", ""), str(hint)))


# ---------------------------------------------------------------- the problem file


def keys() -> str:
    """Every key with its values and default; the meaning is that of docs/problem-file.md."""
    meanings = _meanings()
    body = []
    for name, field in Problem.model_fields.items():
        section = field.annotation
        if isinstance(section, type) and hasattr(section, "model_fields"):
            doc = summary(section)
            fields = section.model_fields.items()
            rows = "".join(_key_row(k, f, meanings.get((name, k))) for k, f in fields)
            body.append(f"## [{name}]\n\n{doc}\n\n{_KEYS}{rows}")
        elif name != "file":
            body.insert(0, _key_row(name, field, meanings.get(("", name))))
    top = [row for row in body if row.startswith("| ")]
    sections = [row for row in body if not row.startswith("| ")]
    return (
        f"# Keys of the problem file\n\n{WRITTEN}\n[The problem file](../problem-file.md) explains them at length.\n\n"
        f"{_KEYS}{''.join(reversed(top))}\n" + "\n".join(sections)
    )


_KEYS = "| key | values | default | meaning |\n| --- | --- | --- | --- |\n"


def _key_row(name: str, field: Any, described: tuple[str, str] | None) -> str:
    default = "required" if field.is_required() else _default(field.default)
    usual, meaning = described or ("", "")
    limits = ", ".join(
        f"{word} {getattr(m, attribute)}"
        for m in field.metadata
        for attribute, word in (("ge", "at least"), ("gt", "above"), ("le", "at most"), ("lt", "below"))
        if hasattr(m, attribute)
    )  # fmt: skip
    values = " ".join(filter(None, [_values(field.annotation), limits]))
    return _row(f"`{name}`", values, default if default != "none" else usual or "none", meaning)  # fmt: skip


def _default(value: Any) -> str:
    if value in (None, "", ()):
        return "none"
    shown = ", ".join(value) if isinstance(value, tuple) else str(value)
    return f"`{shown}`"


def _meanings() -> dict[tuple[str, str], tuple[str, str]]:
    """Section and key -> default and meaning, as the table of docs/problem-file.md has them; links made from here."""
    text = (ROOT / "docs" / "problem-file.md").read_text(encoding="utf-8")
    found: dict[tuple[str, str], tuple[str, str]] = {}
    section = ""
    for line in text[: text.index("\n## ")].splitlines():
        if begins := re.match(r"\| \*\*\[(\w+)\]", line):
            section = begins[1]
        elif line.startswith("| `"):
            names, default, meaning = re.split(r"(?<!\\)\|", line)[1:-1]
            linked = re.sub(r"\]\(#", "](problem-file.md#", meaning)
            linked = re.sub(r"\]\((?!http)", "](../", linked).replace("\\|", "|")
            for name in re.findall(r"`(\w+)`", names):
                found[section, name] = (default.strip(), linked.strip())
    return found


# ---------------------------------------------------------------- tables


_TABLES = """# Tables

{made}
`<table>` is `publish.table`, by default the problem's name.
[What the table holds](../problem-file.md#what-the-table-holds),
[what monitoring writes](../monitoring.md#two-tables-for-analysts).

## Predictions

`<table>` and `<table>_history`: the key (or `row_id`) and the time column, `prediction`, `probability`, `low`, `high`, and in
every row: {stamps}.
"""


def tables() -> str:
    """Columns of what analysts read, and of the store."""
    stamps = ", ".join(f"`{n}`" for n in published.STAMPS)
    parts = [_TABLES.format(made=WRITTEN, stamps=stamps)]
    for kind, columns in WATCHED_TABLES.items():
        rows = "".join(_row(f"`{n}`", _sql(t), "key" if key else "") for n, t, key in columns)
        parts.append(f"### &lt;table&gt;_{kind}\n\n{_COLUMNS}{rows}")
    parts.append("## The store\n\nFor a look; they change with [migrations](../upgrading.md#what-a-release-may-change).\n")  # fmt: skip
    for table in [*stored.metadata.tables.values(), *published.metadata.tables.values()]:
        rows = "".join(
            _row(f"`{c.name}`", _sql(c.type), "key" if c.primary_key else "" if not c.nullable else "may be null")
            for c in table.columns
        )  # fmt: skip
        parts.append(f"### {table.name}\n\n{_COLUMNS}{rows}")
    return "\n".join(parts)


_COLUMNS = "| column | type | |\n| --- | --- | --- |\n"


def _sql(kind: Any) -> str:
    return str(kind.compile(dialect=postgresql.dialect())).lower()


# ---------------------------------------------------------------- exit codes and codes of errors


def exit_codes() -> str:
    """Exit codes as `automl --help` says them, with the errors that end in them."""
    said = app.help.split("Exit codes: ")[1].rstrip(".")
    raised: dict[str, list[str]] = {}
    for kind in _tree(errors.AutomlError):
        raised.setdefault(str(kind.exit_code), []).append(f"[`{kind.__name__}`](python-api.md)")
    table = "".join(
        _row(f"`{code}`", means, ", ".join(raised.get(code, ())))
        for code, means in re.findall(r"(\d+) (.*?)(?:, (?=\d)|$)", said)
    )
    return f"# Exit codes\n\n{WRITTEN}\n| code | means | in Python |\n| --- | --- | --- |\n{table}"


def _tree(kind: type[errors.AutomlError]) -> Iterator[type[errors.AutomlError]]:
    yield kind
    for below in kind.__subclasses__():
        if below.__module__ == errors.__name__:
            yield from _tree(below)


def codes() -> str:
    """Every code of an error or finding that the package names, and where it comes from."""
    found: dict[str, tuple[set[str], set[str]]] = {}
    kinds = {k.__name__: str(k.exit_code) for k in _tree(errors.AutomlError)}
    for file in sorted((ROOT / "automl").rglob("*.py")):
        place = file.parent.relative_to(ROOT).as_posix()
        for code, kind in _raised(ast.parse(file.read_text(encoding="utf-8"))):
            exits, places = found.setdefault(code, (set(), set()))
            exits.add(kinds.get(kind, ""))
            places.add(f"`{place}/`" if place != "automl" else f"`{place}/{file.name}`")
    explained = _explained()
    rows = "".join(
        _row(f"`{code}`", ", ".join(sorted(filter(None, exits))), *explained.get(code, ("", "")), ", ".join(sorted(places)))
        for code, (exits, places) in sorted(found.items())
    )  # fmt: skip
    return (
        f"# Codes of errors and findings\n\n{WRITTEN}\n`--json` has them as `code`. Without an exit code: a warning, or a finding whose "
        f"error depends on where it is found. [What to do](../operations.md#findings).\n\n"
        f"| code | exit | means | do | from |\n| --- | --- | --- | --- | --- |\n{rows}"
    )


def _raised(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """Codes given to calls, with the name of what is called."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func).rpartition(".")[2]
        given = [k.value for k in node.keywords if k.arg == "code"]
        if name in ("Finding", "Reason") and node.args:
            given.append(node.args[0])
        for value in given:
            if isinstance(value, ast.Constant) and isinstance(value.value, str) and value.value:
                yield value.value, name


def _explained() -> dict[str, tuple[str, str]]:
    """Code -> what it means and what to do, as docs/operations.md says."""
    text = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    rows = re.findall(r"(?m)^\| (`\w+`(?:, `\w+`)*) \| [^|]* \| (.*?) \| (.*?) \|$", text)
    found = {}
    for names, means, do in rows:
        cells = [re.sub(r"\]\(#", "](operations.md#", c) for c in (means, do)]
        cells = [re.sub(r"\]\((?!http)", "](../", c) for c in cells]
        found.update(dict.fromkeys(re.findall(r"`(\w+)`", names), (cells[0], cells[1])))
    return found


# ---------------------------------------------------------------- Python


def python_api() -> str:
    """What `automl` exports, and the verbs of a project."""
    parts = [
        f"# Python API\n\n{WRITTEN}\n[Python](../python.md) shows how it is used. Names that are not here may change.\n"
    ]
    for name in sorted(automl.__all__, key=str.lower):
        value = getattr(automl, name)
        if isinstance(value, type) and value is not Project:
            parts.append(f"## {name}\n\n{_documented(value)}")
        elif inspect.isfunction(value):
            parts.append(_function(f"automl.{name}", value, "##"))
    for owner in (Project, Tryout):
        parts.append(f"## {owner.__name__}\n\n{as_markdown(inspect.getdoc(owner) or '')}")
        verbs = [n for n in dir(owner) if not n.startswith("_")]
        for verb in verbs:
            value = inspect.getattr_static(owner, verb)
            if inspect.isfunction(value):
                parts.append(_function(f"{owner.__name__}.{verb}", value, "###"))
            elif isinstance(value, property):
                parts.append(f"### {owner.__name__}.{verb}\n\n{as_markdown(value.__doc__ or '')}")
    return "\n".join(parts)


def _documented(value: type) -> str:
    text = as_markdown(inspect.getdoc(value) or "")
    if issubclass(value, errors.AutomlError):
        return f"{text}\n\nExit code {value.exit_code}.\n"
    return text


def _function(name: str, value: Callable[..., Any], heading: str) -> str:
    signature = str(inspect.signature(value)).replace("'", "")
    signature = re.sub(r"\(self(, )?", "(", signature)
    text = as_markdown(inspect.getdoc(value) or "")
    if len(signature) > 90:
        signature = re.sub(r"(?<=[(,]) ?(?=[\w*])(?![^\[]*\])", "\n    ", signature)
        signature = signature.replace(") ->", ",\n) ->", 1)
    return f"{heading} {name.rpartition('.')[2] if heading == '##' else name}\n\n```python\n{name}{signature}\n```\n\n{text}"


if __name__ == "__main__":
    for page, content in pages().items():
        sys.stdout.write(f"<!-- {page} -->\n{content}\n")
