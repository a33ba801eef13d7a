"""Replay past cycles under several retraining policies, and compare what was published.

run       the steps of a backtest
window    which cycles are replayed
scratch   a workspace per policy
replay    one cycle of one policy, run by the real conductors, and measured
compare   losses, noise, and the recommendation
document  all of it as one document
"""

from automl.backtest.compare import Recommendation, compare, recommend
from automl.backtest.document import common_losses, costs_of, recommended
from automl.backtest.run import backtest
from automl.backtest.window import DEFAULT_POLICIES, Options

__all__ = [
    "DEFAULT_POLICIES",
    "Options",
    "Recommendation",
    "backtest",
    "common_losses",
    "compare",
    "costs_of",
    "recommend",
    "recommended",
]
