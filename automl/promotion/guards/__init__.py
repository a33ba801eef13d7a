"""Guards that a model must pass before its release; it is loaded and examined in a fresh process."""

from automl.promotion.guards.check import REFUSED, check_model, sample_rows
from automl.promotion.guards.checks import Guard
from automl.promotion.guards.comparison import Comparison, compare
from automl.promotion.guards.process import Examiner, open_examiner

__all__ = [
    "REFUSED",
    "Comparison",
    "Examiner",
    "Guard",
    "check_model",
    "compare",
    "open_examiner",
    "sample_rows",
]
