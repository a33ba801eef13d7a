"""The sweep of a cycle: spend the budget on recipes, end in a leaderboard. The only door to Optuna.

Carried recipes first, then the families' start points by priority, then one Optuna study per family,
with families dropped by their best loss. Recipes race over blocks, newest first, against the incumbent
on the same blocks. Every fit can be killed, every ended trial is passed to `on_trial` at once, and an
interrupted sweep resumes from the trials passed as `done`.
"""

from automl.sweep.fit_cache import CachedFit, FitCache, columns_of
from automl.sweep.leaderboard import (
    BlockPredictions,
    Leaderboard,
    Past,
    Plan,
    PlanKind,
    Trial,
    Work,
    baseline_losses,
    blend_losses,
    blend_outputs,
    output_file,
)
from automl.sweep.limits import CONSTANT, most_blocks
from automl.sweep.refit import REFIT_FAILED, Refits, Refitted, part_of
from automl.sweep.reweighing import reweighed
from automl.sweep.search import BUDGET_ENDED, sweep

__all__ = [
    "BUDGET_ENDED",
    "CONSTANT",
    "REFIT_FAILED",
    "BlockPredictions",
    "CachedFit",
    "FitCache",
    "Leaderboard",
    "Past",
    "Plan",
    "PlanKind",
    "Refits",
    "Refitted",
    "Trial",
    "Work",
    "baseline_losses",
    "blend_losses",
    "blend_outputs",
    "columns_of",
    "most_blocks",
    "output_file",
    "part_of",
    "reweighed",
    "sweep",
]
