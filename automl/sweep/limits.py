"""Caps on the training rows and on the configurations of a search."""

from __future__ import annotations

from math import ceil

import numpy as np

__all__ = ["CONSTANT", "enough", "most_configurations", "most_rows"]

CONSTANT = "baseline"  # the family that predicts a constant
LEAST_BUDGET = 30  # seconds; starting processes and loading libraries takes some of them

# (budget seconds, most training rows of a fit): small budgets need many cheap fits
ROW_CAPS = ((30, 60_000), (60, 120_000), (300, 300_000))
ALL_ROWS = 10**12
# (training rows, most configurations): more would only fit the noise of the blocks
CONFIG_CAPS = ((100, 4), (500, 8), (2_500, 15), (10_000, 40), (100_000, 100))


def most_rows(seconds: float) -> int:
    """Most training rows of a fit for a budget in seconds, infinite without a budget.

    >>> most_rows(45)
    120000
    """
    return next((most for given, most in ROW_CAPS if seconds <= given), ALL_ROWS)


def most_configurations(n_rows: int) -> int:
    """Most configurations of a search on so many training rows, interpolated on a log scale."""
    rows, most = np.log(np.asarray(CONFIG_CAPS, dtype=np.float64)).T
    return round(float(np.exp(np.interp(np.log(max(n_rows, 1)), rows, most))))


def enough(needed: float, budget: float) -> str:
    """A budget for fits that need so many seconds, after one that was too small; as in a problem file.

    Doubled, because estimates from few fits are rough, and never close to the one that was tried.

    >>> enough(40.0, budget=10), enough(0.0, budget=2)
    ('80s', '30s')
    >>> enough(400.0, budget=60)
    '14m'
    """
    seconds = ceil(max(2 * needed, 4 * budget if not needed else 2 * budget, LEAST_BUDGET))
    return f"{seconds}s" if seconds <= 120 else f"{ceil(seconds / 60)}m"
