"""A past cycle rebuilt from its kept snapshot and compared: `automl reproduce`.

Nothing of the workspace changes: fits and model files go to a temporary folder, and no lock is taken. The sweep is
not repeated, because a search that ends by time never repeats itself: its trials are in the store, the decision is
made again on their losses, and what it released is fitted again.

    reproduce   the comparisons, in causal order
    past        what store and MLflow know of the cycle
    causes      data, problem file, contract, libraries, code, decision
    rebuild     the model and its predictions, made again
    values      checks and their result
"""

from automl.reproduction.reproduce import reproduce
from automl.reproduction.values import Check, Reproduction

__all__ = ["Check", "Reproduction", "reproduce"]
