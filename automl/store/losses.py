"""Evidence in the store: losses of blends on blocks, as each cycle evaluated them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from math import isfinite

import sqlalchemy as sa

from automl.modeling.losses import BlockLoss
from automl.store import tables as t
from automl.store.database import Database
from automl.store.rows import aware, naive

__all__ = ["RECENT", "read", "recent_since", "write"]

RECENT = 200  # retrainings; an older one's evidence weighs 0.85 ** 200 = 1e-14 of the newest's


def read(
    store: Database,
    problem: str,
    *,
    blends: Sequence[str] = (),
    starting: datetime | None = None,
    since: datetime | None = None,
) -> list[BlockLoss]:
    """Evidence of a problem, oldest cycle first.

    Without narrowing all of it, which grows with every cycle. With `blends` that of these, on blocks from `starting` on if
    given; with `since` that of cycles from then on; with both what either finds.

    Evidence without a metric is older than any with one, and takes the metric of the oldest of these: that of
    the first cycle after the upgrade.
    """
    c = t.evidence.c
    query = sa.select(t.evidence).where(c.problem == problem).order_by(c.cycle)
    wanted: list[sa.ColumnElement[bool]] = []
    if blends:
        blocks = [c.start >= naive(starting)] if starting is not None else []
        wanted.append(sa.and_(c.blend.in_(blends), *blocks))
    if since is not None:
        wanted.append(c.cycle >= naive(since))
    rows = store._all(query.where(sa.or_(*wanted)) if wanted else query)
    oldest = next((r.metric for r in rows if r.metric), "")
    return [
        BlockLoss(
            cycle=aware(r.cycle),
            blend=r.blend,
            start=aware(r.start),
            end=aware(r.end),
            rows=r.rows,
            loss=r.loss,
            baseline_loss=r.baseline_loss,
            kind=r.kind,
            metric=r.metric or oldest,
        )
        for r in rows
    ]


def recent_since(store: Database, problem: str, before: datetime) -> datetime | None:
    """as_of of the two-hundredth newest retraining before a moment; None if there are fewer."""
    c = t.cycle.c
    query = sa.select(c.as_of).where(
        c.problem == problem, c.verb == "retrain", c.as_of < naive(before)
    )
    rows = store._all(query.order_by(c.as_of.desc()).offset(RECENT - 1).limit(1))
    return aware(rows[0].as_of) if rows else None


def write(connection: sa.Connection, problem: str, made: Sequence[BlockLoss]) -> None:
    """Append the losses of a cycle; a repeated cycle replaces its own, an undefined loss is left out."""
    for cycle_at in {loss.cycle for loss in made}:
        connection.execute(
            t.evidence.delete().where(
                t.evidence.c.problem == problem, t.evidence.c.cycle == naive(cycle_at)
            )
        )
    rows = [
        {
            "problem": problem,
            "cycle": naive(x.cycle),
            "blend": x.blend,
            "start": naive(x.start),
            "end": naive(x.end),
            "rows": x.rows,
            "loss": x.loss,
            "baseline_loss": x.baseline_loss,
            "kind": x.kind,
            "metric": x.metric or None,
        }
        for x in made
        if isfinite(x.loss)
    ]
    if rows:
        connection.execute(t.evidence.insert(), rows)
