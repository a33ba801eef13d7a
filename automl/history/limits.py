"""Refuse a pull of which too many rows do not fit or none is left; account for what was left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from automl.errors import HistoryError
from automl.history.rows.names import correction_warnings
from automl.history.rows.quarantine import Reason
from automl.history.rows.shaping import Shaper
from automl.history.storage.snapshots import Snapshot
from automl.problem import Problem

__all__ = ["accounted", "empty_batch", "first_reason", "nothing_left", "within_limit"]

SMALL_INCREMENT = 10  # rows of an increment that may be set aside, whatever their share of it
_ADVICE = {
    "bad_time": "Write times in ISO 8601, such as 2026-03-02 14:30, or with an offset 2026-03-02T14:30+01:00.",
    "kind_changed": "Fix the source, or accept the change: automl contract FILE --accept",
    "duplicate_key": "Return one row per key, or name updated_at so that the newest version wins.",
    "infinite_target": "Fix them in the source, or exclude them in history.query.",
    "null_key": "Return rows with a key only, or choose another history.key.",
}


def within_limit(problem: Problem, shaper: Shaper, count: int, *, stored: int = 0) -> None:
    """Refuse if too large a share of the rows had to be set aside: `count`, of those known at as_of.

    A small increment to `stored` rows may have a few bad rows without stopping the cycle.

    Raises
    ------
    HistoryError
        More than `history.quarantine` of the rows do not fit.
    """
    limit = problem.history.quarantine
    total = shaper.taken + shaper.dropped["no_label"] + count
    if count and count > max(limit * total, min(SMALL_INCREMENT, limit * stored)):
        worst = max(shaper.reasons, key=lambda r: (shaper.reasons[r], r))
        reasons = "; ".join(
            r.describe(n) for r, n in sorted(shaper.reasons.items(), key=lambda i: -i[1])[:5]
        )
        raise HistoryError(
            f"{reasons} ({count} of {total} rows do not fit; at most {limit:.1%} are set aside)",
            code=worst.code,
            next_step=_advice(problem, worst),
        )


def _advice(problem: Problem, reason: Reason) -> str:
    h = problem.history
    fixed = [h.weight, h.label_time, *([h.target] if problem.task != "multiclass" else [])]
    if reason.code == "kind_changed" and reason.column in fixed:
        return "Fix the source, or convert the column in history.query."
    return _ADVICE.get(reason.code, "Fix the source, or raise history.quarantine.")


def first_reason(problem: Problem, shaper: Shaper, code: str) -> HistoryError:
    """The error for a batch with rows that were set aside for the reason `code`."""
    reason, count = next((r, n) for r, n in shaper.reasons.items() if r.code == code)
    return HistoryError(
        f"batch of {problem.name}: {reason.describe(count)}", code=code, next_step=_ADVICE[code]
    )


def nothing_left(problem: Problem, as_of: datetime, shaper: Shaper) -> HistoryError:
    """The error for a history without a labelled row at `as_of`, with the reasons."""
    why = ", ".join(f"{n} {reason.replace('_', ' ')}" for reason, n in shaper.dropped.items() if n)
    nothing = "the query returns no row" if problem.history.source else "the source is empty"
    span = (
        f"{shaper.seen} rows from {shaper.span[0]} to {shaper.span[1]}"
        if shaper.span
        else "no rows at all"
    )
    return HistoryError(
        f"history: found {span}; none is labelled at {as_of:%Y-%m-%d %H:%M} ({why or nothing})",
        code="no_history",
        next_step=f"Check history.target {problem.history.target!r}, history.time and --as-of.",
    )


def empty_batch(problem: Problem, as_of: datetime, until: datetime, shaper: Shaper) -> HistoryError:
    """The error for a batch without a row between `as_of` and `until`, with the reasons."""
    name = problem.history.time
    if shaper.dropped["updated_after_as_of"] and shaper.span:
        count = shaper.dropped["updated_after_as_of"]
        return HistoryError(
            f"batch: found {count} rows, all with {problem.history.updated_at} >= {as_of:%Y-%m-%d %H:%M}",
            code="empty_batch",
            next_step="Give a later --as-of, or load the coming rows before it.",
        )
    span = f"rows from {shaper.span[0]} to {shaper.span[1]}" if shaper.span else "no rows at all"
    return HistoryError(
        f"batch: found {span}; wanted rows with "
        f"{as_of:%Y-%m-%d %H:%M} <= {name} < {until:%Y-%m-%d %H:%M}",
        code="empty_batch",
        next_step="Check that the coming rows are already in the source, or give another --as-of.",
    )


def accounted(snapshot: Snapshot, shaper: Shaper, names: Sequence[str]) -> Snapshot:
    """The snapshot with counts of what its pull left out or corrected; `names` are the source's columns."""
    quarantined: Counter[str] = Counter()
    for reason, count in shaper.reasons.items():
        quarantined[reason.code] += count
    return replace(
        snapshot,
        dropped={reason: count for reason, count in shaper.dropped.items() if count},
        quarantined=dict(quarantined),
        unused=dict(shaper.layout.unused) if shaper.layout else {},
        gaps={name: sorted(texts) for name, texts in sorted(shaper.gaps.items())},
        offered=tuple(names),
        warnings=tuple(
            correction_warnings(
                shaper.corrections, shaper.gaps, zone=shaper.problem.history.timezone
            )
        ),
    )
