"""Publishing: readers see one whole generation, always the same one until the pointer moves."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import sqlalchemy as sa

from automl.errors import BusyError, PredictError, ProblemError
from automl.problem import Problem
from automl.publish import (
    audit,
    check_owner,
    clean,
    export,
    point,
    read_generation,
    read_predictions,
    stage,
)
from automl.spaces import Blend, Recipe
from automl.store import Hold, Release, Store
from automl.workspace import Workspace

MONDAY = datetime(2026, 3, 2, tzinfo=UTC)
WEEK = timedelta(weeks=1)
RELEASE = Release(
    1,
    MONDAY,
    7,
    "run7",
    {},
    "f" * 64,
    Blend.single(Recipe("linear", {})),
    MONDAY - WEEK,
    projected=True,
)
STAMPS = ["generation", "model_version", "run_id", "as_of", "scored_at"]
CLASSES = ["fine", "late", "lost"]

POLL = """
import json, sqlite3, sys
from pathlib import Path
folder = Path(sys.argv[1])
connection = sqlite3.connect(folder / ".automl" / "automl.db")
seen, polls = set(), 0
(folder / "polling").touch()
while not (folder / "stop").exists():
    seen.add(connection.execute(
        "select count(*), count(distinct generation), min(generation), max(generation) from parcels"
    ).fetchone())
    polls += 1
print(json.dumps({"seen": sorted(seen), "polls": polls}))
"""


def frame_of(rows: int, *, task: str = "binary", week: int = 0) -> pd.DataFrame:
    """Predictions as `predict` answers them; the values differ from week to week."""
    rng = np.random.default_rng(week)
    frame = pd.DataFrame(
        {
            "parcel": np.arange(rows) + 10,
            "sent_at": pd.date_range(MONDAY + week * WEEK, periods=rows, freq="h"),
        }
    )
    frame["sent_at"] = frame["sent_at"].dt.tz_localize(None)
    if task == "multiclass":
        frame["prediction"] = rng.choice(CLASSES, rows)
    else:
        frame["prediction"] = rng.integers(0, 2, rows)
    return frame.assign(probability=rng.random(rows), low=np.nan, high=np.nan)


def classes_of(frame: pd.DataFrame) -> pd.DataFrame:
    repeated = frame[["parcel"]].loc[frame.index.repeat(3)].reset_index(drop=True)
    return repeated.assign(**{"class": CLASSES * len(frame), "probability": 1 / 3})


@dataclass
class Site:
    """A store and a problem that publishes into it."""

    store: Store
    problem: Problem

    def stage(
        self, hold: Hold, frame: pd.DataFrame, *, week: int = 0, classes: pd.DataFrame | None = None
    ) -> int:
        as_of = MONDAY + week * WEEK
        return stage(
            self.store,
            hold,
            self.problem,
            RELEASE,
            (frame, classes),
            window=(as_of, as_of + WEEK),
            batch="b" * 64,
            attempt=1,
        )

    def publish(self, rows: int = 5, *, week: int = 0, classes: bool = False) -> int:
        frame = frame_of(rows, task=self.problem.task, week=week)
        with self.store.hold(self.problem.name) as hold:
            generation = self.stage(
                hold, frame, week=week, classes=classes_of(frame) if classes else None
            )
            audit(self.store, self.problem, generation)
            self.point(hold, generation)
        return generation

    def point(self, hold: Hold, generation: int) -> None:
        with self.store.commit(hold) as connection:
            point(connection, self.store, hold, self.problem, generation)

    def select(self, query: str) -> list[tuple]:
        """What an analyst's own connection answers."""
        connection = sqlite3.connect(self.store.workspace.home / "automl.db")
        try:
            return connection.execute(query).fetchall()
        finally:
            connection.close()

    def shown(self) -> set[int]:
        return {g for (g,) in self.select(f"select distinct generation from {self.problem.table}")}


@pytest.fixture
def make_site(make_problem: Callable[..., Problem], workspace: Workspace) -> Callable[..., Site]:
    def make(task: str = "binary", *, publish: str = "keep = 2", name: str = "parcels") -> Site:
        end = f"origins = 2\n\n[publish]\n{publish}"
        return Site(Store(workspace), make_problem(task, name=name, replace={"origins = 2": end}))

    return make


@pytest.fixture
def site(make_site: Callable[..., Site]) -> Site:
    return make_site()


# ---------------------------------------------------------------- what readers see


def test_readers_see_the_generation_that_is_pointed_at_and_nothing_staged(site: Site) -> None:
    first = site.publish(5)

    with site.store.hold("parcels") as hold:
        second = site.stage(hold, frame_of(7, week=1), week=1)
        assert site.shown() == {first}
        assert site.select("select count(*) from parcels") == [(5,)]
        site.point(hold, second)

    assert site.shown() == {second}
    assert site.select("select count(*) from parcels") == [(7,)]


def test_a_published_row_is_the_predicted_row_with_its_origin(site: Site) -> None:
    generation = site.publish(5)

    columns = [d[1] for d in site.select("pragma table_info(parcels)")]
    assert set(columns) == {*frame_of(1).columns, *STAMPS}
    rows = pd.DataFrame(site.select("select * from parcels order by parcel"), columns=columns)
    wanted = frame_of(5)
    assert rows["parcel"].tolist() == wanted["parcel"].tolist()
    assert rows["prediction"].tolist() == wanted["prediction"].tolist()
    assert rows["probability"].tolist() == wanted["probability"].tolist()
    assert pd.to_datetime(rows["sent_at"]).tolist() == wanted["sent_at"].tolist()
    assert rows["low"].isna().all()
    assert set(
        rows[["generation", "model_version", "run_id"]].itertuples(index=False, name=None)
    ) == {(generation, 7, "run7")}
    assert set(pd.to_datetime(rows["as_of"])) == {pd.Timestamp(MONDAY).tz_localize(None)}


def test_an_older_generation_can_still_be_read_by_its_number(site: Site) -> None:
    first, second = site.publish(5), site.publish(7, week=1)

    assert [len(read_generation(site.store, site.problem, g)) for g in (first, second)] == [5, 7]
    assert (
        read_generation(site.store, site.problem, first)["probability"].tolist()
        == frame_of(5)["probability"].tolist()
    )


def test_a_reader_never_sees_a_mix_while_thirty_generations_are_published(site: Site) -> None:
    folder = site.store.workspace.root
    wanted = {site.publish(1_000): 1_000}
    reader = subprocess.Popen(
        [sys.executable, "-c", POLL, str(folder)], stdout=subprocess.PIPE, text=True
    )
    try:
        deadline = time.monotonic() + 20
        while not (folder / "polling").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        for week in range(1, 31):
            wanted[site.publish(1_000 + week, week=week)] = 1_000 + week
        (folder / "stop").touch()
        told = json.loads(reader.communicate(timeout=30)[0])
    finally:
        reader.kill()

    assert told["polls"] > 30
    assert len(told["seen"]) > 5  # it did look while things changed
    for rows, distinct, lowest, highest in told["seen"]:
        assert distinct == 1
        assert lowest == highest
        assert rows == wanted[lowest]


def point_and_fail(site: Site, hold: Hold, generation: int) -> None:
    with site.store.commit(hold) as connection:
        point(connection, site.store, hold, site.problem, generation)
        raise ValueError("power cut")


def test_a_transaction_that_fails_after_pointing_moves_nothing(site: Site) -> None:
    first = site.publish(5)

    with site.store.hold("parcels") as hold:
        second = site.stage(hold, frame_of(7, week=1), week=1)
        with pytest.raises(ValueError, match="power cut"):
            point_and_fail(site, hold, second)

    assert site.shown() == {first}
    assert [g["id"] for g in site.store.generations("parcels")] == [first]


def test_a_stale_holder_can_neither_stage_nor_point(site: Site) -> None:
    first = site.publish(5)
    stale = Hold("parcels", 1)
    with site.store.hold("parcels") as hold:
        second = site.stage(hold, frame_of(7, week=1), week=1)

    with pytest.raises(BusyError, match="another run has taken over"):
        site.stage(stale, frame_of(7, week=2), week=2)
    with pytest.raises(BusyError, match="another run has taken over"):
        site.point(stale, second)

    assert site.shown() == {first}
    assert site.select("select count(*) from automl_generation") == [(2,)]


def test_the_pointer_never_goes_back_in_time_for_a_backfill(site: Site) -> None:
    newest = site.publish(5, week=3)

    older = site.publish(6, week=1)
    assert site.shown() == {newest}
    assert {g["id"]: g["state"] for g in site.store.generations("parcels")} == {
        newest: "published",
        older: "published",
    }

    again = site.publish(7, week=3)  # the same as_of, decided anew
    assert site.shown() == {again}


def test_multiclass_probabilities_are_a_view_of_the_same_generation(
    make_site: Callable[..., Site],
) -> None:
    site = make_site("multiclass")
    first = site.publish(4, classes=True)
    assert site.select(
        "select count(*), count(distinct class), min(generation) from parcels_classes"
    ) == [(12, 3, first)]

    with site.store.hold("parcels") as hold:
        frame = frame_of(6, task="multiclass", week=1)
        second = site.stage(hold, frame, week=1, classes=classes_of(frame))
        assert site.select("select count(*), max(generation) from parcels_classes") == [(12, first)]
        site.point(hold, second)

    assert site.select("select count(*), min(generation) from parcels_classes") == [(18, second)]
    assert site.select(
        "select count(*) from parcels_classes join parcels using (parcel, generation)"
    ) == [(18,)]


def test_a_problem_without_classes_has_no_class_view(site: Site) -> None:
    site.publish(5)

    with pytest.raises(sqlite3.OperationalError, match="no such table: parcels_classes"):
        site.select("select * from parcels_classes")


# ---------------------------------------------------------------- audit


@pytest.mark.parametrize(
    ("harm", "found"),
    [
        (
            "delete from parcels_generations where generation = {g} and parcel = 11",
            "found 4 rows, 4 keys, 0 empty",
        ),
        ("delete from parcels_generations where generation = {g}", "found 0 rows"),
        (
            "update parcels_generations set prediction = null where generation = {g} and parcel < 12",
            "5 keys, 2 empty",
        ),
        (
            "update parcels_generations set parcel = 11 where generation = {g} and parcel = 12",
            "found 5 rows, 4 keys",
        ),
        (
            "insert into parcels_generations select * from parcels_generations "  # noqa: ISC004  one statement
            "where generation = {g} and parcel = 12",
            "found 6 rows, 5 keys",
        ),
    ],
    ids=[
        "a row is missing",
        "all rows are missing",
        "predictions are empty",
        "a key replaces another",
        "a row is there twice",
    ],
)
def test_audit_refuses_a_generation_that_is_not_whole(site: Site, harm: str, found: str) -> None:
    site.publish(9)
    _without_primary_key(site)
    with site.store.hold("parcels") as hold:
        generation = site.stage(hold, frame_of(5, week=1), week=1)
        audit(site.store, site.problem, generation)  # before the harm it is whole
    with site.store.writer.begin() as connection:
        connection.execute(sa.text(harm.format(g=generation)))

    with pytest.raises(
        PredictError, match=rf"audit of generation {generation}: .*{found}.*wanted 5 rows"
    ):
        audit(site.store, site.problem, generation)


def _without_primary_key(site: Site) -> None:
    """The same rows in a table that does not itself forbid what an audit must find."""
    with site.store.writer.begin() as connection:
        for statement in (
            "drop view parcels",
            "create table bare as select * from parcels_generations",
            "drop table parcels_generations",
            "alter table bare rename to parcels_generations",
        ):
            connection.execute(sa.text(statement))


def test_a_key_that_is_there_twice_stages_nothing(site: Site) -> None:
    frame = pd.concat([frame_of(3), frame_of(1)])

    with (
        site.store.hold("parcels") as hold,
        pytest.raises(sa.exc.IntegrityError, match="UNIQUE constraint"),
    ):
        site.stage(hold, frame)

    assert site.select("select count(*) from automl_generation") == [(0,)]


# ---------------------------------------------------------------- whose table


def test_a_new_name_and_the_own_table_are_fine(site: Site) -> None:
    check_owner(site.store, site.problem)
    site.publish(3)
    check_owner(site.store, site.problem)


def test_a_first_generation_that_was_only_staged_does_not_lock_its_owner_out(site: Site) -> None:
    with site.store.hold("parcels") as hold:
        site.stage(hold, frame_of(3))

    check_owner(site.store, site.problem)
    generation = site.publish(3)
    assert site.shown() == {generation}


@pytest.mark.parametrize(
    "statement",
    [
        "create table parcels (parcel integer)",
        "create view parcels as select 1 as parcel",
        "create table parcels_generations (generation integer, parcel integer)",
        "create table parcels_classes (parcel integer)",
        "create view parcels_classes as select 1 as parcel",
    ],
)
def test_a_table_that_somebody_else_made_is_refused_and_kept(
    make_site: Callable[..., Site], statement: str
) -> None:
    site = make_site("multiclass")
    with site.store.writer.begin() as connection:
        connection.execute(sa.text(statement))
    before = site.select(
        "select sql from sqlite_master where sql like 'create%parcels%' order by sql"
    )

    with pytest.raises(
        ProblemError,
        match=r"publish.table 'parcels': 'parcels\w*' exists and was not made by this product",
    ):
        check_owner(site.store, site.problem)

    assert (
        site.select("select sql from sqlite_master where sql like 'create%parcels%' order by sql")
        == before
    )
    assert before


@pytest.mark.parametrize("table", ["automl_cycle", "automl_pointer"])
def test_a_table_of_the_store_itself_is_refused(make_site: Callable[..., Site], table: str) -> None:
    site = make_site(publish=f'table = "{table}"')

    with pytest.raises(ProblemError, match="was not made by this product"):
        check_owner(site.store, site.problem)


@pytest.mark.parametrize("table", ["parcels", "parcels_classes", "parcels_generations"])
def test_a_table_of_another_problem_is_refused(make_site: Callable[..., Site], table: str) -> None:
    make_site("multiclass").publish(3, classes=True)
    other = make_site(name="letters", publish=f'table = "{table}"')

    with pytest.raises(ProblemError, match=f"publish.table '{table}' belongs to problem 'parcels'"):
        check_owner(other.store, other.problem)


def test_a_class_view_is_never_laid_over_another_problems_table(
    make_site: Callable[..., Site],
) -> None:
    make_site(name="letters", publish='table = "parcels_classes"').publish(3)
    site = make_site("multiclass")

    with pytest.raises(ProblemError, match="belongs to problem 'letters'"):
        check_owner(site.store, site.problem)


def test_other_columns_than_the_table_has_are_refused_before_a_row_is_written(site: Site) -> None:
    first = site.publish(3)

    with (
        site.store.hold("parcels") as hold,
        pytest.raises(ProblemError, match=r"'parcels_generations' has columns .*probability"),
    ):
        site.stage(hold, frame_of(4).drop(columns="probability"))

    assert site.shown() == {first}
    assert site.select("select count(*) from automl_generation") == [(1,)]


# ---------------------------------------------------------------- cleaning up


def state_of(site: Site) -> dict[int, tuple[str, int]]:
    """State and rows by generation."""
    rows = dict(
        site.select("select generation, count(*) from parcels_generations group by generation")
    )
    return {
        g: (state, rows.get(g, 0))
        for g, state in site.select("select id, state from automl_generation")
    }


def test_clean_removes_what_is_judged_beyond_keep_and_staged_by_the_dead(site: Site) -> None:
    weeks = [site.publish(5, week=week) for week in range(5)]
    for generation in weeks[:2]:
        site.store.judged(generation, 5, {"roc_auc": 0.7})
    with site.store.hold("parcels") as hold:
        dead = site.stage(hold, frame_of(5, week=5), week=5)

        removed = clean(site.store, hold, site.problem)

    assert removed == 3
    assert state_of(site) == {
        weeks[0]: ("removed", 0),
        weeks[1]: ("removed", 0),
        weeks[2]: ("published", 5),  # beyond keep, but nobody knows yet how it turned out
        weeks[3]: ("published", 5),
        weeks[4]: ("published", 5),
        dead: ("removed", 0),
    }
    assert site.shown() == {weeks[4]}


def test_clean_keeps_the_live_generation_however_many_backfills_follow(site: Site) -> None:
    live = site.publish(5, week=9)
    site.store.judged(live, 5, {})
    backfills = [site.publish(4, week=week) for week in range(4)]
    for generation in backfills:
        site.store.judged(generation, 4, {})

    with site.store.hold("parcels") as hold:
        clean(site.store, hold, site.problem)

    assert site.shown() == {live}
    assert site.select("select count(*) from parcels") == [(5,)]
    assert [state for state, _ in state_of(site).values()] == [
        "published",
        "removed",
        "removed",
        "published",
        "published",
    ]


def test_cleaning_again_removes_nothing_more(site: Site) -> None:
    for week in range(4):
        site.store.judged(site.publish(5, week=week), 5, {})
    with site.store.hold("parcels") as hold:
        assert clean(site.store, hold, site.problem) == 2
        before = state_of(site)

        assert clean(site.store, hold, site.problem) == 0

    assert state_of(site) == before


def test_clean_also_removes_probabilities_of_classes(make_site: Callable[..., Site]) -> None:
    site = make_site("multiclass")
    for week in range(3):
        site.store.judged(site.publish(2, week=week, classes=True), 2, {})

    with site.store.hold("parcels") as hold:
        clean(site.store, hold, site.problem)

    assert site.select(
        "select generation, count(*) from parcels_classes_generations group by 1"
    ) == [
        (2, 6),
        (3, 6),
    ]


def test_clean_leaves_other_problems_alone(make_site: Callable[..., Site]) -> None:
    other = make_site(name="letters")
    with other.store.hold("letters") as hold:
        other.stage(hold, frame_of(2))  # somebody is at work on it
    site = make_site()
    site.publish(2)

    with site.store.hold("parcels") as hold:
        clean(site.store, hold, site.problem)

    assert site.select("select problem, state from automl_generation order by id") == [
        ("letters", "staged"),
        ("parcels", "published"),
    ]


# ---------------------------------------------------------------- parquet copy


@pytest.fixture
def copied(make_site: Callable[..., Site]) -> Site:
    return make_site(publish='parquet = "copies"\nkeep = 2')


def folder_of(site: Site) -> Path:
    return site.store.workspace.root / "copies"


def commits(site: Site) -> list[int]:
    return sorted(int(p.stem) for p in (folder_of(site) / "_commits").iterdir())


def test_the_copy_holds_what_the_table_shows(copied: Site) -> None:
    generation = copied.publish(5)

    folder = export(copied.store, copied.problem)

    assert folder == folder_of(copied) / f"generation={generation}"
    pd.testing.assert_frame_equal(
        read_predictions(folder_of(copied)).drop(columns="scored_at"),
        read_generation(copied.store, copied.problem, generation).drop(columns="scored_at"),
        check_dtype=False,
    )
    live = copied.store.live("parcels")
    assert live is not None
    assert live["exported_at"] is not None


def test_readers_of_the_copy_get_the_newest_complete_generation(copied: Site) -> None:
    first = copied.publish(5)
    export(copied.store, copied.problem)
    second = copied.publish(7, week=1)
    half = folder_of(copied) / f"generation={second}"
    half.mkdir()
    (half / "part-0.parquet").write_bytes(b"half a file")

    assert set(read_predictions(folder_of(copied))["generation"]) == {first}
    export(copied.store, copied.problem)  # the interrupted copy is made again

    shown = read_predictions(folder_of(copied))
    assert set(shown["generation"]) == {second}
    assert len(shown) == 7


def test_a_commit_file_is_never_overwritten(copied: Site) -> None:
    generation = copied.publish(5)
    export(copied.store, copied.problem)
    commit = folder_of(copied) / "_commits" / f"{generation:012d}.json"
    written = commit.read_bytes(), commit.stat().st_ino, commit.stat().st_mtime_ns
    data = folder_of(copied) / f"generation={generation}" / "part-0.parquet"
    file = data.stat().st_ino

    export(copied.store, copied.problem)

    assert (commit.read_bytes(), commit.stat().st_ino, commit.stat().st_mtime_ns) == written
    assert data.stat().st_ino == file
    assert json.loads(written[0]) == {
        "generation": generation,
        "rows": 5,
        "files": [f"generation={generation}/part-0.parquet"],
    }
    assert sorted(p.name for p in folder_of(copied).iterdir()) == [
        "_commits",
        f"generation={generation}",
    ]


def test_copies_beyond_keep_are_removed_and_the_newest_stays_readable(copied: Site) -> None:
    generations = []
    for week in range(4):
        generations.append(copied.publish(5 + week, week=week))
        export(copied.store, copied.problem)

    assert commits(copied) == generations[-2:]
    assert sorted(p.name for p in folder_of(copied).glob("generation=*")) == [
        f"generation={g}" for g in generations[-2:]
    ]
    assert len(read_predictions(folder_of(copied))) == 8


def test_a_backfill_does_not_replace_the_copy_of_the_live_generation(copied: Site) -> None:
    live = copied.publish(5, week=5)
    export(copied.store, copied.problem)
    for week in range(3):  # more than are kept
        copied.publish(7, week=week)

        export(copied.store, copied.problem)

    assert set(read_predictions(folder_of(copied))["generation"]) == {live}


def test_without_a_copy_to_make_nothing_is_made(
    make_site: Callable[..., Site], copied: Site
) -> None:
    assert export(copied.store, copied.problem) is None  # nothing is live yet
    with pytest.raises(PredictError, match="no generation has been published here"):
        read_predictions(folder_of(copied))

    plain = make_site()
    plain.publish(3)
    assert export(plain.store, plain.problem) is None
    assert not folder_of(plain).exists()


def test_a_folder_that_cannot_be_written_is_told_and_mended_by_the_next_export(
    copied: Site,
) -> None:
    generation = copied.publish(5)
    folder_of(copied).write_text("a file where the folder should be")

    with pytest.raises(PredictError, match=r"publish\.parquet .*copies"):
        export(copied.store, copied.problem)
    live = copied.store.live("parcels")
    assert live is not None
    assert live["exported_at"] is None
    assert copied.shown() == {generation}

    folder_of(copied).unlink()
    export(copied.store, copied.problem)
    assert len(read_predictions(folder_of(copied))) == 5
