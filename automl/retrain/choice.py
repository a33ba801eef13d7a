"""What a cycle is about to release and why, and what `automl why` shows of it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from operator import attrgetter
from typing import Any

from automl.modeling.recipes import Blend
from automl.promotion.decide import Decision, Verdict
from automl.promotion.release import PendingDecision
from automl.retrain.case import Case, Dated
from automl.store import Release
from automl.sweep import Leaderboard, Work, blend_outputs
from automl.workspace import day_of

__all__ = ["Choice", "content", "mean_score", "next_shadows"]

shrunk_gain = attrgetter("shrunk")  # of a verdict


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Choice:
    """What a cycle is about to release, and why; nothing of it is effective yet.

    Its `decision` is the verdict on the evidence alone: promote or keep. `outcome` and `blend` are what this
    cycle makes of it: also a first model, a return to the previous champion, or a wait for review.
    """

    decision: Decision
    outcome: str  # first | promote | revert | keep | stay
    blend: Blend
    labels_until: datetime
    pending: PendingDecision
    losses: dict[str, float]  # of the chosen blend and of the baseline, on the newest block
    watched: Blend | None = None  # that the chosen blend is compared with while on probation
    stays: Release | None = None  # the champion, where it is not refitted (outcome stay)

    @property
    def verdict(self) -> Verdict | None:
        """What the evidence says about the chosen blend, or else about the best challenger."""
        verdicts = self.decision.verdicts
        chosen = [v for v in verdicts if v.challenger == self.decision.blend]
        ranked = chosen or sorted(verdicts, key=shrunk_gain, reverse=True)
        return ranked[0] if ranked else None


def mean_score(work: Work, blend: Blend) -> float:
    """Mean score of a blend over the blocks; NaN if a member has no predictions of them."""
    outputs = blend_outputs(work, blend)
    if not outputs:
        return float("nan")
    return float(sum(block.score(work.metric) for block in outputs) / len(outputs))


def next_shadows(case: Case, decision: Decision) -> list[Dated]:
    """Blends that may become champion on the next block, best first."""
    ranked = sorted(decision.verdicts, key=shrunk_gain, reverse=True)
    names = [v.challenger for v in ranked if v.challenger != decision.blend and v.shrunk > 0]
    return [case.candidates[name] for name in names]


def content(
    case: Case, leaderboard: Leaderboard, decision: Decision, outcome: str
) -> dict[str, Any]:
    """The evidence of a decision as a JSON object."""
    blends = dict(case.candidates)
    if case.watched:
        blends.setdefault(case.watched.blend.id, case.dated(case.watched.blend.id))
    return {
        "outcome": outcome,
        "blends": {
            name: {"text": str(blend), "labels_until": f"{until:%Y-%m-%d %H:%M}"}
            for name, (blend, until) in blends.items()
        },
        "verdicts": [asdict(v) for v in decision.verdicts],
        "blocks": [
            {
                "block": day_of(e.start),
                "until": day_of(e.end),  # a merged block is longer than others
                "blend": e.blend,
                "loss": e.loss,
                "rows": e.rows,
                "kind": e.kind,
            }
            for e in case.losses
        ],
        "sweep": {
            "trials": len(leaderboard.trials),
            "stopped": leaderboard.stopped,
            "seconds": round(leaderboard.seconds, 1),
            "fit_seconds": round(leaderboard.fit_seconds, 1),
            "rows": leaderboard.rows,
        },
    }
