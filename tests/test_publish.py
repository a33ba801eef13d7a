"""Publishing: readers see one whole generation, always the same one until the pointer moves."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import psycopg
import pytest
import sqlalchemy as sa

from automl.errors import BusyError, PredictError, ProblemError
from automl.problem import Problem
from automl.publish import (
    KeySum,
    Origin,
    Piece,
    audit,
    check_owner,
    clean,
    discard,
    export,
    point,
    read_generation,
    read_predictions,
    stage,
    stage_pieces,
    sum_keys,
)
from automl.score import _former, _stand_by
from automl.spaces import Blend, Recipe
from automl.store import Hold, Release, Store, naive
from automl.store import tables as t
from automl.story import call
from automl.workspace import Workspace
from tests.postgres import PostgresServer

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


# ---------------------------------------------------------------- piece by piece


def pieces_of(frame: pd.DataFrame, rows: int) -> Iterator[Piece]:
    for start in range(0, len(frame), rows):
        yield frame.iloc[start : start + rows], None


def origin_of(week: int = 0, keys: KeySum | None = None) -> Origin:
    return Origin(RELEASE, (MONDAY + week * WEEK, MONDAY + (week + 1) * WEEK), "b" * 64, 1, keys)


def test_a_generation_written_in_pieces_is_the_one_written_at_once(site: Site) -> None:
    whole = site.publish(50)

    with site.store.hold("parcels") as hold:
        pieces = pieces_of(frame_of(50), 7)
        generation = stage_pieces(site.store, hold, site.problem, origin_of(1), pieces)
        audit(site.store, site.problem, generation)

    said = [read_generation(site.store, site.problem, g) for g in (whole, generation)]
    pd.testing.assert_frame_equal(
        *(f.drop(columns=["generation", "scored_at", "as_of"]) for f in said)
    )


def failing(pieces: Iterator[Piece]) -> Iterator[Piece]:
    yield next(pieces)
    raise PredictError("the second piece cannot be scored")


def test_half_a_generation_is_never_seen_and_cleaned_up(site: Site) -> None:
    first = site.publish(5)

    with site.store.hold("parcels") as hold:
        with pytest.raises(PredictError, match="the second piece"):
            stage_pieces(
                site.store, hold, site.problem, origin_of(1), failing(pieces_of(frame_of(50), 7))
            )
        assert state_of(site) == {first: ("published", 5), first + 1: ("staging", 7)}
        assert site.shown() == {first}

        clean(site.store, hold, site.problem)

    assert state_of(site) == {first: ("published", 5), first + 1: ("removed", 0)}


def test_another_writer_of_the_store_gets_its_turn_between_two_pieces(site: Site) -> None:
    turns = []

    def watched(pieces: Iterator[Piece]) -> Iterator[Piece]:
        for piece in pieces:
            with site.store.writer.begin() as connection:
                turns.append(connection.scalar(sa.text("select 1")))
            yield piece

    with site.store.hold("parcels") as hold:
        stage_pieces(
            site.store, hold, site.problem, origin_of(), watched(pieces_of(frame_of(9), 3))
        )

    assert turns == [1, 1, 1]


# ---------------------------------------------------------------- history


def history_of(site: Site) -> dict[int, int]:
    return dict(site.select("select generation, count(*) from parcels_history group by 1"))


def test_history_shows_all_that_was_published_and_nothing_staged(site: Site) -> None:
    weeks = [site.publish(5 + week, week=week) for week in range(2)]
    with site.store.hold("parcels") as hold:
        site.stage(hold, frame_of(9, week=2), week=2)

    assert history_of(site) == {weeks[0]: 5, weeks[1]: 6}


def test_history_keeps_as_it_was_made_what_retention_removes(site: Site) -> None:
    weeks = [site.publish(5 + week, week=week) for week in range(5)]
    query = "select * from parcels_history order by generation, parcel"
    before = site.select(query)
    for generation in weeks:
        site.store.judged(generation, 5, {})

    with site.store.hold("parcels") as hold:
        assert clean(site.store, hold, site.problem) == 3

    assert site.select("select distinct generation from parcels_generations") == [(4,), (5,)]
    assert site.select(query) == before
    assert history_of(site) == {g: 5 + week for week, g in enumerate(weeks)}


def test_history_of_classes_stays_too(make_site: Callable[..., Site]) -> None:
    site = make_site("multiclass")
    for week in range(4):
        site.store.judged(site.publish(2, week=week, classes=True), 2, {})

    with site.store.hold("parcels") as hold:
        clean(site.store, hold, site.problem)

    assert site.select("select generation, count(*) from parcels_classes_history group by 1") == [
        (g, 6) for g in (1, 2, 3, 4)
    ]


def test_a_store_without_history_gets_it_with_the_next_generation(site: Site) -> None:
    first = site.publish(5)
    with site.store.writer.begin() as connection:  # as an earlier version left it
        for statement in (
            "drop view parcels_history",
            "drop table parcels_past",
            "drop table automl_publication",
            "drop table automl_audit",
        ):
            connection.execute(sa.text(statement))

    check_owner(site.store, site.problem)
    second = site.publish(6, week=1)

    assert history_of(site) == {first: 5, second: 6}


# ---------------------------------------------------------------- on PostgreSQL


@pytest.fixture
def server(
    postgres: PostgresServer, make_problem: Callable[..., Problem], workspace: Workspace
) -> Site:
    end = 'origins = 2\n\n[publish]\nkeep = 2\nparquet = "copies"'
    problem = make_problem("multiclass", replace={"origins = 2": end})
    url = postgres.new_database()
    return ServerSite(Store(replace(workspace, database_url=url)), problem)


class ServerSite(Site):
    """A site in PostgreSQL."""

    def select(self, query: str) -> list[tuple]:
        url = self.store.workspace.database_url.replace("+psycopg", "")
        with psycopg.connect(url) as connection:
            return connection.execute(query).fetchall()


def test_postgres_holds_every_cell_as_it_was_predicted(server: Site) -> None:
    frame = frame_of(6, task="multiclass").assign(
        parcel=['a"b', "c,d", "e\nf", "g\\.", "ü 'h'", ""],
        low=[0.1, 1e-300, np.nan, -0.0, 1e300, 5],
    )
    with server.store.hold("parcels") as hold:
        generation = server.stage(hold, frame, classes=classes_of(frame))
        audit(server.store, server.problem, generation)
        server.point(hold, generation)

    told = server.select("select parcel, sent_at, prediction, probability, low, high from parcels")
    rows = pd.DataFrame(told, columns=frame.columns).set_index("parcel").loc[frame["parcel"]]
    wanted = frame.set_index("parcel")
    assert rows["probability"].tolist() == wanted["probability"].tolist()
    assert rows["prediction"].tolist() == wanted["prediction"].tolist()
    assert rows["sent_at"].tolist() == wanted["sent_at"].tolist()
    assert rows["low"].fillna(7).tolist() == wanted["low"].fillna(7).tolist()
    assert server.select("select count(*), count(high) from parcels") == [(6, 0)]
    assert server.select("select count(*) from parcels_classes") == [(18,)]


def test_postgres_keeps_history_and_copies_like_sqlite(server: Site) -> None:
    for week in range(4):
        server.store.judged(server.publish(3 + week, week=week, classes=True), 3, {})
        export(server.store, server.problem)
    with server.store.hold("parcels") as hold:
        assert clean(server.store, hold, server.problem) == 2

    assert server.select("select count(*) from parcels_generations") == [(5 + 6,)]
    counts = "select generation, count(*) from {} group by 1 order by 1"
    assert server.select(counts.format("parcels_history")) == [(1, 3), (2, 4), (3, 5), (4, 6)]
    assert server.select(counts.format("parcels_classes_history"))[0] == (1, 9)
    assert len(read_predictions(folder_of(server))) == 6
    pd.testing.assert_frame_equal(
        read_predictions(folder_of(server)),
        read_generation(server.store, server.problem, 4),
        check_dtype=False,
    )


def test_postgres_refuses_a_key_that_is_there_twice(server: Site) -> None:
    frame = pd.concat([frame_of(3, task="multiclass"), frame_of(1, task="multiclass")])

    with (
        server.store.hold("parcels") as hold,
        pytest.raises(sa.exc.IntegrityError, match="duplicate key"),
    ):
        server.stage(hold, frame)

    assert server.select("select count(*) from automl_generation") == [(0,)]


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


@pytest.mark.parametrize(
    ("harm", "found"),
    [
        ("prediction = prediction, probability = 1.25 where parcel = 11", "probabilities between .* and 1.25; wanted 0 to 1"),
        ("probability = -0.5 where parcel = 11", "probabilities between -0.5 and"),
        ("probability = 9e999 where parcel < 12", "found 2 values that are not finite"),
        ("probability = null where parcel = 11", r"1 empty predictions \(20.0%\)"),
        ("parcel = 99 where parcel = 12", "5 keys that are not those of the batch"),
    ],
)  # fmt: skip
def test_audit_refuses_what_no_model_may_say(site: Site, harm: str, found: str) -> None:
    site.publish(9)
    with site.store.hold("parcels") as hold:
        generation = site.stage(hold, frame_of(5, week=1), week=1)
    with site.store.writer.begin() as connection:
        connection.execute(
            sa.text(f"update parcels_generations set {harm} and generation = {generation}")
        )

    with pytest.raises(PredictError, match=found):
        audit(site.store, site.problem, generation)


def test_audit_refuses_other_keys_than_the_batch_has(site: Site) -> None:
    batch = sum_keys(frame_of(6), ["parcel"])
    with site.store.hold("parcels") as hold:
        pieces = pieces_of(frame_of(5), 3)  # a row has got lost on the way
        generation = stage_pieces(site.store, hold, site.problem, origin_of(0, batch), pieces)

    with pytest.raises(PredictError, match=r"found 5 rows, 5 keys, 0 empty .*; wanted 6 rows"):
        audit(site.store, site.problem, generation)


def publish_mean(site: Site, mean: float, week: int) -> int:
    with site.store.hold("parcels") as hold:
        frame = frame_of(100, week=week).assign(probability=mean)
        generation = site.stage(hold, frame, week=week)
        audit(site.store, site.problem, generation)
        site.point(hold, generation)
    return generation


def test_a_jump_of_the_mean_is_told_and_refuses_nothing(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    for week, mean in enumerate([0.30, 0.32, 0.28, 0.31, 0.29, 0.33]):
        publish_mean(site, mean, week)
    assert "mean_jump" not in caplog.text

    far = publish_mean(site, 0.9, 6)

    assert "the mean prediction is 0.9, that of generation 6 is 0.33" in caplog.text
    assert site.shown() == {far}


def test_few_generations_say_nothing_about_a_jump(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    for week, mean in enumerate([0.30, 0.30, 0.30, 0.9]):
        publish_mean(site, mean, week)

    assert "mean_jump" not in caplog.text


def _without_primary_key(site: Site) -> None:
    """The same rows in a table that does not itself forbid what an audit must find."""
    with site.store.writer.begin() as connection:
        for statement in (
            "drop view parcels",
            "drop view parcels_history",
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


def staged_by(site: Site, hold: Hold, version: int, *, week: int) -> int:
    release = replace(RELEASE, model_version=version)
    origin = origin_of(week)._replace(release=release)
    return stage_pieces(site.store, hold, site.problem, origin, pieces_of(frame_of(5), 5))


def test_clean_keeps_the_former_versions_standby_for_the_live_batch_alone(site: Site) -> None:
    site.publish(5, week=0)
    live = site.publish(5, week=1)
    with site.store.hold("parcels") as hold:
        standby = staged_by(site, hold, 6, week=1)
        of_another_batch = staged_by(site, hold, 6, week=0)
        of_the_live_version = staged_by(site, hold, 7, week=1)

        assert clean(site.store, hold, site.problem) == 2

    states = {g: state for g, (state, _) in state_of(site).items()}
    assert states[standby] == "staged"
    assert {states[of_another_batch], states[of_the_live_version]} == {"removed"}
    assert site.shown() == {live}

    site.publish(5, week=2)
    with site.store.hold("parcels") as hold:
        clean(site.store, hold, site.problem)
    assert state_of(site)[standby] == ("removed", 0)


def test_what_is_discarded_was_never_published(site: Site) -> None:
    first = site.publish(5)
    with site.store.hold("parcels") as hold:
        second = site.stage(hold, frame_of(5, week=1), week=1)
        discard(site.store, hold, site.problem, second)
        with pytest.raises(AssertionError, match="never discarded"):
            discard(site.store, hold, site.problem, first)

    assert state_of(site) == {first: ("published", 5), second: ("removed", 0)}


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


# ---------------------------------------------------------------- who stands by


def release_row(site: Site, version: int, week: int) -> None:
    values = {"problem": "parcels", "as_of": naive(MONDAY + week * WEEK), "decision_id": 1}
    values |= {
        "model_version": version,
        "run_id": f"run{version}",
        "digests": {},
        "blend": RELEASE.blend.to_json(),
    }
    values |= {"fingerprint": "", "labels_until": naive(MONDAY), "released_at": naive(MONDAY)}
    with site.store.writer.begin() as connection:
        connection.execute(t.release.insert().values(**values))


def scored(site: Site, week: int) -> None:
    cycle = site.store.open_cycle("parcels", "score", MONDAY + week * WEEK, 1, "d")
    site.store.end_cycle(cycle, "published", "")


def former(site: Site, week: int) -> int | None:
    """The version that stands by while that week is scored."""
    as_of = MONDAY + week * WEEK
    job: Any = SimpleNamespace(store=site.store, problem=site.problem, as_of=as_of)
    champion = site.store.champion("parcels", at=as_of)
    assert champion is not None
    found = _former(job, champion)
    return None if found is None else found.model_version


def test_the_former_version_stands_by_for_three_scorings(site: Site) -> None:
    release_row(site, 1, week=0)
    assert former(site, 0) is None  # there is none
    release_row(site, 2, week=1)

    stood_by = []
    for week in range(1, 6):
        stood_by.append(former(site, week))
        scored(site, week)

    assert stood_by == [1, 1, 1, None, None]
    assert former(site, 0) is None  # a backfill of a time when there was none


def test_the_same_version_released_again_needs_no_standby(site: Site) -> None:
    for week in range(2):
        release_row(site, 1, week=week)

    assert former(site, 1) is None


def test_before_a_release_the_standing_champion_is_the_former_one(site: Site) -> None:
    release_row(site, 1, week=0)
    job: Any = SimpleNamespace(store=site.store, problem=site.problem, as_of=MONDAY + WEEK)

    found = _former(job, replace(RELEASE, id=0, as_of=MONDAY + WEEK, model_version=2))

    assert found is not None
    assert found.model_version == 1


def test_a_standby_that_fails_is_told_and_harms_nothing(
    site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    live = site.publish(5, week=1)
    release_row(site, 1, week=0)
    release_row(site, 2, week=1)
    champion = site.store.champion("parcels")
    assert champion is not None
    job: Any = SimpleNamespace(store=site.store, problem=site.problem, as_of=MONDAY + WEEK)

    def broken(*_: Any) -> None:
        raise MemoryError("no room for another model")

    monkeypatch.setattr("automl.score._stage_standby", broken)
    _stand_by(job, champion, live, call)

    assert "no standby: no room for another model [no_standby]" in caplog.text
    assert site.shown() == {live}


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
        "publication": generation,
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


def test_a_pointer_moved_to_an_older_generation_is_what_the_copy_answers_next(
    copied: Site,
) -> None:
    first, second = copied.publish(5), copied.publish(7)  # the same as_of, decided anew
    export(copied.store, copied.problem)
    with copied.store.hold("parcels") as hold:
        copied.point(hold, first)
    assert copied.shown() == {first}
    assert set(read_predictions(folder_of(copied))["generation"]) == {second}  # it may lag

    live = copied.store.live("parcels")
    assert live is not None
    assert live["exported_at"] is None  # so that the next command brings it up
    export(copied.store, copied.problem)

    assert set(read_predictions(folder_of(copied))["generation"]) == {first}
    assert commits(copied) == [second, second + 1]
    third = copied.publish(6, week=1)
    export(copied.store, copied.problem)
    assert set(read_predictions(folder_of(copied))["generation"]) == {third}
    assert commits(copied) == [second + 1, second + 2]


def test_a_copy_of_the_older_format_is_read_and_carried_on(copied: Site) -> None:
    first, second = copied.publish(5), copied.publish(7)
    export(copied.store, copied.problem)
    root = folder_of(copied)
    shutil.rmtree(root / "_commits")
    (root / "_commits").mkdir()
    for generation, rows in ((first, 5), (second, 7)):  # numbered by the generation
        folder = root / f"generation={generation}"
        folder.mkdir(exist_ok=True)
        frame = read_generation(copied.store, copied.problem, generation)
        frame.to_parquet(folder / "part-0.parquet", index=False)
        content = {
            "generation": generation,
            "rows": rows,
            "files": [f"{folder.name}/part-0.parquet"],
        }
        (root / "_commits" / f"{generation:012d}.json").write_text(json.dumps(content))
    with copied.store.writer.begin() as connection:
        connection.execute(sa.text("drop table automl_publication"))
    assert set(read_predictions(root)["generation"]) == {second}
    export(copied.store, copied.problem)
    assert commits(copied) == [first, second]

    with copied.store.hold("parcels") as hold:
        copied.point(hold, first)
    export(copied.store, copied.problem)

    assert set(read_predictions(root)["generation"]) == {first}
    assert commits(copied) == [second, second + 1]


def test_a_copy_in_several_files_is_one_generation(copied: Site) -> None:
    with copied.store.hold("parcels") as hold:
        pieces = pieces_of(frame_of(50), 4)
        generation = stage_pieces(copied.store, hold, copied.problem, origin_of(), pieces)
        copied.point(hold, generation)

    export(copied.store, copied.problem)

    assert len(list(folder_of(copied).glob("generation=*/*.parquet"))) == 13
    pd.testing.assert_frame_equal(
        read_predictions(folder_of(copied)),
        read_generation(copied.store, copied.problem, generation),
        check_dtype=False,
    )


def test_a_reader_whose_files_are_removed_reads_the_newest_commit_again(
    copied: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied.publish(5)
    export(copied.store, copied.problem)
    read = pd.read_parquet

    def overtaken(path: Path, **more: Any) -> pd.DataFrame:
        monkeypatch.setattr(pd, "read_parquet", read)
        for week in range(1, 4):
            copied.publish(5 + week, week=week)
            export(copied.store, copied.problem)
        return read(path, **more)

    monkeypatch.setattr(pd, "read_parquet", overtaken)

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
    folder_of(copied).write_text("a file where the folder should be")
    generation = copied.publish(5)

    with pytest.raises(PredictError, match=r"publish\.parquet .*copies"):
        export(copied.store, copied.problem)
    live = copied.store.live("parcels")
    assert live is not None
    assert live["exported_at"] is None
    assert copied.shown() == {generation}

    folder_of(copied).unlink()
    export(copied.store, copied.problem)
    assert len(read_predictions(folder_of(copied))) == 5
