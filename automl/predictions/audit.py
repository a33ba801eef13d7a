"""The audit of a staged generation before it may be published, read back from the database."""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass
from statistics import stdev

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from automl.errors import PredictError
from automl.predictions.bulk_load import read_rows
from automl.predictions.key_checksum import KeySum, hash_keys
from automl.predictions.tables import audit_record, key_of, reflected
from automl.problem import Problem
from automl.store import Store
from automl.store import tables as t

__all__ = ["audit", "was_audited"]

JUMP = 6.0  # standard deviations; holidays stay below it, a broken feed does not
MIN_MEANS = 5  # past generations that a standard deviation needs
_VALUE, _EMPTY = "automl:value", "automl:empty"  # no key column has such a name
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """What the audit counted."""

    rows: int
    keys: int  # distinct
    key_sum: str  # their `KeySum`
    empty: int  # rows without a prediction
    infinite: int
    low: float | None
    high: float | None
    mean: float | None


def audit(store: Store, problem: Problem, generation: int) -> None:
    """Check rows, keys, empty predictions and ranges of a staged generation; a jump of the mean only warns.

    Raises
    ------
    PredictError
        Rows are missing, the keys are not those of the batch, a key is duplicated, a prediction is
        empty or not finite, or a probability is outside 0 to 1.
    """
    with store.engine.connect() as connection:
        rows = connection.scalar(
            sa.select(t.generation.c.rows).where(t.generation.c.id == generation)
        )
        keys = connection.scalar(
            sa.select(audit_record.c.key_sum).where(audit_record.c.generation == generation)
        )
        found = _count(connection, problem, generation)
    mistakes = _mistakes(found, int(rows or 0), keys)
    if mistakes:
        raise PredictError(
            f"audit of generation {generation}: {'; '.join(mistakes)}",
            code="audit",
            next_step="Run the same command again; if the audit fails again, something else writes to the table.",
        )
    _warn_of_jump(store, problem, found)
    with store.writer.begin() as connection:
        connection.execute(
            audit_record.update()
            .where(audit_record.c.generation == generation)
            .values(mean=found.mean, found=asdict(found))
        )


def was_audited(store: Store, generation: int) -> bool:
    """Whether a generation has passed its audit."""
    query = sa.select(audit_record.c.found).where(audit_record.c.generation == generation)
    with store.engine.connect() as connection:
        return connection.scalar(query) is not None


def _mistakes(found: _Found, wanted: int, keys: str | None) -> list[str]:
    mistakes = []
    if not found.rows or found.rows != wanted or found.keys != wanted or found.empty:
        share = f" ({found.empty / found.rows:.1%})" if found.rows else ""
        mistakes.append(
            f"found {found.rows} rows, {found.keys} keys, {found.empty} empty predictions{share}; "
            f"wanted {wanted} rows, as many keys, none empty"
        )
    elif found.key_sum != keys:
        mistakes.append(f"found {found.keys} keys that differ from those of the batch")
    if found.infinite:
        mistakes.append(f"found {found.infinite} values that are not finite; wanted none")
    if found.low is not None and found.high is not None and not 0 <= found.low <= found.high <= 1:
        mistakes.append(
            f"found probabilities between {found.low:g} and {found.high:g}; wanted 0 to 1"
        )
    return mistakes


def _count(connection: sa.Connection, problem: Problem, generation: int) -> _Found:
    table, key = reflected(connection, f"{problem.table}_generations"), key_of(problem)
    classes = "probability" in table.c
    value = table.c.probability if classes else table.c.prediction
    empty = sa.case((table.c.prediction.is_(None) | value.is_(None), 1), else_=0)
    columns = [*(table.c[k] for k in key), value.label(_VALUE), empty.label(_EMPTY)]
    hashes, values = [np.empty(0, "uint64")], [np.empty(0)]
    n_empty = 0
    for part in read_rows(connection, table, columns, generation):
        hashes.append(hash_keys(part, key))
        values.append(part[_VALUE].to_numpy("float64"))
        n_empty += int(part[_EMPTY].sum())
    keys, distinct = _add_up(np.concatenate(hashes))
    numbers = np.concatenate(values)
    finite = numbers[np.isfinite(numbers)]
    low, high = (
        (float(finite.min()), float(finite.max())) if classes and len(finite) else (None,) * 2
    )
    return _Found(
        rows=keys.rows,
        keys=distinct,
        key_sum=str(keys),
        empty=n_empty,
        infinite=int(np.isinf(numbers).sum()),
        low=low,
        high=high,
        mean=float(finite.mean()) if len(finite) else None,
    )


def _add_up(hashes: NDArray[np.uint64]) -> tuple[KeySum, int]:
    """Hashed keys as one number, and how many are distinct."""
    total = int(hashes.sum(dtype="uint64"))
    hashes.sort()
    distinct = int(len(hashes) > 0) + int(np.count_nonzero(hashes[1:] != hashes[:-1]))
    return KeySum(len(hashes), total), distinct


def _warn_of_jump(store: Store, problem: Problem, found: _Found) -> None:
    """Warn if the mean jumps. Assumes that past means scatter around one level; with a trend it warns later."""
    live = store.live(problem.table)
    if live is None or found.mean is None:
        return
    past = _means(store, problem)
    before = past.get(live.id)
    if before is None or len(past) < MIN_MEANS:
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
    """Means of published generations, by id."""
    query = (
        sa.select(audit_record.c.generation, audit_record.c.mean)
        .join(t.generation, t.generation.c.id == audit_record.c.generation)
        .where(
            audit_record.c.problem == problem.name,
            audit_record.c.mean.is_not(None),
            t.generation.c.published_at.is_not(None),
        )
    )
    with store.engine.connect() as connection:
        return {row.generation: row.mean for row in connection.execute(query)}
