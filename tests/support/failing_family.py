"""A family file whose estimator fails in the way its parameter names."""

from __future__ import annotations

from pathlib import Path

FAILING = '''"""Fails in the way its parameter names."""
import ctypes
import os
import time

import numpy as np
from sklearn.linear_model import LogisticRegression

from automl import Family

HOWS = ["", "raises", "exits", "crashes", "sleeps", "eats", "nan", "mute", "leaves"]


class Failing(LogisticRegression):
    def __init__(self, how="", C=1.0):
        super().__init__(C=C)
        self.how = how

    def fit(self, X, y, sample_weight=None):
        if self.how == "raises":
            raise ValueError("not today")
        if self.how == "exits":
            os._exit(3)
        if self.how == "leaves":
            raise SystemExit(4)
        if self.how == "crashes":
            ctypes.string_at(0)
        if self.how == "sleeps":
            time.sleep(60)
        if self.how == "eats":
            np.ones(2**40, dtype="float64")
        return super().fit(X, y, sample_weight)

    def predict_proba(self, X):
        output = super().predict_proba(X)
        return output * np.nan if self.how == "nan" else output

    def __getattribute__(self, name):
        if name == "predict_proba" and super().__getattribute__("how") == "mute":
            raise AttributeError("no predict_proba here")
        return super().__getattribute__(name)


family = Family(name="failing", short="fail", tasks={"binary"}, encoding="dense",
                start=START,
                space=lambda trial, shape: {"how": trial.suggest_categorical("how", HOWS)},
                build=lambda params, shape, seed: Failing(**params))
'''
# how an estimator fails -> the error of the trial
HOWS = {
    "raises": "ValueError: not today",
    "exits": "process died without a result: exit code 3",
    "leaves": "SystemExit: 4",
    "crashes": "process died without a result: SIGSEGV",
    "sleeps": "out of time",
    "eats": "out of memory",
    "nan": "predictions are not finite numbers",
    "mute": "no predict_proba here",
}


def write_failing_family(folder: Path, *hows: str) -> str:
    """Write the family, with a start point per failure; returns its entry for `sweep.families`."""
    starts = [(i, {"how": how}) for i, how in enumerate(hows, 1)]
    text = FAILING.replace("start=START", f"start={starts!r}")
    (folder / "failing.py").write_text(text, encoding="utf-8")
    return "./failing.py"
