"""The rows to predict, and what a pull refuses."""

from __future__ import annotations

from datetime import UTC, timedelta
from pathlib import Path

import numpy as np
import pytest

from automl.errors import HistoryError, ProblemError, UnreachableError
from automl.history import ROW_ID, ColumnKinds, pull, read
from automl.problem import load_problem
from automl.workspace import open_workspace
from tests.support.parcels import AS_OF, make_world, write_problem
from tests.support.table_sources import DAY, KINDS, Source, parcel, parcels
from tests.support.table_sources import source as source
from tests.support.table_sources import table as table

# ---------------------------------------------------------------- the rows to predict


def test_a_batch_is_the_half_open_window_without_target_and_ignored_columns(source: Source) -> None:
    edge = [
        AS_OF - timedelta(seconds=1),
        AS_OF,
        AS_OF + 7 * DAY - timedelta(seconds=1),
        AS_OF + 7 * DAY,
    ]
    source.holds([*parcels(), *(parcel(100 + i, when) for i, when in enumerate(edge))])
    snapshot = source.batch()
    frame = read(snapshot)
    assert frame["parcel"].tolist() == [101, 102]
    assert list(frame.columns) == ["carrier", "parcel", "sent_at", "weight"]
    assert snapshot.path.parent.name == "batches"


def test_a_batch_needs_only_what_the_model_reads(table: Source) -> None:
    coming = [
        {
            n: v
            for n, v in parcel(i, AS_OF).items()
            if n in ("parcel", "sent_at", "weight", "carrier")
        }
        for i in (1, 2)
    ]
    table.holds(coming)
    problem = table.problem(
        history='weight = "worth"\ngroup = ["street"]', label_delay="", label_time='"known_at"'
    )
    kinds: ColumnKinds = {**KINDS, "worth": "number", "street": "text", "known_at": "time"}
    assert table.batch(problem, kinds=kinds).rows == 2


def test_an_empty_batch_is_refused(source: Source) -> None:
    source.holds(parcels())
    with pytest.raises(
        HistoryError, match="wanted rows with 2026-03-02 00:00 <= sent_at < 2026-03-09 00:00"
    ) as caught:
        source.batch()
    assert caught.value.code == "empty_batch"


def test_a_row_without_a_key_has_one_row_id_in_batch_and_history(tmp_path: Path) -> None:
    source = Source(tmp_path, "parquet")
    twins = [
        {**parcel(1, AS_OF + DAY), "late": late, "known_at": f"{AS_OF + 2 * DAY}"}
        for late in (1, 0, 1)
    ]
    others = [
        {**parcel(i, AS_OF + i * DAY / 10), "known_at": f"{AS_OF + 3 * DAY}"} for i in range(30)
    ]
    source.holds([*twins, *others])
    problem = source.problem(key="", label_delay="", label_time='"known_at"')
    kinds: ColumnKinds = {**KINDS, "known_at": "time"}
    before = read(source.batch(problem, kinds=kinds))
    after = read(source.pull(problem, AS_OF + 7 * DAY, kinds=kinds))
    assert len(before) == before[ROW_ID].nunique() == 33
    both = before.merge(after, on=ROW_ID)
    assert len(both) == 33
    assert (both["parcel_x"] == both["parcel_y"]).all()
    source.holds([*others, *twins[::-1]])
    assert source.pull(problem, AS_OF + 7 * DAY, kinds=kinds).path.exists()
    assert read(source.pull(problem, AS_OF + 7 * DAY, kinds=kinds)).equals(after)


def test_time_can_be_part_of_the_key(source: Source) -> None:
    source.holds([{**row, "parcel": i % 2} for i, row in enumerate(parcels())])
    snapshot = source.pull(source.problem(key='["parcel", "sent_at"]'))
    assert snapshot.rows == 40
    assert read(snapshot)["sent_at"].is_monotonic_increasing


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("roles", "message"),
    [
        ({"time": '"sent"'}, r"history\.time: column 'sent' is missing; found parcel, sent_at"),
        ({"target": '"lat"'}, r"history\.target: column 'lat' is missing"),
        ({"key": '["box"]'}, r"history\.key 'box': column 'box' is missing"),
        (
            {"group": '["street"]', "weight": '"w"'},
            r"group 'street': .*; history\.weight: column 'w' is missing",
        ),
        ({"updated_at": '"changed"'}, r"history\.updated_at: column 'changed' is missing"),
        (
            {"label_time": '"known"', "label_delay": ""},
            r"history\.label_time: column 'known' is missing",
        ),
    ],
)
def test_a_missing_column_is_named_with_its_role(
    source: Source, roles: dict[str, str], message: str
) -> None:
    source.holds(parcels())
    with pytest.raises(HistoryError, match=message) as caught:
        source.pull(source.problem(**roles))
    assert caught.value.code == "missing_column"


def test_a_missing_column_of_the_contract_is_refused_in_history_and_batch(source: Source) -> None:
    source.holds([*parcels(), parcel(99, AS_OF)])
    kinds: ColumnKinds = {**KINDS, "colour": "text"}
    with pytest.raises(HistoryError, match="column 'colour' is missing"):
        source.pull(kinds=kinds)
    with pytest.raises(HistoryError, match="column 'colour' is missing"):
        source.batch(kinds=kinds)


@pytest.mark.parametrize(
    "value", ["heavy", "2026-01-01", AS_OF.replace(tzinfo=None), AS_OF.date(), ""]
)
def test_a_number_that_became_something_else_is_refused(tmp_path: Path, value: object) -> None:
    source = Source(tmp_path, "parquet")
    source.holds([{**row, "weight": value} for row in parcels()])
    with pytest.raises(
        HistoryError, match="column 'weight': found 40 values that are not numbers"
    ) as caught:
        source.pull(kinds=KINDS)
    assert caught.value.code == "kind_changed"


@pytest.mark.parametrize("kind", ["sqlite", "parquet", "csv"])
def test_a_missing_source_is_unreachable(tmp_path: Path, kind: str) -> None:
    with pytest.raises(UnreachableError, match=r"no file at|no file matches") as caught:
        Source(tmp_path, kind).pull()
    assert (caught.value.exit_code, caught.value.code) == (5, "source_unreachable")
    assert not (tmp_path / "rows.db").exists()


def test_a_database_that_does_not_respond_is_unreachable(table: Source) -> None:
    problem = table.problem()
    url = "postgresql://me@127.0.0.1:1/db"  # nothing listens on port 1
    gone = problem.model_copy(
        update={"history": problem.history.model_copy(update={"source": url})}
    )
    with pytest.raises(UnreachableError, match=r"127\.0\.0\.1:1/db does not respond: .*refused"):
        table.pull(gone)


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("select * from boxes", "the query failed: no such table: boxes"),
        ("select", "the query failed: .*syntax error"),
        (
            "select * from rows where sent_at < :cutoff",
            "the query failed: .*bind parameter 'cutoff'",
        ),
        ("delete from rows", "the query failed: .*syntax error"),
        (
            "pragma user_version = 0",
            "the query failed: .*syntax error",
        ),
    ],
)
def test_a_bad_query_is_refused_in_the_databases_words(
    table: Source, query: str, message: str
) -> None:
    table.holds(parcels())
    problem = table.problem()
    bad = problem.model_copy(
        update={"history": problem.history.model_copy(update={"query": query})}
    )
    with pytest.raises(HistoryError, match=message) as caught:
        table.pull(bad)
    assert caught.value.code == "query_failed"
    assert table.pull().rows == 40


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("no url at all", "is not a database URL"),
        ("nosuch://host/db", "wanted a database whose driver is installed"),
        (
            "postgresql://me:${NOT_SET_ANYWHERE}@host/db",
            "environment variable NOT_SET_ANYWHERE is not set",
        ),
    ],
)
def test_a_wrong_url_is_a_mistake_of_the_problem_file(
    table: Source, url: str, message: str
) -> None:
    problem = table.problem()
    bad = problem.model_copy(update={"history": problem.history.model_copy(update={"source": url})})
    with pytest.raises(ProblemError, match=message):
        table.pull(bad)


def test_an_environment_reference_is_filled_in(
    table: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    table.holds(parcels())
    monkeypatch.setenv("ROWS_NAME", "rows")
    problem = table.problem()
    named = problem.history.model_copy(update={"source": "sqlite:///${ROWS_NAME}.db"})
    assert table.pull(problem.model_copy(update={"history": named})).rows == 40


def test_a_folder_may_have_any_name(tmp_path: Path) -> None:
    folder = tmp_path / "50% of #1? yes"
    folder.mkdir()
    table = Source(folder, "sqlite")
    table.holds(parcels())
    assert table.pull().rows == 40


def test_a_truncated_parquet_file_is_refused(tmp_path: Path) -> None:
    source = Source(tmp_path, "parquet")
    source.holds(parcels())
    file = tmp_path / "rows.parquet"
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(HistoryError, match=r"rows\.parquet: cannot be read") as caught:
        source.pull()
    assert caught.value.code == "bad_file"


@pytest.mark.parametrize(
    "content", ["", "parcel,sent_at,late\n1,2026-01-01,0\n2,2026-01-02,1,surplus\n"]
)
def test_a_broken_csv_file_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "rows.csv").write_text(content, encoding="utf-8")
    with pytest.raises(HistoryError, match=r"rows\.csv: cannot be read") as caught:
        Source(tmp_path, "csv").pull()
    assert caught.value.code == "bad_file"


@pytest.mark.parametrize("kind", ["sqlite", "csv"])
def test_a_column_name_that_comes_twice_is_refused(tmp_path: Path, kind: str) -> None:
    source = Source(tmp_path, kind)
    source.holds(parcels())
    if kind == "csv":
        text = (tmp_path / "rows.csv").read_text(encoding="utf-8")
        (tmp_path / "rows.csv").write_text(text.replace("carrier", "weight", 1), encoding="utf-8")
    problem = source.problem()
    query = "select *, 1 as weight from rows" if kind == "sqlite" else ""
    twice = problem.model_copy(
        update={"history": problem.history.model_copy(update={"query": query})}
    )
    with pytest.raises(HistoryError, match="found column 'weight' twice"):
        source.pull(twice)


@pytest.mark.parametrize(
    ("body", "error", "message"),
    [
        ("return [1, 2]", HistoryError, "returned list; wanted a DataFrame"),
        ("raise ValueError('no rows today')", HistoryError, "raised ValueError: no rows today"),
        ("raise ConnectionError('no response')", UnreachableError, "no response"),
        ("import nowhere_to_be_found", ProblemError, "nowhere_to_be_found"),
    ],
)
def test_a_callable_that_fails_is_refused(
    tmp_path: Path, body: str, error: type[Exception], message: str
) -> None:
    source = Source(tmp_path, "python")
    source.holds(parcels())
    (tmp_path / f"{source._module}.py").write_text(
        f"def rows(as_of, until):\n    {body}\n", encoding="utf-8"
    )
    with pytest.raises(error, match=message):
        source.pull()


def test_a_pull_never_changes_its_source(source: Source) -> None:
    source.holds(parcels())
    files = {f: f.read_bytes() for f in source.folder.glob("rows.*")}
    source.pull()
    assert {f: f.read_bytes() for f in source.folder.glob("rows.*")} == files


def test_the_made_up_world_of_the_tests_is_pulled_whole(tmp_path: Path) -> None:
    world = make_world(500)
    problem = load_problem(write_problem(tmp_path, frame=world))
    snapshot = pull(problem, open_workspace(problem.file), AS_OF)
    frame = read(snapshot)
    assert np.array_equal(frame["weight"].to_numpy(), world["weight"].to_numpy(), equal_nan=True)
    assert snapshot.first == world["sent_at"].min().tz_localize(UTC)


def test_a_python_function_gets_the_window_of_a_batch(tmp_path: Path) -> None:
    """A function that makes rows from its arguments, as a natural one does."""
    source = Source(tmp_path, "python")
    source.holds(parcels())
    problem = source.problem(ignore="")
    module = next(tmp_path.glob("rows_*.py"))
    module.write_text(
        "import pandas as pd\n"
        "def rows(as_of, until=None):\n"
        "    first, last = (as_of - pd.Timedelta('40d'), as_of) if until is None else (as_of, until)\n"
        "    t = pd.date_range(first, last, freq='6h', inclusive='left')\n"
        "    n = (t - pd.Timestamp('2026-01-01', tz='UTC')) // pd.Timedelta('6h')\n"
        "    return pd.DataFrame({'parcel': n, 'sent_at': t, 'weight': n / 8, 'carrier': 'ant', 'late': n % 3 % 2})\n",
        encoding="utf-8",
    )
    times = read(source.batch(problem))["sent_at"]
    assert (len(times), times.min(), times.max()) == (
        28,
        np.datetime64("2026-03-02T00:00"),
        np.datetime64("2026-03-08T18:00"),
    )
    assert source.pull(problem).last < AS_OF
