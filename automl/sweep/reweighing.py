"""Weights of a blend that stays, estimated again on the newest blocks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from automl.modeling.ensemble import Candidate, block_weights, default_share, greedy
from automl.modeling.features import row_weights, to_outcomes
from automl.modeling.recipes import Blend, Recipe
from automl.sweep.blending import (
    AVERAGE_MARGIN,
    TREND_SHARE,
    default_recipe,
    least_losses,
    most_for_trend,
    shared,
    with_default,
)
from automl.sweep.leaderboard import Work, mean, output_file

__all__ = ["reweighed"]

# A member whose loss is further behind the best keeps nothing of its weight; one that sees the time sooner
FAR_MARGIN, FAR_MARGIN_TREND = 0.3, 0.15
LEAST_WEIGHT = 0.02  # of a member
WEIGHED_BLOCKS = 2  # newest blocks from which weights are estimated, however many a search uses
WEIGHED_ROWS = 20_000  # evenly spaced rows of a block: enough for weights


def reweighed(work: Work, blend: Blend) -> Blend:
    """The blend with weights half its present ones, half those that greedy selection finds on the newest blocks.

    Members stay the same, so it stays the same blend. Selection leaves out members far behind the best, and
    members that see the time as soon as they are slightly behind the others. A member very far behind loses
    its weight at once, but no weight falls below `LEAST_WEIGHT`, so that every member can recover. If the default recipe
    is a member, the weights are shrunk towards it. Unchanged if a member has no outputs, or the metric is
    undefined.
    """
    found = _newest(work, blend)
    levels = found.levels() if found else {}
    if found is None or not np.isfinite(list(levels.values())).all():
        return blend
    near, far = found.near(levels), found.far(levels)
    present = {m.recipe.id: 0.0 if m.recipe.id in far else m.weight for m in blend.members}
    whole = sum(present.values())
    present = {i: w / whole for i, w in present.items()}
    whole = sum(present[i] for i in near)
    selected = greedy(
        near,
        found.truth,
        work.metric,
        mean,
        weights=found.counts,
        anchor={i: present[i] / whole for i in near},
    )
    weights = {i: (selected.get(i, 0.0) + w) / 2 for i, w in present.items()}
    seeing = {i: w for i, w in weights.items() if found.recipes[i].trend}
    if any(i not in seeing for i in near) and sum(seeing.values()) > TREND_SHARE:
        weights = shared(seeing, {i: w for i, w in weights.items() if i not in seeing})
    weights = {i: max(LEAST_WEIGHT, w) for i, w in found.shrunk(weights).items()}
    whole = sum(weights.values())
    return Blend(
        tuple(replace(m, weight=round(weights[m.recipe.id] / whole, 6)) for m in blend.members)
    )


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class _Newest:
    """What a blend's members predicted on the newest blocks."""

    work: Work
    recipes: Mapping[str, Recipe]
    truth: list[NDArray[np.float64]]
    counts: list[NDArray[np.float64]]  # row weights
    candidates: dict[str, Candidate]

    def losses(self, outputs: Candidate) -> list[float]:
        """Losses on the blocks."""
        metric = self.work.metric
        rows = zip(self.truth, outputs.outputs, self.counts, strict=True)
        return [metric.loss(metric.score(y, x, w)) for y, x, w in rows]

    def levels(self) -> dict[str, float]:
        """Mean losses of the members."""
        return {i: mean(self.losses(c)) for i, c in self.candidates.items()}

    def near(self, levels: Mapping[str, float]) -> dict[str, Candidate]:
        """Members whose outputs may have votes."""
        best = min(levels.values())
        most = most_for_trend((self.recipes[i], level) for i, level in levels.items())
        return {
            i: replace(c, level=levels[i])
            for i, c in self.candidates.items()
            if levels[i] <= best * (1 + AVERAGE_MARGIN)
            and (levels[i] <= most or not self.recipes[i].trend)
        }

    def far(self, levels: Mapping[str, float]) -> set[str]:
        """Members very far behind."""
        best = min(levels.values())
        margins = {
            i: FAR_MARGIN_TREND if recipe.trend else FAR_MARGIN
            for i, recipe in self.recipes.items()
        }
        return {i for i, level in levels.items() if level > best * (1 + margins[i])}

    def shrunk(self, weights: dict[str, float]) -> dict[str, float]:
        """The weights with a share for the default recipe, if it is a member."""
        default = default_recipe(self.work)
        if default is None or default.id not in weights:
            return weights
        blocks, whole = range(len(self.truth)), sum(weights.values())
        mixed = [
            np.sum([w * self.candidates[i].outputs[b] for i, w in weights.items()], axis=0) / whole
            for b in blocks
        ]
        least = np.maximum(least_losses(self.work)[: len(self.truth)], 1e-12)
        ours = self.losses(Candidate(mixed, 0.0, 0.0)) + least
        gains = np.log((self.losses(self.candidates[default.id]) + least) / ours)
        share = default_share(gains, block_weights(len(self.truth)))
        return with_default(weights, default.id, share)


def _newest(work: Work, blend: Blend) -> _Newest | None:
    """Outputs of all members; None if there is one member, or one has none."""
    recipes = {m.recipe.id: m.recipe for m in blend.members}
    blocks = [b for b in work.blocks if not b.seasonal][:WEIGHED_BLOCKS]
    files = {i: [output_file(work, r, b) for b in range(len(blocks))] for i, r in recipes.items()}
    if len(recipes) == 1 or not all(path.exists() for row in files.values() for path in row):
        return None
    outcomes = to_outcomes(work.frame[work.problem.history.target], work.contract)
    row_weight = row_weights(work.frame, work.problem)
    rows = [_spread(len(block.validation)) for block in blocks]
    pairs = list(zip(blocks, rows, strict=True))
    candidates = {
        i: Candidate(
            [np.load(path)[r] for path, r in zip(paths, rows, strict=True)], float("nan"), 0.0
        )
        for i, paths in files.items()
    }
    return _Newest(
        work=work,
        recipes=recipes,
        truth=[outcomes[b.validation][r] for b, r in pairs],
        counts=[row_weight[b.validation][r] for b, r in pairs],
        candidates=candidates,
    )


def _spread(n_rows: int) -> NDArray[np.int64]:
    return np.unique(np.linspace(0, n_rows - 1, min(n_rows, WEIGHED_ROWS)).astype(np.int64))
