"""What the evidence promised of a champion, and how its published predictions did against that.

A promise is the loss of the champion's blend on past blocks, out-of-sample where there is such evidence, and its
noise from block to block. Reads the store alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from math import exp, isfinite, log, sqrt

from scipy.special import stdtrit

from automl.modeling.losses import DISCOUNT, BlockLoss, Evidence
from automl.problem import HIGHER_IS_BETTER, Problem
from automl.store import Generation, Release, Store

__all__ = ["LiveLoss", "Promise", "evidence_of", "live_losses", "promise_of"]

USUAL_NOISE = 0.1  # standard deviation of a block's log loss, before anything is measured
NOISE_WORTH = 4  # blocks that the usual noise counts for
LEAST_NOISE = 0.01
YOUNG = 80  # blocks; the weight of an older one is 0.85 ** 80 = 2e-6
LEAST_LOSS = 1e-6  # below, a ratio of losses says nothing
LEAST_ROWS = 30  # labelled rows of a generation; fewer are no block
DEGRADED = 0.005  # share of champions as good as promised that are called worse than that


@dataclass(frozen=True, slots=True, kw_only=True)
class Promise:
    """Loss of a blend as the evidence has it, and the noise of one block around it."""

    loss: float
    noise: float  # standard deviation of the log loss of a block
    blocks: float  # that the loss is the mean of, discounted by age
    freedom: float  # of the noise
    kind: Evidence

    @property
    def limits(self) -> tuple[float, float]:
        """Between these losses lies the next block, in all but one in a hundred cases.

        A prediction interval of log-normal losses: log L +- t sd sqrt(1 + 1 / n) (Hahn and Meeker 1991,
        "Statistical Intervals", 4.7). Assumes that the blocks to come are like those of the evidence.
        """
        wide = float(stdtrit(self.freedom, 1 - DEGRADED)) * self._spread
        return self.loss * exp(-wide), self.loss * exp(wide)

    def distance(self, loss: float) -> float:
        """How far a block's loss lies from the promise, in standard deviations of such a block."""
        return log(max(loss, LEAST_LOSS) / max(self.loss, LEAST_LOSS)) / self._spread

    @property
    def _spread(self) -> float:
        return self.noise * sqrt(1 + 1 / self.blocks)


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveLoss:
    """Realised loss of one published generation, against the promise of the version that made it."""

    generation: int
    model_version: int
    as_of: datetime
    until: datetime
    rows: int
    labelled_rows: int
    loss: float
    promise: Promise | None

    @property
    def promised(self) -> float | None:
        """The loss that the evidence promised; None without evidence."""
        return self.promise.loss if self.promise else None

    @property
    def noise(self) -> float | None:
        """Standard deviation of one block's loss around the promise."""
        return self.promise.noise * self.promise.loss if self.promise else None

    @property
    def blocks(self) -> float:
        """Blocks of evidence."""
        return self.promise.blocks if self.promise else 0.0

    @property
    def z(self) -> float:
        """Distance from the promise in standard deviations; 0 without a promise, or with too few labels."""
        if self.promise is None or self.labelled_rows < LEAST_ROWS:
            return 0.0
        return self.promise.distance(self.loss)

    @property
    def limit(self) -> float:
        """The distance above which a generation counts as degraded."""
        return float(stdtrit(self.promise.freedom, 1 - DEGRADED)) if self.promise else 0.0

    @property
    def degraded(self) -> bool:
        """Whether the loss is worse than the promise by more than noise."""
        return self.z > self.limit > 0

    @property
    def ratio(self) -> float:
        """Loss over the promise; 1 without a promise."""
        return self.loss / max(self.promise.loss, LEAST_LOSS) if self.promise else 1.0


def promise_of(
    evidence: Sequence[BlockLoss], blend: str, metric: str, before: datetime | None = None
) -> Promise | None:
    """The loss that evidence promised of a blend; None without any.

    Parameters
    ----------
    evidence
        Losses of blends on blocks, as the store keeps them.
    before
        Only evidence of cycles up to this as_of counts; None: all.

    Of a block that several cycles evaluated, the first loss counts. Out-of-sample losses are used alone if there
    are two. Blocks count less with age, as in decisions. The noise is the standard deviation of log losses between
    blocks, pooled with a usual one that counts for four blocks (an inverse-gamma prior; Gelman et al. 2013,
    "Bayesian Data Analysis", 2.6): with three blocks the measured one is worth little.
    """
    found: dict[tuple[datetime, datetime], BlockLoss] = {}
    for loss in sorted(evidence, key=lambda e: e.cycle):
        known = before is None or loss.cycle <= before
        if loss.blend == blend and loss.metric == metric and known and isfinite(loss.loss):
            found.setdefault((loss.start, loss.end), loss)
    unseen = [x for x in found.values() if x.kind == "out_of_sample"]
    used = sorted(unseen if len(unseen) > 1 else found.values(), key=lambda x: x.start)
    if not used:
        return None
    weights = [DISCOUNT**age for age in reversed(range(len(used)))]
    losses = [max(x.loss, LEAST_LOSS) for x in used]
    mean = sum(w * x for w, x in zip(weights, losses, strict=True)) / sum(weights)
    logs = [log(x) for x in losses]
    centre = sum(w * x for w, x in zip(weights, logs, strict=True)) / sum(weights)
    effective = sum(weights) ** 2 / sum(w * w for w in weights)
    squares = sum(w * (x - centre) ** 2 for w, x in zip(weights, logs, strict=True))
    squares *= effective / sum(weights)
    freedom = effective - 1 + NOISE_WORTH
    noise = sqrt((squares + NOISE_WORTH * USUAL_NOISE**2) / freedom)
    return Promise(
        loss=mean,
        noise=max(noise, LEAST_NOISE),
        blocks=effective,
        freedom=freedom,
        kind="out_of_sample" if len(unseen) > 1 else "in_sample",
    )


def evidence_of(store: Store, problem: Problem, releases: Sequence[Release]) -> list[BlockLoss]:
    """Evidence of the blends of these releases, of blocks young enough to weigh anything."""
    if not releases:
        return []
    oldest = min(r.as_of for r in releases)
    starting = problem.validation.block.before(oldest, YOUNG, zone=problem.zone)
    blends = sorted({r.blend.id for r in releases})
    return store.evidence(problem.name, blends=blends, starting=starting)


def live_losses(store: Store, problem: Problem, *, limit: int = 12) -> list[LiveLoss]:
    """The newest published generations that have labels, each against its promise, oldest first."""
    generations = [g for g in store.generations(problem.name, limit=limit) if g.labelled_rows]
    releases = {r.model_version: r for r in store.releases(problem.name)}
    used = [releases[g.model_version] for g in generations if g.model_version in releases]
    blends = {r.model_version: (r.blend.id, r.as_of) for r in used}
    evidence = evidence_of(store, problem, used)
    found = [_live_loss(g, problem, blends, evidence) for g in generations]
    return sorted((x for x in found if x is not None), key=lambda x: (x.as_of, x.generation))


def _live_loss(
    generation: Generation,
    problem: Problem,
    blends: dict[int, tuple[str, datetime]],
    evidence: Sequence[BlockLoss],
) -> LiveLoss | None:
    name = problem.metric.name
    score = generation.realised.get(name)
    if score is None:
        return None
    promise = None
    if generation.model_version in blends:
        blend, as_of = blends[generation.model_version]
        promise = promise_of(evidence, blend, name, as_of)
    return LiveLoss(
        generation=generation.id,
        model_version=generation.model_version,
        as_of=generation.as_of,
        until=generation.until,
        rows=generation.rows,
        labelled_rows=generation.labelled_rows,
        loss=1 - score if name in HIGHER_IS_BETTER else score,
        promise=promise,
    )
