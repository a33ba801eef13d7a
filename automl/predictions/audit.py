"""What must hold of a generation before anybody sees it, read back from where it stands."""

from __future__ import annotations

import logging
from statistics import stdev
from typing import NamedTuple

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from automl.errors import PredictError
from automl.predictions.bulk_load import read_rows
from automl.predictions.key_checksum import KeySum, hash_keys
from automl.predictions.tables import audited, key_of, reflected
from automl.problem import Problem
from automl.store import Store
from automl.store import tables as t

__all__ = ["audit", "was_audited"]

JUMP = 6.0  # standard deviations; calm weeks and holidays stay below, a broken feed does not
FEWEST_MEANS = 5  # past generations that a standard deviation needs to say anything
_SAID, _EMPTY = "automl:said", "automl:empty"  # beside key columns of any name
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


def was_audited(store: Store, generation: int) -> bool:
    """Whether a generation has passed its audit."""
    query = sa.select(audited.c.found).where(audited.c.generation == generation)
    with store.engine.connect() as connection:
        return connection.scalar(query) is not None


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
    table, key = reflected(connection, f"{problem.table}_generations"), key_of(problem)
    chance = "probability" in table.c
    said = table.c.probability if chance else table.c.prediction
    empty = sa.case((table.c.prediction.is_(None) | said.is_(None), 1), else_=0)
    columns = [*(table.c[k] for k in key), said.label(_SAID), empty.label(_EMPTY)]
    hashes, values = [np.empty(0, "uint64")], [np.empty(0)]
    gaps = 0
    for part in read_rows(connection, table, columns, generation):
        hashes.append(hash_keys(part, key))
        values.append(part[_SAID].to_numpy("float64"))
        gaps += int(part[_EMPTY].sum())
    keys, different = _add_up(np.concatenate(hashes))
    numbers = np.concatenate(values)
    finite = numbers[np.isfinite(numbers)]
    low, high = (
        (float(finite.min()), float(finite.max())) if chance and len(finite) else (None,) * 2
    )
    return _Found(
        rows=keys.rows,
        keys=different,
        keys_told=str(keys),
        empty=gaps,
        infinite=int(np.isinf(numbers).sum()),
        low=low,
        high=high,
        mean=float(finite.mean()) if len(finite) else None,
    )


def _add_up(hashes: NDArray[np.uint64]) -> tuple[KeySum, int]:
    """Hashed keys as one number, and how many of them differ."""
    total = int(hashes.sum(dtype="uint64"))
    hashes.sort()
    different = int(len(hashes) > 0) + int(np.count_nonzero(hashes[1:] != hashes[:-1]))
    return KeySum(len(hashes), total), different


def _warn_of_jump(store: Store, problem: Problem, found: _Found) -> None:
    """Assumes that means of past generations scatter around one level; with a trend it warns later."""
    live = store.live(problem.table)
    if live is None or found.mean is None:
        return
    past = _means(store, problem)
    before = past.get(live.id)
    if before is None or len(past) < FEWEST_MEANS:
        return
    spread = stdev(past.values())
    if abs(found.mean - before) > JUMP * spread:
        times = f"{abs(found.mean - before) / spread:.1f} standard" if spread else "more than any"
        _log.warning(
            "the mean prediction is %.6g, that of generation %d is %.6g: %s deviations of past "
            "generations' means; wanted at most %g [mean_jump]",
            found.mean,
            live.id,
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
