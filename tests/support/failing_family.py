"""A family whose estimator misbehaves in the way its parameter says; in a file, as a user's would be."""

from __future__ import annotations

from pathlib import Path

TROUBLED = '''"""Goes wrong in the way it is told."""
import ctypes
import os
import time

import numpy as np
from sklearn.linear_model import LogisticRegression

from automl import Family

HOWS = ["", "raises", "exits", "crashes", "sleeps", "eats", "nan", "mute", "leaves"]


class Troubled(LogisticRegression):
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
        answer = super().predict_proba(X)
        return answer * np.nan if self.how == "nan" else answer

    def __getattribute__(self, name):
        if name == "predict_proba" and super().__getattribute__("how") == "mute":
            raise AttributeError("no predict_proba here")
        return super().__getattribute__(name)


family = Family(name="troubled", short="trb", tasks={"binary"}, encoding="dense",
                start=START,
                space=lambda trial, shape: {"how": trial.suggest_categorical("how", HOWS)},
                build=lambda params, shape, seed: Troubled(**params))
'''
# how an estimator goes wrong -> what the trial says of it
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


def write_troubled(folder: Path, *hows: str) -> str:
    """Write the family, with a start point per way to go wrong; returns its entry for `sweep.families`."""
    starts = [(i, {"how": how}) for i, how in enumerate(hows, 1)]
    text = TROUBLED.replace("start=START", f"start={starts!r}")
    (folder / "troubled.py").write_text(text, encoding="utf-8")
    return "./troubled.py"
