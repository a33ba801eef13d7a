"""A retraining: `pipeline` tells its steps on one page; the other modules are what only it needs.

training_data   the rows: pulled, checked, cut into blocks
plan            how much to search
search          the sweep, and what it leaves for the next
case            the case that a decision is made on: champion, rivals, losses
choose          what to release: a decision on the evidence, as a `choice`; `proposal` in review mode
refit           the chosen blend on all rows
register        model versions, examined by the guards
cycle_run       the cycle's run in MLflow; `cycle_note` is what reviewers read
"""

from automl.retrain.pipeline import Scoring, retrain

__all__ = ["Scoring", "retrain"]
