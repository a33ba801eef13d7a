"""What is kept in the store comes back as it was."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from automl.modeling.losses import BlockLoss
from automl.store import Store, naive
from automl.store import tables as t
from tests.support.store_rows import (
    MONDAY,
    NAME,
    WEEK,
    insert_release,
    make_loss,
    make_release,
    open_one,
)
from tests.support.store_rows import store as store  # a fixture


def add(store: Store, *losses: BlockLoss) -> None:
    with store.hold(NAME) as hold, store.commit(hold) as connection:
        store.add_evidence(connection, NAME, losses)


def test_trials_come_back_as_they_were_and_the_newest_of_a_recipe_stays(store: Store) -> None:
    cycle = open_one(store)
    store.save_trial(cycle, "r1", {"losses": [0.5], "status": "pruned"})
    store.save_trial(
        cycle, "r1", {"losses": [0.25, 0.125], "status": "complete", "score": float("nan")}
    )
    store.save_trial(cycle, "r2", {"losses": []})

    found = sorted(store.trials(cycle), key=lambda c: len(c["losses"]))

    assert found == [{"losses": []}, {"losses": [0.25, 0.125], "status": "complete", "score": None}]
    assert store.trials(open_one(store, attempt=2)) == []


def test_evidence_comes_back_as_it_was_oldest_cycle_first(store: Store) -> None:
    losses = [make_loss(cycle=MONDAY + WEEK), make_loss(blend="b", week=2, loss=1 / 3), make_loss()]

    add(store, *losses)

    found = store.evidence(NAME)
    assert sorted(found, key=str) == sorted(losses, key=str)
    assert [x.cycle for x in found] == [MONDAY, MONDAY, MONDAY + WEEK]
    assert store.evidence("other") == []


def test_a_repeated_cycle_replaces_its_own_evidence_and_no_other(store: Store) -> None:
    earlier = make_loss(cycle=MONDAY - WEEK, week=3)
    add(store, earlier, make_loss(), make_loss(blend="gone"))

    add(store, make_loss(loss=0.125))

    assert store.evidence(NAME) == [earlier, make_loss(loss=0.125)]


def test_evidence_of_a_version_without_metrics_takes_the_metric_of_the_oldest_that_has_one(
    store: Store,
) -> None:
    old, first, second = (make_loss(cycle=MONDAY + n * WEEK) for n in range(3))
    add(store, old)
    assert [x.metric for x in store.evidence(NAME)] == [""]

    add(store, replace(first, metric="log_loss"))
    add(store, replace(second, metric="roc_auc"))

    assert [x.metric for x in store.evidence(NAME)] == ["log_loss", "log_loss", "roc_auc"]


def test_a_loss_that_is_undefined_is_not_kept(store: Store) -> None:
    add(store, make_loss(), make_loss(blend="b", loss=float("nan")))

    assert store.evidence(NAME) == [make_loss()]


def test_a_release_comes_back_as_it_was(store: Store) -> None:
    release = make_release(MONDAY, 4)
    insert_release(store, release)

    found = store.champion(NAME)

    assert found is not None
    assert replace(found, id=0) == release
    store.projected(found)
    assert store.releases(NAME) == [replace(found, projected=True)]


@pytest.mark.parametrize(
    ("limits", "version"),
    [
        ({}, 3),
        ({"at": MONDAY + WEEK}, 2),
        ({"at": MONDAY + WEEK - timedelta(microseconds=1)}, 1),
        ({"at": MONDAY - timedelta(days=1)}, None),
        ({"before": MONDAY + WEEK}, 1),
        ({"before": MONDAY}, None),
        ({"at": MONDAY + 9 * WEEK, "before": MONDAY + 2 * WEEK}, 2),
    ],
)
def test_the_champion_is_the_newest_release_within_the_limits(
    store: Store, limits: dict[str, datetime], version: int | None
) -> None:
    for week in (
        2,
        0,
        1,
    ):  # the order in which they were made does not count: a backfill is not the champion
        insert_release(store, make_release(MONDAY + week * WEEK, week + 1))
    insert_release(store, make_release(MONDAY + 9 * WEEK, 99), problem="other")

    found = store.champion(NAME, **limits)

    assert (found.model_version if found else None) == version


def test_of_two_releases_of_one_as_of_the_later_decision_is_champion(store: Store) -> None:
    insert_release(store, make_release(MONDAY, 1))
    insert_release(store, make_release(MONDAY, 2))

    assert [r.model_version for r in store.releases(NAME)] == [2, 1]
    champion = store.champion(NAME)
    assert champion is not None
    assert champion.model_version == 2


def test_shadows_come_back_with_the_end_of_the_labels_that_chose_them(store: Store) -> None:
    blend = make_release(MONDAY, 1).blend
    with store.hold(NAME) as hold, store.commit(hold) as connection:
        row = {
            "problem": NAME,
            "blend_id": blend.id,
            "blend": blend.to_json(),
            "labels_until": naive(MONDAY),
        }
        connection.execute(t.shadow.insert().values(**row))

    assert store.shadows(NAME) == [(blend, MONDAY)]
    assert store.shadows("other") == []
