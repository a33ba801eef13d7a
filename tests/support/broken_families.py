"""Family files that go wrong in one place in one way, and the reason that their trial must state."""

from __future__ import annotations

from pathlib import Path

TEXT = '''"""Goes wrong in one place."""
import ctypes, multiprocessing, os, signal, subprocess, sys, threading, time
import numpy as np
from sklearn.linear_model import LogisticRegression
from automl import Family

class Estimator(LogisticRegression):
    def fit(self, X, y, sample_weight=None):
        FIT
        return super().fit(X, y, sample_weight)
    def predict_proba(self, X):
        p = super().predict_proba(X)
        PREDICT
        return p

def space(trial, shape):
    SPACE
    return {"C": trial.suggest_float("C", 0.01, 10.0, log=True)}

def build(params, shape, seed):
    BUILD
    return Estimator(**params)

family = Family(name="NAME", short="x", tasks={"binary"}, encoding="dense", start=[(2, {"C": 1.0})],
                space=space, build=build)
IMPORT
'''
# name: (place, statement, part of the reason)
FITS = {
    "build_raises": ("BUILD", "raise KeyError('lost')", "KeyError: 'lost'"),
    "build_exits": ("BUILD", "sys.exit(0)", "SystemExit: 0"),
    "build_none": ("BUILD", "return None", "build returned NoneType; wanted an unfitted estimator"),
    "build_class": ("BUILD", "return Estimator", "build returned the class Estimator"),
    "fit_exits": ("FIT", "os._exit(0)", "process died without a result: exit code 0"),
    "fit_forks": ("FIT", "os.fork() or time.sleep(60); os._exit(5)", "exit code 5"),
    "fit_segfault": ("FIT", "ctypes.string_at(0)", "SIGSEGV"),
    "fit_kills": ("FIT", "os.kill(os.getpid(), signal.SIGTERM)", "SIGTERM"),
    "fit_interrupts": ("FIT", "raise KeyboardInterrupt", "KeyboardInterrupt"),
    "fit_recursive": ("FIT", "self.fit(X, y)", "RecursionError"),
    "fit_hangs": ("FIT", "signal.pthread_sigmask(0, {15, 2}); time.sleep(60)", "out of time after"),
    "fit_spins": ("FIT", "while True: pass", "out of time after"),
    "fit_lambda": ("FIT", "self.extra = lambda: 1", "pickle"),
    "predict_short": ("PREDICT", "return p[:-1]", "predict_proba returned shape"),
    "predict_long": ("PREDICT", "return np.vstack([p, p])", "predict_proba returned shape"),
    "predict_flat": ("PREDICT", "return p[:, 1]", "predict_proba returned shape"),
    "predict_none": ("PREDICT", "return None", "Error"),
    "predict_text": ("PREDICT", "return p.astype(str) + 'x'", "could not convert string to float"),
    "predict_nan": ("PREDICT", "return p * np.nan", "not finite"),
    "predict_inf": ("PREDICT", "return p / 0", "not finite"),
    "predict_wide": ("PREDICT", "return p * 3 - 1", "wanted 0 to 1"),
    "predict_half": ("PREDICT", "return p / 2", "miss the sum of 1"),
    "classes_wrong": ("PREDICT", "self.classes_ = np.array(['no', 'yes'])", "wanted the classes of y"),
}  # fmt: skip
SPACES = {
    "raises": ("raise RuntimeError('boom')", "RuntimeError: boom"),
    "exits": ("sys.exit(0)", "SystemExit: 0"),
    "dies": ("os._exit(0)", "its process ended without a result: exit code 0"),
    "crashes": ("ctypes.string_at(0)", "SIGSEGV"),
    "hangs": ("time.sleep(60)", "no result after"),
    "none": ("return None", "space returned NoneType; wanted a dict of params"),
    "list": ("return [1]", "space returned list"),
    "nan": ("return {'C': float('nan')}", "space returned C = nan"),
    "object": ("return {'C': object()}", "a object; wanted finite numbers"),
    "unnamed": ("return {1: 2}", "a param named 1"),
    "wrong_use": ("trial.suggest_float('C')", "TypeError"),
    "empty_range": ("trial.suggest_float('C', 2, 1)", "ValueError"),
}  # fmt: skip
IMPORTS = {
    "raises": ("raise ValueError('no')", "loading raised ValueError: no"),
    "exits": ("sys.exit(0)", "loading raised SystemExit: 0"),
    "dies": ("os._exit(0)", "loading the file failed: its process ended without a result: exit code 0"),
    "crashes": ("ctypes.string_at(0)", "SIGSEGV"),
    "interrupts": ("raise KeyboardInterrupt", "KeyboardInterrupt"),
    "misses": ("import no_such_module_at_all", "ModuleNotFoundError"),
    "mistyped": ("def", "SyntaxError"),
    "hangs": ("time.sleep(60)", "no result after"),
}  # fmt: skip


def write_family(folder: Path, name: str, **changes: str) -> str:
    """Write a family whose places hold these statements; returns its entry for `sweep.families`."""
    text = TEXT.replace("NAME", name)
    for place in ("FIT", "PREDICT", "SPACE", "BUILD", "IMPORT"):
        text = text.replace(place, changes.get(place, "pass"))
    (folder / f"{name}.py").write_text(text, encoding="utf-8")
    return f"./{name}.py"
