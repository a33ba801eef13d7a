"""What a model must hold before it is released: it is reloaded in a fresh process and examined there."""

from automl.promotion.guards.check import REFUSED, check_model, sample_rows
from automl.promotion.guards.checks import Guard
from automl.promotion.guards.comparison import Against, held_against
from automl.promotion.guards.process import Examiner

__all__ = ["REFUSED", "Against", "Examiner", "Guard", "check_model", "held_against", "sample_rows"]
