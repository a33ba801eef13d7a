"""What must hold of a generation before anybody sees it, read back from where it stands."""

from __future__ import annotations

import logging
from statistics import stdev
from typing import Any, NamedTuple

import numpy as np
import sqlalchemy as sa

from automl.errors import PredictError
from automl.problem import Problem
from automl.publish.keys import KeySum, hash_keys
from automl.publish.rows import read_columns
from automl.publish.tables import audited, key_of, reflected
from automl.store import Store
from automl.store import tables as t

__all__ = ["audit"]

LARGEST = np.finfo("float64").max  # beyond lies infinity; PostgreSQL counts NaN there too
JUMP = 6.0  # standard deviations; calm weeks and holidays stay below, a broken feed does not
FEWEST_MEANS = 5  # past generations that a standard deviation needs to say anything
_log = logging.getLogger(__name__)


class _Found(NamedTuple):
    """What was counted."""

    rows: int
    keys: int  # different ones
    keys_told: str  # their `KeySum`
    empty: int
    infinite: int
    low: float | None
    high: float | None
    mean: float | None


def audit(store: Store, problem: Problem, generation: int) -> None:
    """Read back what was staged: rows, keys, gaps, ranges; a jump of the mean is only told.

    Raises
    ------
    PredictError
        Rows are missing, the keys are not those of the batch or one is there twice, a prediction is
        empty or not finite, or a probability lies outside 0 to 1.
    """
    with store.engine.connect() as connection:
        rows = connection.scalar(
            sa.select(t.generation.c.rows).where(t.generation.c.id == generation)
        )
        keys = connection.scalar(
            sa.select(audited.c.key_sum).where(audited.c.generation == generation)
        )
        found = _count(connection, problem, generation)
    wrong = _mistakes(found, int(rows or 0), keys)
    if wrong:
        raise PredictError(f"audit of generation {generation}: {'; '.join(wrong)}", code="audit")
    _warn_of_jump(store, problem, found)
    with store.writer.begin() as connection:
        connection.execute(
            audited.update()
            .where(audited.c.generation == generation)
            .values(mean=found.mean, found=found._asdict())
        )


def _mistakes(found: _Found, wanted: int, keys: str | None) -> list[str]:
    wrong = []
    if not found.rows or found.rows != wanted or found.keys != wanted or found.empty:
        share = f" ({found.empty / found.rows:.1%})" if found.rows else ""
        wrong.append(
            f"found {found.rows} rows, {found.keys} keys, {found.empty} empty predictions{share}; "
            f"wanted {wanted} rows, as many keys, none empty"
        )
    elif found.keys_told != keys:
        wrong.append(f"found {found.keys} keys that are not those of the batch; wanted the same")
    if found.infinite:
        wrong.append(f"found {found.infinite} values that are not finite; wanted none")
    if found.low is not None and found.high is not None and not 0 <= found.low <= found.high <= 1:
        wrong.append(f"found probabilities between {found.low:g} and {found.high:g}; wanted 0 to 1")
    return wrong


def _count(connection: sa.Connection, problem: Problem, generation: int) -> _Found:
    table = reflected(connection, f"{problem.table}_generations")
    chance = table.c.probability if "probability" in table.c else None
    said = table.c.prediction if chance is None else chance
    empty = table.c.prediction.is_(None) | said.is_(None)
    edge = sa.literal(float(LARGEST), sa.Double)
    infinite = (said > edge) | (said < -edge)
    told = connection.execute(
        sa.select(
            sa.func.count(),
            sa.func.sum(sa.case((empty, 1), else_=0)),
            sa.func.sum(sa.case((infinite, 1), else_=0)),
            sa.func.min(said),
            sa.func.max(said),
            sa.func.avg(sa.case((~infinite, said))),
        ).where(table.c.generation == generation)
    ).one()
    keys, different = _count_keys(connection, problem, table, generation)
    low, high = (None, None) if chance is None else (_number(told[3]), _number(told[4]))
    return _Found(
        rows=told[0],
        keys=different,
        keys_told=str(keys),
        empty=int(told[1] or 0),
        infinite=int(told[2] or 0),
        low=low,
        high=high,
        mean=_number(told[5]),
    )


def _count_keys(
    connection: sa.Connection, problem: Problem, table: sa.Table, generation: int
) -> tuple[KeySum, int]:
    """The keys that stand there, and how many of them differ."""
    key = key_of(problem)
    hashes = [hash_keys(part, key) for part in read_columns(connection, table, key, generation)]
    every = np.concatenate([np.empty(0, "uint64"), *hashes])
    total = int(every.sum(dtype="uint64"))
    every.sort()
    different = len(every) and 1 + int(np.count_nonzero(every[1:] != every[:-1]))
    return KeySum(len(every), total), different


def _warn_of_jump(store: Store, problem: Problem, found: _Found) -> None:
    """Assumes that means of past generations scatter around one level; with a trend it warns later."""
    live = store.live(problem.table)
    if live is None or found.mean is None:
        return
    past = _means(store, problem)
    before = past.get(live["id"])
    if before is None or len(past) < FEWEST_MEANS:
        return
    spread = stdev(past.values())
    if abs(found.mean - before) > JUMP * spread:
        times = f"{abs(found.mean - before) / spread:.1f} standard" if spread else "more than any"
        _log.warning(
            "the mean prediction is %.6g, that of generation %d is %.6g: %s deviations of past "
            "generations' means; wanted at most %g [mean_jump]",
            found.mean,
            live["id"],
            before,
            times,
            JUMP,
        )


def _means(store: Store, problem: Problem) -> dict[int, float]:
    """Means of the generations that were published, by id."""
    query = (
        sa.select(audited.c.generation, audited.c.mean)
        .join(t.generation, t.generation.c.id == audited.c.generation)
        .where(
            audited.c.problem == problem.name,
            audited.c.mean.is_not(None),
            t.generation.c.published_at.is_not(None),
        )
    )
    with store.engine.connect() as connection:
        return {row.generation: row.mean for row in connection.execute(query)}


def _number(value: Any) -> float | None:
    return None if value is None else float(value)
