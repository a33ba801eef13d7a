"""A store, its cycles and its releases."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from automl.modeling.losses import BlockLoss
from automl.modeling.recipes import Blend, Member, Recipe
from automl.store import Cycle, Generation, Release, Store, naive
from automl.store import tables as t
from automl.workspace import Workspace

MONDAY = datetime(2026, 3, 2, 3, tzinfo=UTC)
WEEK = timedelta(weeks=1)
NAME = "parcels"


@pytest.fixture
def store(workspace: Workspace) -> Store:
    return Store(workspace)


def open_one(
    store: Store, *, as_of: datetime = MONDAY, attempt: int = 1, verb: str = "retrain"
) -> Cycle:
    return store.open_cycle(NAME, verb, as_of, attempt, "digest")


def make_release(as_of: datetime, version: int) -> Release:
    blend = Blend(
        (
            Member(Recipe("linear", {"C": 0.1}, 3, half_life=0.25), 0.75, {"rounds": 12}),
            Member(Recipe("knn", {}), 0.25),
        )
    )
    return Release(
        id=0,
        as_of=as_of,
        model_version=version,
        run_id=f"run{version}",
        digests={"MLmodel": "ab" * 32},
        fingerprint="f" * 64,
        blend=blend,
        labels_until=as_of - WEEK,
        projected=False,
    )


def make_generation(*, rows: int) -> Generation:
    """Predictions of version 1 for the week from Monday on."""
    return Generation(
        id=1,
        as_of=MONDAY,
        until=MONDAY + WEEK,
        attempt=1,
        model_version=1,
        run_id="run1",
        batch="ab" * 32,
        rows=rows,
        state="published",
        scored_at=MONDAY,
    )


def insert_release(store: Store, release: Release, *, problem: str = NAME) -> None:
    with store.writer.begin() as connection:
        connection.execute(
            t.release.insert().values(
                problem=problem,
                as_of=naive(release.as_of),
                decision_id=1,
                model_version=release.model_version,
                run_id=release.run_id,
                digests=dict(release.digests),
                fingerprint=release.fingerprint,
                blend=release.blend.to_json(),
                labels_until=naive(release.labels_until),
                released_at=naive(MONDAY),
            )
        )


def make_loss(
    *, cycle: datetime = MONDAY, blend: str = "a", week: int = 1, loss: float = 0.25
) -> BlockLoss:
    start = MONDAY - week * WEEK
    return BlockLoss(
        cycle=cycle,
        blend=blend,
        start=start,
        end=start + WEEK,
        rows=100,
        loss=loss,
        baseline_loss=0.5,
        kind="out_of_sample",
    )
