"""Warnings about a batch, collected while it passes in pieces."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator

import pandas as pd

from automl.history import Snapshot
from automl.history.contract import Contract, Finding, check_batch
from automl.predictions import Predictions
from automl.problem import Problem

__all__ = ["BatchNotices"]

WHOLE, MOST = 1.0, 0.5  # share of a batch's rows that must show a finding before it is a warning
_log = logging.getLogger(__name__)


class BatchNotices:
    """What a person should know of a batch: findings of the contract, and the range of its predictions."""

    def __init__(self, batch: Snapshot) -> None:
        self.batch = batch
        self.rows: Counter[tuple[str, str]] = Counter()  # (code, column) -> rows that show it
        self.first: dict[tuple[str, str], Finding] = {}
        self.low, self.high = float("inf"), float("-inf")

    def check(
        self, frames: Iterable[pd.DataFrame], contract: Contract, problem: Problem
    ) -> Iterator[pd.DataFrame]:
        """The frames; one that a model cannot score is refused."""
        for frame in frames:
            for finding in check_batch(frame, contract, problem, self.batch.offered):
                name = finding.code, finding.text.partition(":")[0]
                self.rows[name] += len(frame)
                self.first.setdefault(name, finding)
            yield frame

    def watch(self, pieces: Iterable[Predictions]) -> Iterator[Predictions]:
        """The predictions, while their range is recorded."""
        for predictions, classes in pieces:
            name = "probability" if "probability" in predictions.columns else "prediction"
            self.low = min(self.low, float(predictions[name].min()))
            self.high = max(self.high, float(predictions[name].max()))
            yield predictions, classes

    def warn(self) -> None:
        """Log each finding once, if half of the rows show it; an empty column only if all do."""
        for name, finding in self.first.items():
            share = WHOLE if name[0] == "all_missing" else MOST
            if self.rows[name] >= share * self.batch.rows:
                _log.warning(finding)
        for warning in self.batch.warnings:
            _log.warning(warning)
        if self.batch.rows > 1 and self.low == self.high:
            # equal predictions may be right, for a calm week; a person should look
            _log.warning(
                "all %d predictions are %g [constant_predictions]", self.batch.rows, self.low
            )
