"""What a sweep has tried so far, in words."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence

from automl import progress
from automl.problem import HIGHER_IS_BETTER
from automl.sweep.leaderboard import Trial, Work

__all__ = ["show_tried", "tried_in_words"]


def show_tried(work: Work, ended: Sequence[Trial], until: float) -> None:
    """Show how far a sweep has come; it ends at `until`, a monotonic moment, which may be infinite."""
    most = work.problem.sweep.trials
    scored = [(t.recipe.family, t.score if t.status == "complete" else None) for t in ended]
    progress.show(
        tried_in_words(work.metric.name, scored),
        done=None if most is None else len(ended),
        of=most,
        until=until if math.isfinite(until) else None,
    )


def tried_in_words(metric: str, trials: Iterable[tuple[str, float | None]]) -> str:
    """Best score so far, and how many trials of which family have ended.

    Parameters
    ----------
    metric
        Name of the metric that recipes are scored by.
    trials
        Family and score of each ended trial; no score if it is not complete.

    Examples
    --------
    >>> tried_in_words("roc_auc", [("linear", 0.6), ("lightgbm", 0.713), ("lightgbm", None)])
    'best roc_auc 0.713 by lightgbm; 3 trials (lightgbm 2, linear 1)'
    >>> tried_in_words("rmse", [])
    '0 trials'
    """
    ended = list(trials)
    counts = Counter(family for family, _ in ended).most_common()
    families = f" ({', '.join(f'{family} {count}' for family, count in counts)})" if counts else ""
    text = f"{len(ended)} trial{'' if len(ended) == 1 else 's'}{families}"
    complete = [(score, family) for family, score in ended if score is not None]
    if not complete:
        return text
    sign = -1 if metric in HIGHER_IS_BETTER else 1
    score, family = min(complete, key=lambda pair: sign * pair[0])
    return f"best {metric} {score:.4g} by {family}; {text}"
