"""Personal columns: every cell holds a marker, and the marker is looked for wherever anything is left."""

from __future__ import annotations

import json
import logging
import os
import shutil
import sqlite3
import sys
import traceback
import zipfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa

from automl import cli, history
from automl.contract import infer, load_contract, save_contract
from automl.errors import AutomlError, ContractError, HistoryError, ProblemError, UnreachableError
from automl.history import KEY_SECRET
from automl.problem import Problem, load_problem
from automl.publish import read_predictions
from automl.report.data import contract_document
from automl.workspace import open_workspace
from tests.conftest import AS_OF, make_world
from tests.postgres import PostgresServer

MARKER = "marker-7f3a"
SECRET = "quite a secret, and long enough"
WEEK, DAY = timedelta(days=7), timedelta(days=1)
PLAIN = {  # where analysts need the key
    "binary": {("parcels_generations", "badge")},
    "multiclass": {("parcels_generations", "badge"), ("parcels_classes_generations", "badge")},
}

PROBLEM = """
name = "parcels"
task = "{task}"

[history]
{source}
time        = "sent_at"
key         = ["badge"]
target      = "{target}"
label_delay = "1d"
ignore      = ["arrived_after"]
personal    = ["badge", "email"]
quarantine  = 0.45

[metric]
name   = "{metric}"
slices = ["carrier"]

[sweep]
families = ["baseline", "linear"]
trials   = 2

[validation]
block   = "7d"
origins = 1

[publish]
parquet = "out"
"""
COLUMNS = "badge, email, sent_at, weight, carrier, arrived_after, fate"
SOURCE = {
    "sqlite": 'source = "sqlite:///world.db"\nquery = "select * from parcels"',
    "parquet": 'files = "data/*.parquet"',
}
BROKEN = "select * from parcels where json_extract('{}', badge) is null"  # SQLite quotes the cell


def people(rows: int = 1200) -> pd.DataFrame:
    """Parcels every 80 minutes, 66 days, each with a badge and an address of its own."""
    world = make_world(rows, step="80min").rename(columns={"parcel": "badge"})
    number = world["badge"].astype("str")
    return world.assign(badge=f"{MARKER}-" + number, email=f"{MARKER}-" + number + "@example.org")


@dataclass
class Life:
    """A folder in which a problem with personal columns has lived, and all that was said."""

    folder: Path
    kind: str
    said: str = ""
    codes: dict[str, int] = field(default_factory=dict)

    @property
    def file(self) -> Path:
        return self.folder / "problem.toml"

    @property
    def home(self) -> Path:
        return self.folder / ".automl"

    def write(self, frame: pd.DataFrame, task: str = "binary", *, part: str = "part-0") -> None:
        others = {"binary": ["fate", "hours"], "multiclass": ["late", "hours"]}[task]
        frame = frame.drop(columns=others, errors="ignore")
        if self.kind == "parquet":
            (self.folder / "data").mkdir(exist_ok=True)
            frame.to_parquet(self.folder / "data" / f"{part}.parquet", index=False)
            return
        engine = sa.create_engine(f"sqlite:///{self.folder / 'world.db'}")
        times = frame["sent_at"].map(lambda t: t if isinstance(t, str) else f"{t:%Y-%m-%d %H:%M}")
        frame.assign(sent_at=times).to_sql("parcels", engine, index=False, if_exists="replace")
        engine.dispose()

    def problem(
        self, task: str = "binary", source: str = "", replace: dict[str, str] | None = None
    ) -> Path:
        text = PROBLEM.format(
            task=task,
            source=source or SOURCE[self.kind],
            target="late" if task == "binary" else "fate",
            metric="roc_auc" if task == "binary" else "log_loss",
        )
        for old, new in (replace or {}).items():
            assert old in text
            text = text.replace(old, new)
        self.file.write_text(text, encoding="utf-8")
        return self.file

    def run(self, name: str, *arguments: str) -> str:
        """A command in this process, heard at its streams, its file descriptors and all its loggers."""
        with (
            listening(self.folder.parent / f"{self.kind}.said") as heard,
            pytest.MonkeyPatch.context() as patch,
        ):
            patch.setattr(sys, "argv", ["automl", *arguments])
            try:
                cli.main()
            except SystemExit as end:
                self.codes[name] = int(end.code or 0)
        self.said += heard.text
        return heard.text

    def rows(self, query: str) -> list[tuple[object, ...]]:
        with closing(sqlite3.connect(self.home / "automl.db")) as store:
            return store.execute(query).fetchall()


@dataclass
class Heard:
    """What was said while listening."""

    text: str = ""


@contextmanager
def listening(file: Path) -> Iterator[Heard]:
    heard = Heard()
    kept = [os.dup(1), os.dup(2)]
    with file.open("w+", encoding="utf-8", buffering=1) as ear:
        diary = logging.StreamHandler(ear)
        root, level = logging.getLogger(), logging.getLogger().level
        root.addHandler(diary)
        root.setLevel(logging.DEBUG)
        try:
            os.dup2(ear.fileno(), 1)
            os.dup2(ear.fileno(), 2)
            with redirect_stdout(ear), redirect_stderr(ear):
                yield heard
        finally:
            for target, source in enumerate(kept, start=1):
                os.dup2(source, target)
                os.close(source)
            root.removeHandler(diary)
            root.setLevel(level)
        heard.text = file.read_text(encoding="utf-8")


def found(folder: Path, needle: str) -> set[tuple[str, str]]:
    """Where a text stands: (file, column of a parquet file or `table.column` of a database)."""
    places = set()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        name = str(path.relative_to(folder))
        content = path.read_bytes()
        if content.startswith(b"SQLite format 3"):
            with closing(sqlite3.connect(path)) as database:
                tables = database.execute("select name from sqlite_master where type = 'table'")
                for (table,) in tables.fetchall():
                    frame = pd.read_sql(f'select * from "{table}"', database)
                    places |= {
                        (name, f"{table}.{c}") for c in frame if _holds(frame[c].tolist(), needle)
                    }
        elif path.suffix == ".parquet":
            table = pq.read_table(path)
            places |= {
                (name, c) for c in table.column_names if _holds(table[c].to_pylist(), needle)
            }
            if needle in str(pq.read_metadata(path)) + str(table.schema.metadata):
                places.add((name, "metadata"))
        elif name.endswith(("-wal", "-shm")):
            continue  # pages of a database that is read above
        elif zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as packed:
                if any(needle.encode() in packed.read(n) for n in packed.namelist()):
                    places.add((name, "packed"))
        elif needle.encode() in content:
            places.add((name, ""))
    return places


def _holds(cells: list[object], needle: str) -> bool:
    return any(
        needle in str(cell) or needle.encode() in bytes(cell)
        if isinstance(cell, bytes)
        else needle in str(cell)
        for cell in cells
    )


TASK = {"sqlite": "multiclass", "parquet": "binary"}


@pytest.fixture(scope="module", params=["sqlite", pytest.param("parquet", marks=pytest.mark.slow)])
def life(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Life:
    """Two cycles, the second with rows that do not fit, then everything that may be refused or shown."""
    lived = Life(tmp_path_factory.mktemp("life") / "here", request.param)
    lived.folder.mkdir()
    task = TASK[lived.kind]
    world = people()
    edge = pd.Timestamp(AS_OF.replace(tzinfo=None))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(KEY_SECRET, SECRET)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)  # left by MLflow in this process
        lived.write(world[world["sent_at"] < edge] if lived.kind == "parquet" else world, task)
        lived.problem(task)
        if lived.kind == "parquet":
            lived.write(world[world["sent_at"] >= edge], task, part="part-1")
        lived.run("first", "cycle", str(lived.file), "--as-of", f"{AS_OF - WEEK:%Y-%m-%d}")
        if lived.kind == "parquet":
            lived.write(misfits(world, typed=True), task, part="part-2")
        else:
            lived.write(pd.concat([world, misfits(world, typed=False)], ignore_index=True), task)
        lived.run("second", "cycle", str(lived.file), "--as-of", f"{AS_OF:%Y-%m-%d}", "--debug")
        _refuse_to_publish(lived)
        if lived.kind == "sqlite":
            _refuse_to_pull(lived, task)
        for verb in ("status", "why", "leaderboard", "history", "contract"):
            lived.run(verb, verb, str(lived.file))
            lived.run(f"{verb} --json", verb, str(lived.file), "--json")
        lived.run("verify", "history", str(lived.file), "--verify", "--debug")
    return lived


def misfits(world: pd.DataFrame, *, typed: bool) -> pd.DataFrame:
    """Rows of the last week before AS_OF that cannot be used, all with markers."""
    old = world[world["sent_at"] < pd.Timestamp(AS_OF.replace(tzinfo=None)) - 2 * DAY].tail(6)
    twins = old.head(2).assign(weight=99.0)  # the same key with another content
    keyless = old.iloc[2:4].assign(badge=None)
    rows = [twins, keyless]
    if not typed:
        fresh = old.iloc[4:6].assign(badge=[f"{MARKER}-x", f"{MARKER}-y"])
        rows += [fresh.head(1).assign(weight="heavy"), fresh.tail(1).assign(sent_at="one day")]
    return pd.concat([r.astype("object") for r in rows], ignore_index=True).astype(
        {"sent_at": "datetime64[us]"}
        | {c: world[c].dtype for c in ("weight", "late", "hours", "arrived_after")}
        if typed
        else {}
    )


def _refuse_to_publish(lived: Life) -> None:
    """The store refuses every row, as a full disk would; SQLAlchemy would quote them."""
    with closing(sqlite3.connect(lived.home / "automl.db")) as store:
        store.execute(
            "create trigger full before insert on parcels_generations begin select raise(abort, 'full'); end"
        )
        store.commit()
    lived.run("full", "score", str(lived.file), "--as-of", f"{AS_OF + DAY:%Y-%m-%d}", "--debug")
    with closing(sqlite3.connect(lived.home / "automl.db")) as store:
        store.execute("drop trigger full")
        store.commit()


def _refuse_to_pull(lived: Life, task: str) -> None:
    later = ("--as-of", f"{AS_OF + DAY:%Y-%m-%d}", "--debug")
    for name, query in {
        "query": BROKEN,
        "column": "select badge, email, sent_at, carrier, arrived_after, fate from parcels",
        "twins": f"select {COLUMNS} from parcels union all "
        f"select {COLUMNS.replace('weight', 'weight + 1')} from parcels",
        "kind": f"select {COLUMNS.replace('weight', 'badge as weight')} from parcels",
    }.items():
        lived.problem(task, f'source = "sqlite:///world.db"\nquery = "{query}"')
        lived.run(name, "retrain", str(lived.file), *later)
    lived.problem(task)


# ---------------------------------------------------------------- what two cycles leave


def test_every_step_of_the_life_ended_as_it_should(life: Life) -> None:
    wanted = {"first": 0, "second": 0, "full": 1}
    if life.kind == "sqlite":
        wanted |= {"query": 3, "column": 3, "twins": 3, "kind": 3}
    looks = ("status", "why", "leaderboard", "history", "contract")
    wanted |= {name: 0 for look in looks for name in (look, f"{look} --json")} | {"verify": 0}
    assert life.codes == wanted


def test_the_marker_stands_in_the_published_keys_and_nowhere_else(life: Life) -> None:
    workspace = found(life.home, MARKER)
    copy = found(life.folder / "out", MARKER)

    tables = {tuple(place.split(".")) for _, place in workspace}
    assert {file for file, _ in workspace} == {"automl.db"}
    assert tables == PLAIN[TASK[life.kind]]
    assert {column for _, column in copy} == {"badge"}
    assert MARKER not in (life.folder / "problem.contract.json").read_text(encoding="utf-8")
    left = {p.name for p in life.folder.iterdir()}
    assert left <= {"problem.toml", "problem.contract.json", "world.db", "data", "out", ".automl"}


def test_the_search_finds_a_marker_where_there_is_one(life: Life, tmp_path: Path) -> None:
    source = life.folder / ("world.db" if life.kind == "sqlite" else "data/part-0.parquet")
    shutil.copy(source, tmp_path)
    (tmp_path / "pickle").write_bytes(b"\x00" + MARKER.encode())

    places = found(tmp_path, MARKER)

    assert {place for _, place in places} >= {
        "",
        *(["parcels.badge", "parcels.email"] if life.kind == "sqlite" else ["badge", "email"]),
    }


def test_the_marker_was_never_said(life: Life) -> None:
    assert "pulled" in life.said, "the log was heard"
    assert "Traceback" in life.said, "so were the tracebacks"
    assert MARKER not in life.said


def test_the_secret_is_nowhere(life: Life) -> None:
    assert SECRET not in life.said
    assert found(life.folder, SECRET) == set()


def test_analysts_find_every_row_of_the_batch_under_its_plain_key(life: Life) -> None:
    start, world = pd.Timestamp(AS_OF.replace(tzinfo=None)), people()
    batch = world[(world["sent_at"] >= start) & (world["sent_at"] < start + WEEK)]

    assert {row[0] for row in life.rows("select badge from parcels")} == set(batch["badge"])
    assert set(read_predictions(life.folder / "out")["badge"]) == set(batch["badge"])
    if TASK[life.kind] == "multiclass":
        told = life.rows(
            "select badge, count(*), sum(probability) from parcels_classes group by badge"
        )
        assert {row[0] for row in told} == set(batch["badge"])
        assert [row[1] for row in told] == [3] * len(batch)
        assert [row[2] for row in told] == pytest.approx([1.0] * len(batch))


def test_published_predictions_are_judged_across_the_hash(life: Life) -> None:
    [(generation, rows, judged, scores)] = life.rows(
        "select id, rows, judged_rows, judged from automl_generation order by id limit 1"
    )
    world = people().set_index("badge")
    start = pd.Timestamp((AS_OF - WEEK).replace(tzinfo=None))
    known = world[(world["sent_at"] >= start) & (world["sent_at"] < start + WEEK - DAY)]
    clashing = set(misfits(people(), typed=True)["badge"].dropna())

    assert rows == 7 * 18
    assert judged == len(known) - len(clashing & set(known.index))
    published = dict(
        life.rows(
            f"select badge, probability from parcels_generations where generation = {generation}"
        )
    )
    told = known.drop(index=sorted(clashing & set(known.index)))
    if TASK[life.kind] == "binary":
        late, fine = (told.index[told["late"] == c].map(published) for c in (1, 0))
        better = [(p > q) + 0.5 * (p == q) for p in late for q in fine]
        assert json.loads(str(scores))["roc_auc"] == pytest.approx(np.mean(better))
    else:
        classes = pd.DataFrame(
            life.rows(f"select * from parcels_classes_generations where generation = {generation}"),
            columns=[c[1] for c in life.rows("pragma table_info(parcels_classes_generations)")],
        ).set_index(["badge", "class"])["probability"]
        loss = -np.log([classes[key, fate] for key, fate in told["fate"].items()])
        assert json.loads(str(scores))["log_loss"] == pytest.approx(loss.mean())


def test_rows_set_aside_are_kept_under_the_hash(life: Life) -> None:
    newest = max((life.home / "history" / "parcels" / "quarantine").glob("*.parquet"))
    aside = pq.read_table(newest).to_pandas()

    wanted = {"duplicate_key", "null_key"} | (
        {"kind_changed", "bad_time"} if life.kind == "sqlite" else set()
    )
    assert set(aside["reason"]) == wanted
    keys = [json.loads(k)["badge"] for k in aside["key"]]
    assert {len(k) for k in keys if k is not None} == {32}


# ---------------------------------------------------------------- refusals


@pytest.fixture
def fresh(tmp_path: Path) -> Callable[..., Problem]:
    """A problem nobody has run yet, with its source; `source` replaces where rows come from."""

    def make(source: str = "", kind: str = "sqlite", **more: str) -> Problem:
        lived = Life(tmp_path, kind)
        lived.write(people())
        return load_problem(lived.problem("binary", source, more))

    return make


def told(error: BaseException) -> str:
    """Everything that a person may come to see of an error, `--debug` included."""
    return "".join(traceback.format_exception(error)) + str(getattr(error, "next_step", ""))


def pull(problem: Problem) -> history.Snapshot:
    return history.pull(problem, open_workspace(problem.file), AS_OF)


RAISES = """
import pandas as pd

def rows(as_of, until):
    raise {error}
"""
ERRORS: dict[str, tuple[str, type[AutomlError], str]] = {
    "any": (f"KeyError('{MARKER}')", HistoryError, "source_raises"),
    "chained": (f"ValueError('no') from KeyError('{MARKER}')", HistoryError, "source_raises"),
    "file": (
        f"FileNotFoundError(2, 'gone', '/people/{MARKER}')",
        UnreachableError,
        "source_unreachable",
    ),
    "import": (f"ImportError('{MARKER}')", ProblemError, "python"),
    "ours": (f"__import__('automl').ProblemError('{MARKER}')", HistoryError, "source_raises"),
}


@pytest.mark.parametrize(("error", "kind", "code"), ERRORS.values(), ids=ERRORS)
def test_what_a_callable_raises_is_told_by_its_place_alone(
    fresh: Callable[..., Problem],
    error: str,
    kind: type[AutomlError],
    code: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(KEY_SECRET, SECRET)
    module = f"source_{abs(hash(error))}"
    problem = fresh(f'python = "{module}:rows"')
    (problem.file.parent / f"{module}.py").write_text(RAISES.format(error=error), encoding="utf-8")

    with pytest.raises(kind, match=rf"at {module}\.py:5") as caught:
        pull(problem)

    assert caught.value.code == code
    assert MARKER not in str(caught.value)
    assert MARKER not in told(caught.value).replace(f"raise {error}", "")  # our own source line


def test_a_driver_that_quotes_a_cell_is_not_quoted(
    fresh: Callable[..., Problem], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEY_SECRET, SECRET)
    source = f'source = "sqlite:///world.db"\nquery = "{BROKEN}"'
    open_problem = fresh(source, **{'personal    = ["badge", "email"]': "personal = []"})
    with pytest.raises(HistoryError, match=MARKER):  # so it would be without the rule
        pull(open_problem)

    with pytest.raises(HistoryError, match="the query failed: OperationalError at") as caught:
        pull(fresh(source))

    assert caught.value.code == "query_failed"
    assert MARKER not in told(caught.value)


def test_postgres_that_quotes_a_cell_is_not_quoted(
    fresh: Callable[..., Problem], postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEY_SECRET, SECRET)
    url = postgres.new_database()
    engine = sa.create_engine(url)
    people().to_sql("parcels", engine, index=False)
    engine.dispose()
    problem = fresh(f'source = "{url}"\nquery = "select * from parcels where badge::int > 0"')

    with pytest.raises(HistoryError, match="the query failed") as caught:
        pull(problem)

    assert caught.value.code == "query_failed"
    assert MARKER not in told(caught.value)


def test_a_torn_row_of_a_csv_file_is_not_quoted(
    fresh: Callable[..., Problem], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEY_SECRET, SECRET)
    problem = fresh('files = "people.csv"')
    torn = people().to_csv(index=False) + f"{MARKER}-torn,2026-02-01\n"
    (problem.file.parent / "people.csv").write_text(torn, encoding="utf-8")

    with pytest.raises(HistoryError, match="cannot be read: ArrowInvalid at") as caught:
        pull(problem)

    assert caught.value.code == "bad_file"
    assert MARKER not in told(caught.value)


def test_an_error_that_nobody_foresaw_leaves_without_its_words(
    fresh: Callable[..., Problem], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEY_SECRET, SECRET)
    problem = fresh()

    with (
        pytest.raises(AutomlError, match="IndexError at test_personal") as caught,
        history.discreet(problem),
    ):
        raise IndexError(f"{MARKER}-9")

    assert caught.value.code == "unexpected"
    assert f"{MARKER}-9" not in told(caught.value)


# ---------------------------------------------------------------- secret, problem file, contract


@pytest.mark.parametrize("secret", [None, "", "fifteen letters"])
def test_without_a_secret_nothing_is_pulled(
    fresh: Callable[..., Problem], secret: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if secret is not None:
        monkeypatch.setenv(KEY_SECRET, secret)
    problem = fresh('python = "asked:rows"')
    (problem.file.parent / "asked.py").write_text("1 / 0\n", encoding="utf-8")  # never imported
    workspace = open_workspace(problem.file)
    asks = (
        lambda: history.pull(problem, workspace, AS_OF),
        lambda: history.pull_batch(problem, workspace, AS_OF, kinds={}),
        lambda: history.sample(problem, workspace, AS_OF, AS_OF - WEEK),
    )

    for ask in asks:
        with pytest.raises(
            ProblemError, match=r"AUTOML_KEY_SECRET is (not set|too short)"
        ) as caught:
            ask()
        assert (caught.value.code, caught.value.exit_code) == ("no_key_secret", 2)
        assert not secret or secret not in told(caught.value)

    assert not workspace.history(problem.name).exists()


def test_without_a_personal_key_no_secret_is_needed(fresh: Callable[..., Problem]) -> None:
    problem = fresh(**{'["badge", "email"]': '["email"]'})

    assert "email" not in history.read(pull(problem)).columns


def test_another_secret_pulls_everything_anew_and_doubles_no_row(
    fresh: Callable[..., Problem], monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = fresh()
    workspace = open_workspace(problem.file)
    monkeypatch.setenv(KEY_SECRET, SECRET)
    first = pull(problem)
    contract = infer(history.read(first), problem)
    kinds = contract.kinds(problem)
    history.pull(problem, workspace, AS_OF + DAY, kinds=kinds)
    monkeypatch.setenv(KEY_SECRET, SECRET[::-1])

    second = history.pull(problem, workspace, AS_OF + 2 * DAY, kinds=kinds)

    assert (
        "have changed" in history.pulls(history.Folders(workspace.history(problem.name)))[-1].full
    )
    assert history.read(second)["badge"].is_unique
    assert second.rows == int(
        (people()["sent_at"] < pd.Timestamp((AS_OF + DAY).replace(tzinfo=None))).sum()
    )


def test_a_personal_column_that_the_source_does_not_have_is_told(
    fresh: Callable[..., Problem], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEY_SECRET, SECRET)
    problem = fresh(**{'["badge", "email"]': '["badge", "emial"]'})

    with pytest.raises(HistoryError, match=r"history\.personal 'emial': column 'emial' is missing"):
        pull(problem)


def test_a_column_that_becomes_personal_is_not_read_on_the_word_of_an_old_contract(
    fresh: Callable[..., Problem], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEY_SECRET, SECRET)
    before = fresh(**{'["badge", "email"]': "[]"})
    contract = infer(history.read(pull(before)), before)
    save_contract(before, replace(contract, features={**contract.features, "email": "text"}))
    now = fresh()
    agreed = load_contract(now)
    assert agreed is not None

    with pytest.raises(
        ContractError, match=r"history\.personal keeps it from being read"
    ) as caught:
        history.pull(now, open_workspace(now.file), AS_OF, kinds=agreed.kinds(now))

    assert "contract problem.toml --accept" in caught.value.next_step

    contract_document(now, open_workspace(now.file), AS_OF, accept=True)

    agreed = load_contract(now)
    assert agreed is not None
    assert "email" not in agreed.features
    told = history.pull(now, open_workspace(now.file), AS_OF, kinds=agreed.kinds(now))
    assert "email" not in history.read(told).columns


def test_a_key_of_whole_numbers_can_become_personal(
    fresh: Callable[..., Problem], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEY_SECRET, SECRET)
    query = {
        "select * from parcels": "select cast(substr(badge, 13) as integer) as badge, sent_at, "
        "weight, carrier, arrived_after, late, email from parcels"
    }
    before = fresh(**{'["badge", "email"]': '["email"]', **query})
    contract = infer(history.read(pull(before)), before)
    assert contract.roles["badge"] == "whole"
    now = fresh(**query)

    told = history.read(
        history.pull(now, open_workspace(now.file), AS_OF, kinds=contract.kinds(now))
    )

    assert set(told["badge"].str.len()) == {32}
    assert told["badge"].is_unique
