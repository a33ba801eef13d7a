"""Settings of a process that the engine will run in: `mlflow.env`, thread limits, silence of libraries.

They are read once, when numpy, LightGBM or MLflow load, so they are set before those are imported.
"""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from automl.workspace import DEFAULTS, export_settings

__all__ = ["apply_settings", "quiet_libraries", "quiet_loggers"]

NOISY = ("mlflow", "alembic", "httpx", "prefect", "optuna", "sqlalchemy")
# Loggers that print an exception, or an attempt, which they raise as well
RAISED_TOO = ("mlflow.store.db.utils", "sqlalchemy.pool", "urllib3.connectionpool")
THREADS = "OMP_NUM_THREADS"
# Libraries whose fits slow down 10 to 25 times on shared cores with OpenMP's own settings
OPENMP = ("sklearn", "lightgbm", "xgboost", "catboost", "torch")
logging.getLogger("automl").addHandler(logging.NullHandler())  # callers choose what is shown


def apply_settings(start: Path) -> None:
    """Put `mlflow.env` and our defaults into the environment, under what is there already.

    Warns once if a library has read the environment before: fits run in processes of their own and are
    not concerned, predictions in this process are.
    """
    unset = THREADS not in os.environ
    loaded = [name for name in OPENMP if name in sys.modules]
    export_settings(start)
    if unset and loaded:
        warnings.warn(
            f"{', '.join(loaded)} was imported before automl set {THREADS}={DEFAULTS[THREADS]}: predictions in "
            "this process may be slow on shared cores. Call automl.open_project first, or set "
            f"{THREADS} before Python starts",
            RuntimeWarning,
            stacklevel=3,
        )


def quiet_loggers() -> None:
    """Libraries log warnings and errors only."""
    for name in NOISY:
        logger = logging.getLogger(name)
        if logger.level < logging.WARNING:
            logger.setLevel(logging.WARNING)
    for name in RAISED_TOO:
        logging.getLogger(name).setLevel(logging.CRITICAL)


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Libraries' warnings and messages are not shown; those of this package go through logging."""
    quiet_loggers()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
