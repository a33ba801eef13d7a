"""Caps on the training rows and on the configurations of a search."""

from __future__ import annotations

from math import ceil

import numpy as np

__all__ = ["CONSTANT", "enough", "most_blocks", "most_configurations", "most_rows"]

CONSTANT = "baseline"  # the family that predicts a constant
LEAST_BUDGET = 30  # seconds; starting processes and loading libraries takes some of them

# (budget seconds, most training rows of a fit): small budgets need many cheap fits
ROW_CAPS = ((30, 60_000), (60, 120_000), (300, 300_000))
ALL_ROWS = 10**12
# (training rows, most configurations on three blocks): more would only fit the noise of the blocks
CAPPED_BLOCKS = 3
CONFIG_CAPS = ((100, 4), (500, 8), (2_500, 15), (10_000, 40), (100_000, 100))

# Core-seconds of all start points on one block, per row and column; so many columns more stand for what a
# fit costs without any. Measured on twelve tables: 7e-6 to 20e-6, with 43e-6 on one whose texts are long
START_POINT_SECONDS, MORE_COLUMNS = 13e-6, 15
SEARCH_SHARE = 0.6  # of the budget's core-seconds that start points may take
BLOCK_RANGE = 3, 6  # fewest and most blocks with origins = "auto"


def most_blocks(n_rows: int, n_columns: int, seconds: float, workers: int) -> int:
    """Blocks on which all start points can be evaluated within a budget in seconds, infinite without a budget.

    >>> most_blocks(40_000, 30, seconds=60, workers=2)
    3
    """
    rows = min(n_rows, most_rows(seconds))
    each = START_POINT_SECONDS * rows * (n_columns + MORE_COLUMNS)
    fewest, most = BLOCK_RANGE
    return int(np.clip(SEARCH_SHARE * seconds * workers / max(each, 1e-9), fewest, most))


def most_rows(seconds: float) -> int:
    """Most training rows of a fit for a budget in seconds, infinite without a budget.

    >>> most_rows(45)
    120000
    """
    return next((most for given, most in ROW_CAPS if seconds <= given), ALL_ROWS)


def most_configurations(n_rows: int, n_blocks: int = CAPPED_BLOCKS) -> int:
    """Most configurations of a search on so many training rows, interpolated on a log scale.

    More blocks can tell more configurations apart.
    """
    rows, most = np.log(np.asarray(CONFIG_CAPS, dtype=np.float64)).T
    capped = float(np.exp(np.interp(np.log(max(n_rows, 1)), rows, most)))
    return round(capped * max(1.0, n_blocks / CAPPED_BLOCKS))


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
