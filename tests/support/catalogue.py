"""The catalogue of bad inputs: one numbered row per way in which data go wrong, and the required outcome.

A case builds the bad input on a small real source and runs what a cycle runs. Each case names its outcome:
refused, set aside, left out, warned of, or simply used.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from automl.cli.error_text import error_text
from automl.errors import AutomlError
from automl.history import Snapshot, pull, pull_batch, read
from automl.history.contract import check, check_batch, infer, load_contract, save_contract
from automl.problem import Problem, load_problem
from automl.workspace import open_workspace
from tests.support.errors_shown import fits
from tests.support.parcels import AS_OF
from tests.support.table_sources import DAY, Rows, Source, parcel

WEEK = 7 * DAY
CATALOGUE = Path(__file__).parents[2] / "docs" / "errors.md"
EXITS = {2: "ProblemError", 3: "HistoryError", 5: "UnreachableError", 6: "PredictError"}


@dataclass(frozen=True)
class Seen:
    """What a cycle sees of a source before it touches a model."""

    snapshot: Snapshot
    frame: pd.DataFrame
    warnings: list[str]


class Place:
    """A folder with one source, a problem file and a contract, and the fixtures that a case may use."""

    def __init__(self, folder: Path, request: pytest.FixtureRequest) -> None:
        self.folder = folder
        self.request = request

    def source(self, kind: str = "sqlite") -> Source:
        """The place's source of this kind."""
        return Source(self.folder, kind)

    def problem(
        self, kind: str = "sqlite", history: str = "", task: str = "binary", **roles: str
    ) -> Problem:
        """The problem on the source of this kind; `roles` replace lines of its history."""
        problem = self.source(kind).problem(history, **roles)
        metric = {"binary": "roc_auc", "multiclass": "log_loss", "regression": "rmse"}[task]
        return self.edited(problem, {'"binary"': f'"{task}"', '"roc_auc"': f'"{metric}"'})

    def edited(self, problem: Problem, replace: dict[str, str]) -> Problem:
        """The problem, its file's text replaced."""
        text = problem.file.read_text(encoding="utf-8")
        for old, new in replace.items():
            assert old in text
            text = text.replace(old, new)
        problem.file.write_text(text, encoding="utf-8")
        return load_problem(problem.file)

    def agree(self, problem: Problem, rows: Rows | None = None, kind: str = "sqlite") -> Seen:
        """A first cycle on good rows, which writes the contract."""
        if rows is not None:
            self.source(kind).holds(rows)
        return self.cycle(problem)

    def cycle(self, problem: Problem, as_of: datetime = AS_OF, **options: Any) -> Seen:
        """Pull and check as a cycle does; the first one writes the contract."""
        contract = load_contract(problem)
        snapshot = pull(
            problem,
            open_workspace(problem.file),
            as_of,
            kinds=contract.kinds(problem) if contract else None,
            nulls=contract.nulls if contract else (),
            gaps=contract.gaps if contract else {},
            **options,
        )
        frame = read(snapshot)
        if contract is None:
            contract = infer(frame, problem, snapshot.unused, snapshot.gaps)
            save_contract(problem, contract)
        findings = check(frame, contract, problem, snapshot.offered, as_of=as_of)
        return Seen(snapshot, frame, [*map(str, findings), *snapshot.warnings])

    def batch(self, problem: Problem, as_of: datetime = AS_OF) -> Seen:
        """Pull and check the rows to predict as a cycle does."""
        contract = load_contract(problem)
        assert contract is not None
        snapshot = pull_batch(
            problem,
            open_workspace(problem.file),
            as_of,
            kinds=contract.kinds(problem),
            nulls=contract.nulls,
            gaps=contract.gaps,
        )
        frame = read(snapshot)
        findings = check_batch(frame, contract, problem, snapshot.offered)
        return Seen(snapshot, frame, [*map(str, findings), *snapshot.warnings])

    def execute(self, *statements: str) -> None:
        """Change the SQLite source by hand."""
        with closing(sqlite3.connect(self.folder / "rows.db")) as connection, connection:
            for statement in statements:
                connection.execute(statement)


def good(count: int = 300, every: timedelta = DAY / 6, **other: Any) -> Rows:
    """Valid rows, known at AS_OF; `other` are further columns: values, or functions of the row number."""
    last = AS_OF - 2 * DAY
    rows = []
    for i in range(count):
        cells = {name: value(i) if callable(value) else value for name, value in other.items()}
        rows.append(parcel(i, last - (count - 1 - i) * every, **cells))
    return rows


def coming(count: int = 40, first: int = 1000, **other: Any) -> Rows:
    """Rows to predict at AS_OF."""
    return [{**parcel(first + i, AS_OF + i * DAY / 8, **other), "late": None} for i in range(count)]


def some(rows: Rows, count: int, **cells: Any) -> Rows:
    """The rows, the first `count` of them with other cells."""
    return [{**row, **cells} if i < count else row for i, row in enumerate(rows)]


# ---------------------------------------------------------------- outcomes


@dataclass(frozen=True)
class Refused:
    """The cycle is refused with this code; champion and predictions are not touched."""

    code: str
    match: str
    exit_code: int = 3

    def proves(self, run: Callable[[], Any]) -> None:
        """Run the case."""
        with pytest.raises(AutomlError, match=self.match) as caught:
            run()
        assert (caught.value.code, caught.value.exit_code) == (self.code, self.exit_code)
        assert EXITS[self.exit_code] in {base.__name__ for base in type(caught.value).__mro__}
        assert caught.value.next_step, "what to type"
        text = error_text(str(caught.value), next_step=caught.value.next_step, width=80)
        assert fits(text, 80), text
        assert f"\n## {self.code}\n" in CATALOGUE.read_text(encoding="utf-8")


@dataclass(frozen=True)
class SetAside:
    """`count` rows are quarantined for this reason; the others are used."""

    code: str
    count: int = 1

    def proves(self, run: Callable[[], Any]) -> None:
        """Run the case, which returns what the cycle has seen."""
        seen = run()
        assert seen.snapshot.quarantined == {self.code: self.count}
        assert seen.snapshot.rows == len(seen.frame) > 0


@dataclass(frozen=True)
class LeftOut:
    """`count` rows are left out without being read, and are counted."""

    why: str
    count: int

    def proves(self, run: Callable[[], Any]) -> None:
        """Run the case, which returns what the cycle has seen."""
        seen = run()
        assert seen.snapshot.dropped[self.why] == self.count
        assert seen.snapshot.quarantined == {}


@dataclass(frozen=True)
class Warned:
    """The cycle continues with this warning."""

    match: str

    def proves(self, run: Callable[[], Any]) -> None:
        """Run the case, which returns what the cycle has seen."""
        warnings = run().warnings
        assert [w for w in warnings if re.search(self.match, w)], warnings


@dataclass(frozen=True)
class Works:
    """The input is used as it is meant; the case itself asserts how."""

    def proves(self, run: Callable[[], Any]) -> None:
        """Run the case."""
        run()


Outcome = Refused | SetAside | LeftOut | Warned | Works


@dataclass(frozen=True)
class Case:
    """One example of a row of the catalogue."""

    row: int
    name: str
    outcome: Outcome
    run: Callable[[Any], Any]

    def __str__(self) -> str:
        return f"row{self.row}-{self.name}"


class Catalogue(list[Case]):
    """Cases in order; as a decorator it adds a case."""

    def __call__(self, row: int, name: str, outcome: Outcome) -> Callable[[Any], Any]:
        """Add the decorated function as a case of this row."""

        def add(run: Any) -> Any:
            self.append(Case(row, name, outcome, run))
            return run

        return add
