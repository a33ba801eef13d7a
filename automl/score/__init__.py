"""A scoring: `pipeline` tells its steps on one page.

batch      rows to predict: pulled, predicted, staged, audited
notices    warnings about a batch
standby    the same batch by the previous version
"""

from automl.score.pipeline import cycle, score

__all__ = ["cycle", "score"]
