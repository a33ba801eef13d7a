"""From a file, a folder or a database table to a problem file that works: look, guess, write, check.

`look` reads a sample; `begin` guesses what is not given, writes the file and opens everything that it names.
The command line asks its questions in between.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from automl.api.arguments import Moment, typed
from automl.api.given import given_values
from automl.api.new_problem import FILE, refuse_taken, write_problem
from automl.api.project import Project, open_project
from automl.api.settings import apply_settings, quiet_libraries
from automl.api.shown import Shown
from automl.api.templates import copy_template
from automl.errors import ProblemError

if TYPE_CHECKING:
    from datetime import datetime

    from automl.guessing import Guesses, Origin

__all__ = ["Look", "Started", "begin", "init", "look"]

FAMILIES = ("baseline", "linear", "lightgbm", "hist_gradient_boosting", "extra_trees", "mlp")
BUDGET = "60s"


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Look:
    """A source that was looked at, and the folder of the problem file to come."""

    source: str
    origin: Origin
    root: Path


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Started:
    """A new problem: its project, the guesses (none for a template), the as_of that works, what the check found."""

    project: Project
    as_of: datetime
    checked: Shown
    guesses: Guesses | None = None

    @property
    def problem_toml(self) -> str:
        """The problem file that was written: each guess as a comment."""
        return self.project.problem.file.read_text(encoding="utf-8")

    @property
    def passed(self) -> bool:
        """Whether source, store and MLflow opened."""
        return all(c["passed"] for c in self.checked["connections"])

    @property
    def document(self) -> dict[str, Any]:
        """What `--json` prints."""
        guessed = self.guesses.entries if self.guesses else ()
        return {
            "file": str(self.project.problem.file),
            "as_of": typed(self.as_of),
            "guesses": [
                {
                    "key": g.key,
                    "argument": g.argument,
                    "value": _plain(g.value),
                    "reason": g.reason,
                    "given": g.given,
                }
                for g in guessed
            ],
            "warnings": list(self.guesses.warnings) if self.guesses else [],
            "checked": dict(self.checked),
        }

    def __repr__(self) -> str:
        guessed = f"\n\n{self.guesses.explain()}" if self.guesses else ""
        return f"{self.project.problem.file}, as_of {typed(self.as_of)}{guessed}"


def init(
    source: str | Path = "",
    table: str = "",
    *,
    template: str = "",
    target: str = "",
    time: str = "",
    key: str | Sequence[str] | None = None,
    task: str | None = None,
    positive: object = None,
    metric: str | None = None,
    block: str | None = None,
    horizon: str | None = None,
    label_delay: str | None = None,
    ignore: str | Sequence[str] | None = None,
    personal: str | Sequence[str] | None = None,
    timezone: str | None = None,
    as_of: Moment = None,
    budget: str = BUDGET,
    name: str = "",
    folder: str | Path = "",
) -> Started:
    """Write the problem file of a table, with every guess explained, and check that a cycle could run.

    Parameters
    ----------
    source, table
        A file, a folder of files, or a database URL and the name of a table or a query.
    template
        Instead of a source: a worked example with its data: churn, forecast, lead-scoring or panel.
    target, time
        Column to predict; column that says when each row became true. Default: guessed.
    key, task, positive, metric, block, horizon, label_delay, ignore, personal, timezone, as_of
        Instead of a guess; see docs/problem-file.md. `as_of` is where the rows to predict begin.
    budget
        Wall clock of search and refit.
    name
        Of the problem. Default: from the target.
    folder
        Where the problem file goes. Default: the current folder; of a template, a folder of its name.

    Raises
    ------
    ProblemError
        There is no such file or table, a column is missing, nothing can be guessed, or a file would be replaced.
    UnreachableError, HistoryError
        The source does not respond, or cannot be read.

    Examples
    --------
    >>> import tempfile
    >>> started = init(template="lead-scoring", folder=tempfile.mkdtemp())
    >>> started.project.problem.task
    'binary'

    Then `started.project.cycle(as_of=started.as_of)` trains and publishes.
    """
    if template:
        return from_template(template, folder or template, source=str(source))
    given = {
        "time": time,
        "timezone": timezone,
        "task": task,
        "positive": positive,
        "metric": metric,
        "key": key,
        "personal": personal,
        "ignore": ignore,
        "label_delay": label_delay,
        "block": block,
        "horizon": horizon,
        "as_of": as_of,
    }
    found = look(str(source), table, folder or ".", time=time, target=target)
    return begin(found, target, given, budget=budget, name=name)


def look(source: str, table: str, folder: str | Path, *, time: str = "", target: str = "") -> Look:
    """Read a sample of the source.

    Raises
    ------
    ProblemError
        No source is named, a problem file is there already, or the source is not there.
    UnreachableError, HistoryError
        It does not respond, or cannot be read.
    """
    root = Path(folder).resolve()
    if not source:
        raise ProblemError(
            "SOURCE is missing; wanted a file, a folder, or a database URL and a table",
            code="usage",
            next_step="automl init trips.csv --target late, or automl init --template churn",
        )
    refuse_taken(root / FILE)
    apply_settings(root)
    from automl.guessing import open_origin

    origin = open_origin(source, table, root, time=time, target=target)
    return Look(source=f"{source} {table}".strip(), origin=origin, root=root)


def begin(
    found: Look, target: str, given: Mapping[str, Any], *, budget: str = BUDGET, name: str = ""
) -> Started:
    """Guess what is not given, write the problem file, and open everything that it names.

    Raises
    ------
    ProblemError
        A column is missing, or nothing can be guessed; no file was written.
    """
    from automl.guessing import Search, choose_target, choose_time, guess

    frame = found.origin.sampled.frame
    chosen, target_reason = (target, "given") if target else choose_target(frame)
    time, time_reason = choose_time(frame, str(given.get("time") or ""), target=chosen)
    origin, table = found.origin.with_time(time, found.root)
    guesses = guess(
        table,
        chosen,
        given_values(table, chosen, given),
        time_reason=time_reason,
        every=origin.sampled.every,
    )
    if origin.url and not guesses["history.key"]:
        raise ProblemError(
            f"key: {guesses.entry('history.key').reason.partition(';')[0]}; wanted the columns that identify a row of "
            "a database",
            code="no_key",
            next_step="Name them: --key COLUMN --key COLUMN. Or select a row number in a query.",
        )
    search = Search(families=FAMILIES, budget=budget, trials=None, seed=0)
    file = write_problem(
        found.root,
        origin,
        guesses,
        search,
        source=found.source,
        target=(chosen, target_reason),
        name=name,
    )
    return _started(file, guesses["as_of"], guesses)


def from_template(template: str, folder: str | Path, *, source: str = "") -> Started:
    """Copy a template's problem file, data and code, and open everything that the file names.

    Raises
    ------
    ProblemError
        There is no such template, a source is named too, or a file would be replaced.
    """
    if source:
        raise ProblemError(
            f"found the source {source!r} and --template {template}; wanted one of them",
            code="usage",
            next_step=f"automl init --template {template}",
        )
    file, as_of = copy_template(template, Path(folder).resolve())
    return _started(file, as_of, None)


def _started(file: Path, as_of: datetime, guesses: Guesses | None) -> Started:
    project = open_project(file)
    with quiet_libraries():
        checked = project.check(data=True)
    return Started(project=project, as_of=as_of, checked=checked, guesses=guesses)


def _plain(value: Any) -> Any:
    return typed(value) if hasattr(value, "tzinfo") else value
