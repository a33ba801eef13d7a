"""A scratch problem from a DataFrame: guess, write the files, run one cycle, show what came out."""

from __future__ import annotations

import re
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from automl.api.arguments import Moment
from automl.api.given import given_values
from automl.api.project import Project, open_project
from automl.api.settings import apply_settings
from automl.cycles.result import CycleResult
from automl.errors import ProblemError
from automl.modeling.families import Family, load_family
from automl.problem import load_problem

if TYPE_CHECKING:
    import pandas as pd

    from automl.guessing import Guesses, Search, Table

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
    origins: int | Literal["auto"] | None = None,
    as_of: Moment = None,
    families: str | Path | Family | Sequence[str | Path | Family] | None = None,
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
        Column (or the index) that says when each row became true. Default: the column of dates for which most
        speaks.
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
    from automl.guessing import Search, guess

    table, reason = _as_table(frame, str(target), time)
    wanted = {
        "time": time,
        "timezone": timezone,
        "task": task,
        "positive": positive,
        "metric": metric,
    }
    wanted |= {"key": key, "personal": personal, "ignore": ignore, "label_delay": label_delay}
    wanted |= {"block": block, "horizon": horizon, "origins": origins, "as_of": as_of}
    given = given_values(table, str(target), wanted)
    guesses = guess(table, str(target), given, time_reason=reason)
    search = Search(families=_family_entries(families), budget=budget, trials=trials, seed=seed)
    file = _write(table, guesses, str(target), search, folder)
    project = open_project(file)
    result = project.cycle(as_of=guesses["as_of"])
    return Tryout(project=project, guesses=guesses, result=result)


def _as_table(frame: pd.DataFrame, target: str, time: str) -> tuple[Table, str]:
    """The frame as a table, and why its column of times was chosen."""
    from automl.guessing import as_table, choose_time

    try:
        return as_table(frame, time), "the only column of dates"
    except ProblemError as error:
        if time or error.code != "no_time":
            raise
        chosen, reason = choose_time(frame, target=target)
        return as_table(frame, chosen), reason


def _family_entries(
    families: str | Path | Family | Sequence[str | Path | Family] | None,
) -> list[str]:
    """Families as the problem file names them; one alone need not be in a list."""
    if isinstance(families, (str, Path, Family)):
        return [_family_entry(families)]
    return [_family_entry(family) for family in families or FAMILIES]


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
    from automl.guessing import ROW, problem_text

    place = Path(folder).resolve() if folder else Path(tempfile.mkdtemp(prefix="automl-"))
    file, data = place / FILE, place / DATA
    _refuse_taken(file, data)
    rows, row = table.frame.drop(columns=guesses["history.personal"]), ROW
    while row in table.frame.columns:
        row += "_"
    if not guesses["history.key"]:
        rows = rows.assign(**{row: range(len(rows))})
    text = problem_text(
        guesses, search, name=_problem_name(target), target=target, files=DATA, row=row
    )
    place.mkdir(parents=True, exist_ok=True)
    rows.to_parquet(data, index=False)
    file.write_text(text, encoding="utf-8")
    try:
        load_problem(file)
    except ProblemError as error:
        file.unlink()
        data.unlink()
        if not folder:
            place.rmdir()
        mistakes = str(error).removeprefix(f"{file}: ")
        raise ProblemError(
            f"arguments of try_table: {mistakes}",
            code=error.code,
            next_step="Change these arguments; nothing was run, and no file was left.",
        ) from None
    return file


def _refuse_taken(file: Path, data: Path) -> None:
    """Refuse a folder in which files would be replaced."""
    for path in (file, data):
        if path.exists():
            continued = (
                f"Go on with it: automl.open_project({str(file)!r}). Or give another folder."
            )
            raise ProblemError(
                f"folder: {path} exists already; wanted a new or empty folder",
                code="folder_taken",
                next_step=continued if file.exists() else "Give another folder.",
            )


def _problem_name(target: str) -> str:
    return f"try-{re.sub(r'[^A-Za-z0-9]+', '-', target).strip('-').lower()[:30] or 'table'}"
