"""Every picture that a report's document has data for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from automl.report.figures import decisions, drivers, quality, search
from automl.report.figures.backtest import backtest_figure
from automl.report.figures.style import Picture, drawing

__all__ = ["NAMES", "pictures"]


def _backtest(document: Mapping[str, Any]) -> Picture | None:
    found = document["backtest"]
    figure = backtest_figure(found) if found else None
    if not found or figure is None:
        return None
    sentence = f"{found['recommendation']['text']} {found['from']} to {found['to']}, {found['batches']} batches with labels."
    return Picture("backtest", "What other retraining policies would have earned", sentence, figure)


# in the order of the report
_DRAW: Mapping[str, Callable[[Mapping[str, Any]], Picture | None]] = {
    "evidence": decisions.evidence,
    "live": decisions.live,
    "decisions_over_time": decisions.decisions_over_time,
    "backtest": _backtest,
    "attribution": decisions.attribution,
    "leaderboard": search.leaderboard,
    "budget": search.budget,
    "search": search.search,
    "calibration": quality.calibration,
    "roc": quality.roc,
    "precision_recall": quality.precision_recall,
    "lift": quality.lift,
    "confusion": quality.confusion,
    "residuals": quality.residuals,
    "errors_over_time": quality.errors_over_time,
    "slices": quality.slices,
    "importance": drivers.importance,
    "shap": drivers.shap,
    "drift": drivers.drift,
    "predictions": drivers.predictions,
}
NAMES = tuple(_DRAW)


def pictures(document: Mapping[str, Any]) -> list[Picture]:
    """The pictures of a document of `cycle_report`, in the report's order; those without data are left out."""
    with drawing():
        found = [draw(document) for draw in _DRAW.values()]
    return [picture for picture in found if picture is not None]
