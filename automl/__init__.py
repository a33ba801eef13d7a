"""An AutoML that keeps itself trained: sweep, promote honestly, publish atomically, do it again.

Verbs live in their rooms (`from automl.sweep import sweep`); only nouns and errors are exported.
"""

from automl.errors import (
    AutomlError,
    BusyError,
    ContractError,
    DigestError,
    HistoryError,
    NoModelError,
    PredictError,
    ProblemError,
    SpaceError,
    UnreachableError,
)
from automl.modeling.families import Family, Recipe
from automl.problem import load_problem

__version__ = "0.1.0"

__all__ = [
    "AutomlError",
    "BusyError",
    "ContractError",
    "DigestError",
    "Family",
    "HistoryError",
    "NoModelError",
    "PredictError",
    "ProblemError",
    "Recipe",
    "SpaceError",
    "UnreachableError",
    "__version__",
    "load_problem",
]
