"""Promotion regret: what a decision's rejected blend lost on the blocks after it, against the chosen one.

Fits nothing: only losses count that later cycles measured anyway, of champions, shadows, previous champions and
single recipes. What none of them measured is reported as not known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from statistics import fmean

from automl.modeling.losses import BlockLoss
from automl.promotion.evidence import duels
from automl.store import DecisionRecord

__all__ = ["Regret", "regret_of"]

# After a decision, one more than probation has cycles: what comes later is the work of later decisions
BLOCKS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Regret:
    """How a decision looks after the blocks that followed it.

    `gains` are relative, oldest block first: positive where the rejected blend lost less than the chosen one.
    """

    as_of: datetime
    outcome: str  # first | promote | revert | keep | stay | wait
    chosen: str  # blend ids
    rejected: str = ""  # of a promotion the champion before, else the best challenger; "": none
    gains: tuple[float, ...] = ()
    why_unknown: str = ""

    @property
    def gain(self) -> float | None:
        """Mean gain of the rejected blend; None if not known."""
        return fmean(self.gains) if self.gains else None

    @property
    def regret(self) -> float | None:
        """Relative loss that the other decision would have saved; None if not known."""
        return None if self.gain is None else max(0.0, self.gain)

    @property
    def right(self) -> bool | None:
        """Whether the rejected blend did no better; None if not known."""
        return None if self.gain is None else self.gain <= 0

    @property
    def in_words(self) -> str:
        """One sentence."""
        if self.gain is None:
            return f"not known: {self.why_unknown}"
        count = f"{len(self.gains)} block{'s' if len(self.gains) > 1 else ''}"
        lost = f"lost {abs(self.gain):.2%} {'less' if self.gain > 0 else 'more'}"
        found = "right" if self.right else "wrong"
        return f"on {count} since, the rejected {self.rejected} {lost}: the decision was {found}"


def regret_of(
    decision: DecisionRecord,
    chosen: str,
    former: str,
    known: datetime,
    losses: Sequence[BlockLoss],
) -> Regret:
    """Score a past decision again.

    Parameters
    ----------
    decision
        As it was recorded.
    chosen, former
        Ids of the blend that it released or kept, and of the champion before it; "" without one.
    known
        End of the labels that the decision knew: blocks that begin earlier do not count.
    losses
        All evidence of the problem; losses of later cycles on later blocks are picked here. Two blends are compared
        on a block within one cycle alone, where both were fitted on the same rows.
    """
    rejected = _rejected(decision, chosen, former)
    regret = Regret(
        as_of=decision.as_of, outcome=decision.outcome, chosen=chosen, rejected=rejected
    )
    if not rejected:
        return replace(regret, why_unknown="nothing was rejected")
    later = [e for e in losses if e.start >= known and e.cycle > decision.as_of]
    if not later:
        return replace(regret, why_unknown="no block after it was scored yet")
    starts = sorted({e.start for e in later})[:BLOCKS]
    duel = next((d for d in duels(later, chosen) if d.challenger == rejected), None)
    pairs = sorted(zip(duel.blocks, duel.gains, strict=True)) if duel else []
    gains = tuple(gain for start, gain in pairs if start in starts)
    if not gains:
        why = f"no later cycle scored both {chosen} and {rejected} on a new block"
        return replace(regret, why_unknown=why)
    return replace(regret, gains=gains)


def _rejected(decision: DecisionRecord, chosen: str, former: str) -> str:
    """The blend that the other decision would have put in place."""
    if decision.outcome in ("promote", "revert") and former and former != chosen:
        return former
    verdicts = [v for v in decision.content.get("verdicts", ()) if v["challenger"] != chosen]
    known = [v for v in verdicts if v.get("shrunk") is not None]
    best = max(known, key=lambda v: float(v["shrunk"]), default=None)
    return str(best["challenger"]) if best else ""
