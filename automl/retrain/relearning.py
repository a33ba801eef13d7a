"""What the blocks of this cycle teach a blend before it is refitted."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from automl.modeling.recipes import Blend
from automl.sweep import Leaderboard, Work, reweighed

__all__ = ["relearned"]


def relearned(
    work: Work, leaderboard: Leaderboard, blend: Blend, until: datetime
) -> tuple[Blend, datetime]:
    """The blend with weights and early stopping of this cycle's blocks, and the end of the labels that fixed it.

    A blend that this very cycle has made has them already. Where nothing was searched, weights are estimated
    from the predictions of cached fits, if all members have predicted all blocks. On blocks that taught the
    weights the blend is in-sample from now on.
    """
    newest = work.blocks[0].end
    if until < newest:
        weighed = reweighed(work, blend)
        if weighed != blend:
            blend, until = weighed, newest
    learned = {t.recipe.id: t.learned for t in leaderboard.trials if t.status == "complete"}
    members = (replace(m, learned=learned.get(m.recipe.id, m.learned)) for m in blend.members)
    return Blend(tuple(members)), until
