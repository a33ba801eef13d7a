"""A scratch problem from a DataFrame: guess, write the files, run one cycle, show what came out."""

from __future__ import annotations

import re
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from automl.api.arguments import Moment, duration, moment_of
from automl.api.guess_values import Guesses
from automl.api.problem_text import ROW, Search, problem_text
from automl.api.project import Project, open_project
from automl.api.settings import apply_settings
from automl.cycles.result import CycleResult
from automl.errors import ProblemError
from automl.modeling.families import Family, load_family
from automl.problem import did_you_mean, load_problem

if TYPE_CHECKING:
    import pandas as pd

    from automl.api.frames import Table

__all__ = ["Tryout", "try_table"]

FAMILIES = ("baseline", "linear", "lightgbm", "hist_gradient_boosting", "extra_trees")
DATA, FILE = "data.parquet", "problem.toml"


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Tryout:
    """A scratch problem after its first cycle: guesses, leaderboard, predictions, and the project to go on with."""

    project: Project
    guesses: Guesses
    result: CycleResult

    @property
    def problem_toml(self) -> str:
        """The problem file that was written: each guess as a comment after its value."""
        return self.project.problem.file.read_text(encoding="utf-8")

    @property
    def folder(self) -> Path:
        """Where problem file, data and workspace are."""
        return self.project.problem.file.parent

    def leaderboard(self) -> pd.DataFrame:
        """Trials, best first."""
        return self.project.leaderboard()

    def predictions(self) -> pd.DataFrame:
        """Predictions of the newest rows; `row` is a row's position in the table, if no column is a key."""
        return self.project.predictions()

    def _repr_html_(self) -> str:
        trials = self.leaderboard().drop(columns=["params", "reason", "recipe"]).head(12)
        return (
            f"<p><b>{escape(str(self.result))}</b><br>{escape(str(self.project.problem.file))}</p>"
            f"{self.guesses._repr_html_()}{trials.to_html()}"
        )

    def __repr__(self) -> str:
        return f"{self.result}\n{self.project.problem.file}\n\n{self.guesses.explain()}"


def try_table(
    frame: pd.DataFrame,
    target: str,
    time: str = "",
    *,
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
    origins: int | None = None,
    as_of: Moment = None,
    families: Sequence[str | Path | Family] | None = None,
    budget: str | None = "40s",
    trials: int | None = None,
    seed: int = 0,
    folder: str | Path | None = None,
) -> Tryout:
    """Try a table: guess a problem file, run one cycle, predict the newest rows.

    Models are validated on rows later than those they learn from, so a column of times is needed. The
    newest rows are predicted as if their target were not known; rows without a target at the end of
    the table are predicted instead, if there are any.

    Parameters
    ----------
    frame
        Rows with their target.
    target
        Column to predict.
    time
        Column (or the index) that says when each row became true. Default: the only column of dates.
    key, task, positive, metric, block, horizon, label_delay, ignore, personal, timezone, origins, as_of
        Instead of a guess; see `Tryout.guesses` and docs/problem-file.md. `as_of` is where the rows to
        predict begin.
    families
        Names, paths of family files, or `Family` values defined in a file. Default: five that ship.
    budget, trials
        Wall clock of search and refit, and number of trials; whichever ends first. Two runs with `trials`
        and `budget=None` agree to the last bit.
    folder
        Where problem file, data and workspace go. Default: a temporary folder, which is not removed.

    Raises
    ------
    ProblemError
        A column is missing, times cannot be read, the target is constant, or there are too few rows.
    AutomlError
        The cycle was refused or failed.
    """
    apply_settings(Path(folder or ".").resolve())
    from automl.api.frames import as_table
    from automl.api.guesses import guess

    table = as_table(frame, time)
    given = {
        "history.time": table.time if time else None,
        "history.timezone": timezone,
        "task": task,
        "history.positive": positive,
        "metric.name": metric,
        "history.key": _names(key, table, "key"),
        "history.personal": _names(personal, table, "personal"),
        "history.ignore": _names(ignore, table, "ignore"),
        "history.label_delay": _span(label_delay, "label_delay"),
        "validation.block": _span(block, "block"),
        "batch.horizon": _span(horizon, "horizon"),
        "validation.origins": origins,
        "as_of": moment_of(as_of),
    }
    guesses = guess(table, str(target), given)
    entries = [_family_entry(f) for f in families or FAMILIES]
    search = Search(families=entries, budget=budget, trials=trials, seed=seed)
    file = _write(table, guesses, str(target), search, folder)
    project = open_project(file)
    result = project.cycle(as_of=guesses["as_of"])
    return Tryout(project=project, guesses=guesses, result=result)


def _names(value: str | Sequence[str] | None, table: Table, argument: str) -> list[str] | None:
    """Column names as a list; refuses one that is not there."""
    if value is None:
        return None
    names = [value] if isinstance(value, str) else [str(n) for n in value]
    columns = list(table.frame.columns)
    for name in names:
        if name not in columns:
            raise ProblemError(
                f"{argument}: {name!r} is not a column; found {', '.join(columns)}"
                f"{did_you_mean(name, columns)}",
                code="missing_column",
            )
    return names


def _span(value: str | None, argument: str) -> str | None:
    span = duration(value, argument)
    return str(span) if span else None


def _family_entry(family: str | Path | Family) -> str:
    """A family as the problem file names it: a shipped name, or the absolute path of a file."""
    if isinstance(family, Family):
        return str(_file_of(family))
    if isinstance(family, str) and not ("/" in family or family.endswith(".py")):
        return family
    return str(Path(family).resolve())


def _file_of(family: Family) -> Path:
    """The file in which a family is defined; models are fitted in processes that load it from there."""
    module = sys.modules.get(family.build.__module__)
    path = family.path if family.path.suffix else Path(getattr(module, "__file__", None) or "")
    if path.suffix == ".py" and family.build.__module__ != "__main__":
        found = load_family(str(path), Path())
        if found.name == family.name:
            return path.resolve()
    raise ProblemError(
        f"families: {family.name!r} is not defined in a file of its own; wanted a .py file with "
        "`family = Family(...)`, because models are fitted in other processes",
        code="family_not_in_file",
        next_step='Write it to a file (in a notebook: %%writefile my_family.py) and pass families=["my_family.py"].',
    )


def _write(
    table: Table, guesses: Guesses, target: str, search: Search, folder: str | Path | None
) -> Path:
    """Problem file and data in a folder; returns the problem file."""
    place = Path(folder).resolve() if folder else Path(tempfile.mkdtemp(prefix="automl-"))
    file = place / FILE
    if file.exists():
        raise ProblemError(
            f"folder: {file} exists already; wanted a new or empty folder",
            code="folder_taken",
            next_step=f"Go on with it: automl.open_project({str(file)!r}). Or give another folder.",
        )
    rows = table.frame.drop(columns=guesses["history.personal"])
    if not guesses["history.key"]:
        rows = rows.assign(**{ROW: range(len(rows))})
    name = _problem_name(target)
    text = problem_text(guesses, search, name=name, target=target, files=DATA)
    place.mkdir(parents=True, exist_ok=True)
    rows.to_parquet(place / DATA, index=False)
    file.write_text(text, encoding="utf-8")
    try:
        load_problem(file)
    except ProblemError:
        for written in (file, place / DATA):
            written.unlink()
        raise
    return file


def _problem_name(target: str) -> str:
    return f"try-{re.sub(r'[^A-Za-z0-9]+', '-', target).strip('-').lower()[:30] or 'table'}"
