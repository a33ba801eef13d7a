"""What a cycle's predictions are worth and what drives them, as aggregates for its report; never a row of data.

inputs      what a cycle keeps until its report is written
curves      calibration, ROC, precision and recall, lift, confusion, residuals
slices      scores by time and by slice
importance  permutation importance, SHAP values
batches     the newest generation next to the one before
document    all of it as one document
"""

from automl.explanation.document import DIAGNOSTICS, explain
from automl.explanation.inputs import forget_inputs, keep_inputs

__all__ = ["DIAGNOSTICS", "explain", "forget_inputs", "keep_inputs"]
