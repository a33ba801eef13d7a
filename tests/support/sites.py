"""A store and a problem that publishes into it, with predictions made up week by week."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from automl.modeling.recipes import Blend, Recipe
from automl.predictions import KeySum, Predictions, Provenance, audit, point, stage
from automl.problem import Problem
from automl.store import Hold, Release, Store
from automl.workspace import Workspace

MONDAY = datetime(2026, 3, 2, tzinfo=UTC)
WEEK = timedelta(weeks=1)
RELEASE = Release(
    id=1,
    as_of=MONDAY,
    model_version=7,
    run_id="run7",
    digests={},
    fingerprint="f" * 64,
    blend=Blend.single(Recipe("linear", {})),
    labels_until=MONDAY - WEEK,
    projected=True,
)
STAMPS = ["generation", "model_version", "run_id", "as_of", "scored_at"]
CLASSES = ["fine", "late", "lost"]


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


def pieces_of(frame: pd.DataFrame, rows: int) -> Iterator[Predictions]:
    """Predictions as `stage_pieces` takes them, `rows` at a time."""
    for start in range(0, len(frame), rows):
        yield frame.iloc[start : start + rows], None


def provenance_of(week: int = 0, keys: KeySum | None = None) -> Provenance:
    """Provenance of the predictions of a week."""
    window = MONDAY + week * WEEK, MONDAY + (week + 1) * WEEK
    return Provenance(release=RELEASE, window=window, batch="b" * 64, attempt=1, keys=keys)


def state_of(site: Site) -> dict[int, tuple[str, int]]:
    """State and rows by generation."""
    rows = dict(
        site.select("select generation, count(*) from parcels_generations group by generation")
    )
    return {
        g: (state, rows.get(g, 0))
        for g, state in site.select("select id, state from automl_generation")
    }


def folder_of(site: Site) -> Path:
    """Where a problem that asks for a parquet copy finds it."""
    return site.store.workspace.root / "copies"


@pytest.fixture
def make_site(make_problem: Callable[..., Problem], workspace: Workspace) -> Callable[..., Site]:
    def make(task: str = "binary", *, publish: str = "keep = 2", name: str = "parcels") -> Site:
        end = f"origins = 2\n\n[publish]\n{publish}"
        return Site(Store(workspace), make_problem(task, name=name, replace={"origins = 2": end}))

    return make


@pytest.fixture
def site(make_site: Callable[..., Site]) -> Site:
    return make_site()
