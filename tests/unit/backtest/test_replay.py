"""How predictions of two models are compared."""

from __future__ import annotations

import numpy as np
import pytest

from automl.backtest.replay import share_moved


def test_a_row_moved_if_its_class_or_its_probability_did() -> None:
    before = np.array([[0.9, 0.1], [0.9, 0.1], [0.51, 0.49], [0.3, 0.7]])
    after = np.array([[0.9, 0.1], [0.8, 0.2], [0.49, 0.51], [0.28, 0.72]])
    assert share_moved(before, after) == 0.5


def test_a_number_moved_if_it_did_by_a_tenth_of_the_deviation() -> None:
    before = np.array([0.0, 10.0, 20.0, 30.0])
    moved = before + np.array([0.0, 1.0, 1.2, -2.0])
    assert np.std(before) * 0.1 == pytest.approx(1.118, abs=0.01)
    assert share_moved(before, moved) == 0.5


def test_other_classes_cannot_be_compared() -> None:
    assert share_moved(np.ones((3, 2)), np.ones((3, 3))) is None
