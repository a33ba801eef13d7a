"""The pictures of a report, each made from the report's document: a figure with one sentence that says what it shows.

Only here is matplotlib imported. A picture without data is not drawn.
"""

from automl.report.figures.backtest import backtest_plot
from automl.report.figures.every import NAMES, pictures
from automl.report.figures.style import Picture, drawing

__all__ = ["NAMES", "Picture", "backtest_plot", "drawing", "pictures"]
