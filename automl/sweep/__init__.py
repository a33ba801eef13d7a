"""Spend the budget over families; the answer is a leaderboard. Optuna's only room.

Carried recipes first, then the families' start points by priority, then one Optuna study per family
with families halved by their best loss. Matrices are encoded once per block, beside the fits. Recipes race over blocks, newest first, against the incumbent
on the same blocks. Every fit can be killed, every finished trial is handed to `on_trial` at once, and
a killed sweep goes on from the trials it is given as `done`.
"""

from automl.sweep.blending import reweighed
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
from automl.sweep.refit import Refits, Refitted, part_of
from automl.sweep.search import BUDGET_ENDED, sweep

__all__ = [
    "BUDGET_ENDED",
    "BlockPredictions",
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
    "output_file",
    "part_of",
    "reweighed",
    "sweep",
]
