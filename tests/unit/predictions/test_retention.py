"""Publishing: which generations are kept, and the standby for a rollback."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from automl.cycles.steps import call, step
from automl.predictions import clean, discard, stage_pieces
from automl.score import standby
from automl.score.standby import previous_release, try_standby
from automl.store import Hold, naive
from automl.store import tables as t
from tests.support.sites import (
    MONDAY,
    RELEASE,
    WEEK,
    Site,
    frame_of,
    pieces_of,
    provenance_of,
    state_of,
)
from tests.support.sites import make_site as make_site
from tests.support.sites import site as site

# ---------------------------------------------------------------- cleaning up


def test_clean_removes_scored_generations_beyond_keep_and_those_of_dead_runs(site: Site) -> None:
    weeks = [site.publish(5, week=week) for week in range(5)]
    for generation in weeks[:2]:
        site.store.record_realised(generation, 5, {"roc_auc": 0.7})
    with site.store.hold("parcels") as hold:
        dead = site.stage(hold, frame_of(5, week=5), week=5)

        removed = clean(site.store, hold, site.problem)

    assert removed == 3
    assert state_of(site) == {
        weeks[0]: ("removed", 0),
        weeks[1]: ("removed", 0),
        weeks[2]: ("published", 5),  # beyond keep, but its labels are not known yet
        weeks[3]: ("published", 5),
        weeks[4]: ("published", 5),
        dead: ("removed", 0),
    }
    assert site.shown() == {weeks[4]}


def test_clean_keeps_the_live_generation_however_many_backfills_follow(site: Site) -> None:
    live = site.publish(5, week=9)
    site.store.record_realised(live, 5, {})
    backfills = [site.publish(4, week=week) for week in range(4)]
    for generation in backfills:
        site.store.record_realised(generation, 4, {})

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
        site.store.record_realised(site.publish(5, week=week), 5, {})
    with site.store.hold("parcels") as hold:
        assert clean(site.store, hold, site.problem) == 2
        before = state_of(site)

        assert clean(site.store, hold, site.problem) == 0

    assert state_of(site) == before


def test_clean_also_removes_probabilities_of_classes(make_site: Callable[..., Site]) -> None:
    site = make_site("multiclass")
    for week in range(3):
        site.store.record_realised(site.publish(2, week=week, classes=True), 2, {})

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
    provenance = replace(provenance_of(week), release=release)
    return stage_pieces(site.store, hold, site.problem, provenance, pieces_of(frame_of(5), 5))


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


def test_a_published_generation_is_never_discarded(site: Site) -> None:
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
        other.stage(hold, frame_of(2))  # a run of the other problem is under way
    site = make_site()
    site.publish(2)

    with site.store.hold("parcels") as hold:
        clean(site.store, hold, site.problem)

    assert site.select("select problem, state from automl_generation order by id") == [
        ("letters", "staged"),
        ("parcels", "published"),
    ]


# ---------------------------------------------------------------- the standby


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
    """The standby version while that week is scored."""
    as_of = MONDAY + week * WEEK
    champion = site.store.champion("parcels", at=as_of)
    assert champion is not None
    found = previous_release(site.store, site.problem, champion, as_of)
    return None if found is None else found.model_version


def test_the_previous_version_is_the_standby_for_three_scorings(site: Site) -> None:
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


def test_before_a_release_the_current_champion_is_the_standby(site: Site) -> None:
    release_row(site, 1, week=0)
    champion = replace(RELEASE, id=0, as_of=MONDAY + WEEK, model_version=2)

    found = previous_release(site.store, site.problem, champion, MONDAY + WEEK)

    assert found is not None
    assert found.model_version == 1


def test_a_standby_that_fails_is_logged_and_changes_nothing(
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

    monkeypatch.setattr(standby, "stage_standby", step("stand by")(broken))
    try_standby(job, champion, live, call)

    assert "no standby: no room for another model [no_standby]" in caplog.text
    assert site.shown() == {live}
