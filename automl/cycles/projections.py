"""Steps that bring MLflow and the parquet copy up to date with the store."""

from __future__ import annotations

from automl.cycles.steps import step
from automl.promotion.release import reconcile, roll_forward

__all__ = ["catch_up", "follow_release"]

catch_up = step("catch up", io=True)(roll_forward)
follow_release = step("let MLflow follow", io=True)(reconcile)
