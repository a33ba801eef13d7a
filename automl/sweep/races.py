"""One recipe on its way over the blocks: its scores so far, when it is stopped, and the trial it ends as."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from automl.modeling.recipes import Params
from automl.modeling.training import FitResult
from automl.sweep.leaderboard import Trial, means
from automl.sweep.proposals import Proposal

__all__ = ["BUDGET_ENDED", "OUT_OF_TIME", "Race"]

# Relative loss behind the incumbent on the same blocks that ends a race. Start points may stand in for a
# champion together, so they get a wider margin
PRUNE_MARGIN, START_MARGIN = 0.05, 0.5
# Seconds of a fit grow with this power of its rows: part of a fit does not grow with them
REFIT_GROWTH = 0.9
BUDGET_ENDED = "the budget ended"
OUT_OF_TIME = "out of time"  # how the reason of a fit begins that was killed at its own limit


@dataclass(slots=True, kw_only=True)
class Race:
    """A recipe that is being evaluated block by block, newest first."""

    number: int
    proposal: Proposal
    weights: Sequence[float] = ()  # of all blocks, newest first
    losses: list[float] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    also: list[dict[str, float]] = field(default_factory=list)
    learned: Params | None = None
    seconds: float = 0.0
    seconds_fit: float = 0.0
    seconds_predict: float = 0.0

    @property
    def block(self) -> int:
        """The number of its next block."""
        return len(self.losses)

    def record_newest(self, result: FitResult, n_rows: int) -> None:
        """Take learned params and times from the fit on the newest block."""
        self.learned, self.seconds_fit = result.learned, result.seconds_fit
        self.seconds_predict = 1000 * result.seconds_predict / max(1, n_rows)

    def record_scores(self, score: float, loss: float, also: Mapping[str, float]) -> None:
        """Append the scores of a block."""
        self.scores.append(score)
        self.losses.append(loss)
        self.also.append(dict(also))

    def behind(self, complete: Sequence[Trial]) -> bool:
        """Whether it is too far behind the best complete trial on the same blocks.

        Carried recipes are never stopped, nor the first complete trial of a family.
        """
        family, source = self.proposal.recipe.family, self.proposal.source
        if source == "carried" or all(t.recipe.family != family for t in complete):
            return False
        incumbent = min(complete, key=lambda t: t.loss).losses[: len(self.losses)]
        gaps = [
            (loss - best) / max(best, 1e-12)
            for loss, best in zip(self.losses, incumbent, strict=True)
        ]
        return float(np.mean(gaps)) > (START_MARGIN if source == "start" else PRUNE_MARGIN)

    def trial(self, status: str, result: FitResult, *, grown: float, elapsed: float) -> Trial:
        """The trial it ends as.

        Parameters
        ----------
        grown
            All rows over the rows of a fit.
        elapsed
            Wall clock of the sweep, in seconds.
        """
        return Trial(
            number=self.number,
            recipe=self.proposal.recipe,
            source=self.proposal.source,
            status=status,
            losses=tuple(self.losses),
            scores=tuple(self.scores),
            weights=tuple(self.weights),
            also=means(self.also, self.weights),
            learned=self.learned or {},
            seconds=self.seconds,
            seconds_fit=self.seconds_fit,
            seconds_predict=self.seconds_predict,
            seconds_refit=self.seconds_fit * grown**REFIT_GROWTH,
            elapsed=elapsed,
            reason="" if status == "complete" else result.error,
            trace=result.trace,
        )
