"""Small real sources of rows: one folder, one problem file, and a table, file or callable."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from automl.history import ColumnKinds, Snapshot, pull, pull_batch
from automl.problem import Problem, load_problem
from automl.workspace import open_workspace
from tests.support.parcels import AS_OF

SOURCES = ("sqlite", "parquet", "csv", "python")
ORIGIN = {
    "sqlite": 'source = "sqlite:///rows.db"\nquery = "select * from rows"',
    "parquet": 'files = "rows.parquet"',
    "csv": 'files = "rows.csv"',
    "python": 'python = "{module}:rows"',
}
DAY = timedelta(days=1)
KINDS: ColumnKinds = {
    "parcel": "whole",
    "sent_at": "time",
    "weight": "number",
    "carrier": "text",
    "late": "whole",
}
Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Source:
    """A folder with a problem file and one source of rows."""

    folder: Path
    kind: str

    def holds(self, rows: Rows, columns: Mapping[str, str] | None = None) -> None:
        """Write the rows; `columns` are SQLite types, by default none."""
        names = list(dict.fromkeys(name for row in rows for name in row))
        getattr(self, f"_{self.kind}")(rows, names, columns or {})

    def problem(self, history: str = "", **roles: str) -> Problem:
        """The problem on these rows; `roles` replace lines of its history, `history` adds some."""
        lines = {
            "time": '"sent_at"',
            "target": '"late"',
            "key": '["parcel"]',
            "label_delay": '"1d"',
            "ignore": '["arrived_after"]',
            **roles,
        }
        settings = "\n".join(f"{name} = {value}" for name, value in lines.items() if value)
        (self.folder / "problem.toml").write_text(
            'name = "parcels"\ntask = "binary"\n[history]\n'
            f"{ORIGIN[self.kind].format(module=self._module)}\n{settings}\n{history}\n"
            '[metric]\nname = "roc_auc"\n[sweep]\ntrials = 1\n[validation]\nblock = "7d"\n',
            encoding="utf-8",
        )
        return load_problem(self.folder / "problem.toml")

    def pull(
        self,
        problem: Problem | None = None,
        as_of: datetime = AS_OF,
        kinds: ColumnKinds | None = None,
    ) -> Snapshot:
        """`pull` from this folder."""
        problem = problem or self.problem()
        return pull(problem, open_workspace(problem.file), as_of, kinds=kinds)

    def batch(
        self, problem: Problem | None = None, as_of: datetime = AS_OF, kinds: ColumnKinds = KINDS
    ) -> Snapshot:
        """`pull_batch` from this folder."""
        problem = problem or self.problem()
        return pull_batch(problem, open_workspace(problem.file), as_of, kinds=kinds)

    @property
    def _module(self) -> str:
        # Python keeps modules by name, so each folder needs a name of its own
        return "rows_" + "".join(c if c.isalnum() else "_" for c in str(self.folder))

    def _sqlite(self, rows: Rows, names: list[str], types: Mapping[str, str]) -> None:
        (self.folder / "rows.db").unlink(missing_ok=True)
        with sqlite3.connect(self.folder / "rows.db") as connection:
            quoted = {name: name.replace('"', '""') for name in names}
            columns = ", ".join(f'"{quoted[name]}" {types.get(name, "")}' for name in names)
            connection.execute(f"create table rows ({columns})")
            marks = ", ".join("?" * len(names))
            values = [[_sqlite_value(row.get(name)) for name in names] for row in rows]
            connection.executemany(f"insert into rows values ({marks})", values)
        connection.close()

    def _parquet(self, rows: Rows, names: list[str], types: Mapping[str, str]) -> None:
        del types
        table = {name: _arrow([row.get(name) for row in rows]) for name in names}
        pq.write_table(pa.table(table), self.folder / "rows.parquet")

    def _csv(self, rows: Rows, names: list[str], types: Mapping[str, str]) -> None:
        del types
        frame = pd.DataFrame(
            [[row.get(name) for name in names] for row in rows], columns=names, dtype="object"
        )
        frame.to_csv(self.folder / "rows.csv", index=False, lineterminator="\r\n")

    def _python(self, rows: Rows, names: list[str], types: Mapping[str, str]) -> None:
        del types
        pd.DataFrame([[row.get(name) for name in names] for row in rows], columns=names).to_pickle(
            self.folder / "rows.pkl"
        )
        (self.folder / f"{self._module}.py").write_text(
            "import pandas as pd\nfrom pathlib import Path\n"
            "def rows(as_of, until):\n    return pd.read_pickle(Path(__file__).with_name('rows.pkl'))\n",
            encoding="utf-8",
        )


def _sqlite_value(value: object) -> object:
    return str(value) if isinstance(value, (datetime, date, Decimal)) else value


def _arrow(values: list[Any]) -> pa.Array:
    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        # a column has one type in parquet: text
        return pa.array([None if v is None else str(v) for v in values])


def parcel(number: int, sent_at: datetime, **other: Any) -> dict[str, Any]:
    """One row whose content follows from its number."""
    return {
        "parcel": number,
        "sent_at": f"{sent_at:%Y-%m-%d %H:%M:%S}",
        "weight": None if number % 7 == 3 else number / 8,
        "carrier": None if number % 11 == 5 else ("ant", "bee")[number % 2],
        "arrived_after": float(number),
        "late": number % 3 % 2,
        **other,
    }


def parcels(count: int = 40, every: timedelta = DAY / 2, last: datetime = AS_OF - 3 * DAY) -> Rows:
    """Rows whose labels are known at AS_OF, oldest first."""
    return [parcel(i, last - (count - 1 - i) * every) for i in range(count)]


@pytest.fixture(params=SOURCES)
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Source:
    """One source of each kind."""
    return Source(tmp_path, request.param)


@pytest.fixture
def table(tmp_path: Path) -> Source:
    """A SQLite source, where one kind is enough."""
    return Source(tmp_path, "sqlite")
