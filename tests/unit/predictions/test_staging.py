"""Publishing: readers see one complete generation, the same until the pointer moves."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pandas as pd
import psycopg
import pytest
import sqlalchemy as sa

from automl.errors import BusyError, PredictError
from automl.predictions import (
    Predictions,
    audit,
    check_owner,
    clean,
    export,
    point,
    read_generation,
    read_predictions,
    stage_pieces,
)
from automl.problem import Problem
from automl.store import Hold, Store
from automl.workspace import Workspace
from tests.support.postgres import PostgresServer
from tests.support.sites import (
    MONDAY,
    STAMPS,
    Site,
    classes_of,
    folder_of,
    frame_of,
    pieces_of,
    provenance_of,
    state_of,
)
from tests.support.sites import make_site as make_site
from tests.support.sites import site as site

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


def test_a_published_row_is_the_predicted_row_with_its_stamps(site: Site) -> None:
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
        observed = json.loads(reader.communicate(timeout=30)[0])
    finally:
        reader.kill()

    assert observed["polls"] > 30
    assert len(observed["seen"]) > 5  # it read while generations changed
    for rows, distinct, lowest, highest in observed["seen"]:
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
    assert [g.id for g in site.store.generations("parcels")] == [first]


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
    assert {g.id: g.state for g in site.store.generations("parcels")} == {
        newest: "published",
        older: "published",
    }

    again = site.publish(7, week=3)  # the same as_of, decided again
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


def test_a_generation_that_comes_back_keeps_the_time_of_its_first_publication(site: Site) -> None:
    first, second = site.publish(5), site.publish(7)
    times = {g.id: g.published_at for g in site.store.generations("parcels")}

    with site.store.hold("parcels") as hold:
        site.point(hold, first)

    assert site.shown() == {first}
    assert {g.id: g.published_at for g in site.store.generations("parcels")} == times
    assert None not in times.values()
    assert times.keys() == {first, second}


# ---------------------------------------------------------------- piece by piece


def test_a_generation_written_in_pieces_is_the_one_written_at_once(site: Site) -> None:
    whole = site.publish(50)

    with site.store.hold("parcels") as hold:
        pieces = pieces_of(frame_of(50), 7)
        generation = stage_pieces(site.store, hold, site.problem, provenance_of(1), pieces)
        audit(site.store, site.problem, generation)

    generations = [read_generation(site.store, site.problem, g) for g in (whole, generation)]
    pd.testing.assert_frame_equal(
        *(f.drop(columns=["generation", "scored_at", "as_of"]) for f in generations)
    )


def failing(pieces: Iterator[Predictions]) -> Iterator[Predictions]:
    yield next(pieces)
    raise PredictError("the second piece cannot be scored")


def test_a_partial_generation_is_never_visible_and_is_removed(site: Site) -> None:
    first = site.publish(5)

    with site.store.hold("parcels") as hold:
        with pytest.raises(PredictError, match="the second piece"):
            stage_pieces(
                site.store,
                hold,
                site.problem,
                provenance_of(1),
                failing(pieces_of(frame_of(50), 7)),
            )
        assert state_of(site) == {first: ("published", 5), first + 1: ("staging", 7)}
        assert site.shown() == {first}

        clean(site.store, hold, site.problem)

    assert state_of(site) == {first: ("published", 5), first + 1: ("removed", 0)}


def test_another_writer_can_write_between_two_pieces(site: Site) -> None:
    turns = []

    def watched(pieces: Iterator[Predictions]) -> Iterator[Predictions]:
        for piece in pieces:
            with site.store.writer.begin() as connection:
                turns.append(connection.scalar(sa.text("select 1")))
            yield piece

    with site.store.hold("parcels") as hold:
        stage_pieces(
            site.store, hold, site.problem, provenance_of(), watched(pieces_of(frame_of(9), 3))
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


def test_history_keeps_removed_generations_unchanged(site: Site) -> None:
    weeks = [site.publish(5 + week, week=week) for week in range(5)]
    query = "select * from parcels_history order by generation, parcel"
    before = site.select(query)
    for generation in weeks:
        site.store.record_realised(generation, 5, {})

    with site.store.hold("parcels") as hold:
        assert clean(site.store, hold, site.problem) == 3

    assert site.select("select distinct generation from parcels_generations") == [(4,), (5,)]
    assert site.select(query) == before
    assert history_of(site) == {g: 5 + week for week, g in enumerate(weeks)}


def test_history_of_classes_is_kept_too(make_site: Callable[..., Site]) -> None:
    site = make_site("multiclass")
    for week in range(4):
        site.store.record_realised(site.publish(2, week=week, classes=True), 2, {})

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


def test_postgres_stores_every_cell_as_predicted(server: Site) -> None:
    frame = frame_of(6, task="multiclass").assign(
        parcel=['a"b', "c,d", "e\nf", "g\\.", "ü 'h'", ""],
        low=[0.1, 1e-300, np.nan, -0.0, 1e300, 5],
    )
    with server.store.hold("parcels") as hold:
        generation = server.stage(hold, frame, classes=classes_of(frame))
        audit(server.store, server.problem, generation)
        server.point(hold, generation)

    found = server.select("select parcel, sent_at, prediction, probability, low, high from parcels")
    rows = pd.DataFrame(found, columns=frame.columns).set_index("parcel").loc[frame["parcel"]]
    wanted = frame.set_index("parcel")
    assert rows["probability"].tolist() == wanted["probability"].tolist()
    assert rows["prediction"].tolist() == wanted["prediction"].tolist()
    assert rows["sent_at"].tolist() == wanted["sent_at"].tolist()
    assert rows["low"].fillna(7).tolist() == wanted["low"].fillna(7).tolist()
    assert server.select("select count(*), count(high) from parcels") == [(6, 0)]
    assert server.select("select count(*) from parcels_classes") == [(18,)]


def test_postgres_keeps_history_and_copies_like_sqlite(server: Site) -> None:
    for week in range(4):
        server.store.record_realised(server.publish(3 + week, week=week, classes=True), 3, {})
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


def test_postgres_refuses_a_duplicate_key(server: Site) -> None:
    frame = pd.concat([frame_of(3, task="multiclass"), frame_of(1, task="multiclass")])

    with (
        server.store.hold("parcels") as hold,
        pytest.raises(sa.exc.IntegrityError, match="duplicate key"),
    ):
        server.stage(hold, frame)

    assert server.select("select count(*) from automl_generation") == [(0,)]
