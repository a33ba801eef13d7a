"""What is said of a pull's rows at the end: too many do not fit, nothing is left, or what was left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from automl.errors import HistoryError
from automl.history.rows.names import corrected_words
from automl.history.rows.shaping import Shaper
from automl.history.storage.snapshots import Snapshot
from automl.problem import Problem

__all__ = ["accounted", "empty_batch", "first_reason", "nothing_left", "within_limit"]

SMALL_INCREMENT = 10  # rows of an increment that may be set aside whatever their share of it
_ADVICE = {
    "bad_time": "Wanted ISO 8601, such as 2026-03-02 14:30, or with an offset 2026-03-02T14:30+01:00.",
    "kind_changed": "Mend the source, or take the change: automl contract FILE --accept",
    "duplicate_key": "Return one row per key, or name updated_at so that the newest version wins.",
    "infinite_target": "Mend them in the source, or leave them out in history.query.",
    "null_key": "Return rows with a key only, or choose another history.key.",
}


def within_limit(problem: Problem, shaper: Shaper, count: int, held: int = 0) -> None:
    """Refuse when too large a share of the rows that may be known had to be set aside.

    An increment to `held` rows may be small: a few bad rows of it are no reason to stop a cycle.

    Raises
    ------
    HistoryError
        More than `history.quarantine` of the rows do not fit.
    """
    limit = problem.history.quarantine
    known = shaper.taken + shaper.dropped["no_label"] + count
    if count and count > max(limit * known, min(SMALL_INCREMENT, limit * held)):
        worst = max(shaper.reasons, key=lambda r: (shaper.reasons[r], r))
        told = "; ".join(
            r.told(n) for r, n in sorted(shaper.reasons.items(), key=lambda i: -i[1])[:5]
        )
        raise HistoryError(
            f"{told} ({count} of {known} rows do not fit; at most {limit:.1%} are set aside)",
            code=worst.code,
            next_step=_ADVICE.get(worst.code, "Mend the source, or raise history.quarantine."),
        )


def first_reason(problem: Problem, shaper: Shaper, code: str) -> HistoryError:
    """A batch has rows that were set aside for the reason of that code."""
    reason, count = next((r, n) for r, n in shaper.reasons.items() if r.code == code)
    return HistoryError(
        f"batch of {problem.name}: {reason.told(count)}", code=code, next_step=_ADVICE[code]
    )


def nothing_left(problem: Problem, as_of: datetime, shaper: Shaper) -> HistoryError:
    """No labelled row may be known at `as_of`, and why."""
    why = ", ".join(f"{n} {reason.replace('_', ' ')}" for reason, n in shaper.dropped.items() if n)
    span = (
        f"{shaper.seen} rows from {shaper.span[0]} to {shaper.span[1]}"
        if shaper.span
        else "no rows at all"
    )
    return HistoryError(
        f"history: found {span}; none is labelled at {as_of:%Y-%m-%d %H:%M} ({why or 'source is empty'})",
        code="no_history",
        next_step=f"Check history.target {problem.history.target!r}, history.time and --as-of.",
    )


def empty_batch(problem: Problem, as_of: datetime, until: datetime, shaper: Shaper) -> HistoryError:
    """No row to predict lies between `as_of` and `until`, and why."""
    name = problem.history.time
    if shaper.dropped["updated_after_as_of"] and shaper.span:
        found = shaper.dropped["updated_after_as_of"]
        return HistoryError(
            f"batch: found {found} rows, all with {problem.history.updated_at} >= {as_of:%Y-%m-%d %H:%M}",
            code="empty_batch",
            next_step="Give a later --as-of, or load the coming rows before it.",
        )
    span = f"{shaper.span[0]} to {shaper.span[1]}" if shaper.span else "no rows at all"
    return HistoryError(
        f"batch: found {span}; wanted rows with "
        f"{as_of:%Y-%m-%d %H:%M} <= {name} < {until:%Y-%m-%d %H:%M}",
        code="empty_batch",
        next_step="Check that the coming rows are already in the source, or give another --as-of.",
    )


def accounted(snapshot: Snapshot, shaper: Shaper, names: Sequence[str]) -> Snapshot:
    """The snapshot, with what its pull left out or mended; `names` are all that the source offers."""
    counted: dict[str, int] = {}
    for reason, count in shaper.reasons.items():
        counted[reason.code] = counted.get(reason.code, 0) + count
    return replace(
        snapshot,
        dropped={reason: count for reason, count in shaper.dropped.items() if count},
        quarantined=counted,
        unused=dict(shaper.layout.unused) if shaper.layout else {},
        offered=tuple(names),
        warnings=tuple(corrected_words(shaper.mended, shaper.problem.history.timezone)),
    )
