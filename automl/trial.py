"""One fit, in a child process that can be killed; whatever happens in there is a result, not a crash.

The parent encodes and writes matrices once; children map them, fit with one thread, and answer with
numbers and, for a refit, a file. Children are forked from a clean server process, never from the
parent, because forking after OpenMP has run hangs.
"""

from __future__ import annotations

import multiprocessing as mp
import os
import pickle
import resource
import signal
import time
import traceback
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from automl.spaces import Params, Recipe, Shape, load_family

__all__ = ["Fit", "FitResult", "Pool", "recency_weights"]

EARLY_STOP_SHARE = 0.15  # newest share of the training rows that tells when to stop
EARLY_STOP_ROWS = 500  # fewer training rows than this are not split again
MOST_TREES_GROWTH = 1.1  # more rows deserve a few more trees, not proportionally more
MEMORY_SHARE = 0.8  # of the machine's memory, divided among the workers


@dataclass(frozen=True, slots=True)
class Fit:
    """What a child needs: pure data, so that the same job gives the same answer anywhere.

    `data` holds train_X, train_y, train_w, train_age and, unless it is a refit, judged_X (all .npy).
    """

    tag: tuple[int, int]  # (trial, block), for the caller
    family: str  # path of the family file
    recipe: Recipe
    learned: Params | None  # None: learn it, if the family can
    shape: Shape
    data: Path
    output: Path  # predictions (.npy), or the fitted estimator (.pickle) of a refit
    refit: bool = False


@dataclass(frozen=True, slots=True)
class FitResult:
    """How a fit ended. `error` is empty when it ended well."""

    seconds_fit: float = 0.0  # of the final fit, what a refit would cost on the same rows
    seconds: float = 0.0  # all in all, early stopping and prediction included
    seconds_predict: float = 0.0
    learned: Params = field(default_factory=dict)
    error: str = ""
    trace: str = ""


class Pool:
    """At most `workers` children at a time, each with one thread."""

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self._context = mp.get_context("forkserver")
        self._context.set_forkserver_preload(["automl.trial", "lightgbm", "sklearn.ensemble"])
        self._running: dict[Connection, tuple[Fit, Any, float, float]] = {}

    @property
    def running(self) -> int:
        """Children now at work."""
        return len(self._running)

    @property
    def free(self) -> int:
        """Children that may be started."""
        return self.workers - len(self._running)

    def start(self, fit: Fit, limit: float) -> None:
        """Start a fit; it is killed at the monotonic moment `limit`."""
        here, there = self._context.Pipe(duplex=False)
        memory = int(
            MEMORY_SHARE * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / self.workers
        )
        child = self._context.Process(target=_child, args=(fit, there, memory), daemon=True)
        child.start()
        there.close()
        self._running[here] = (fit, child, limit, time.monotonic())

    def collect(self, until: float) -> list[tuple[Fit, FitResult]]:
        """Wait until a child ends, a limit passes, or the moment `until`; return what has ended."""
        while self._running:
            horizon = min(until, *(limit for _, _, limit, _ in self._running.values()))
            ready = wait(list(self._running), min(60.0, max(0.0, horizon - time.monotonic())))
            late = [c for c, (_, _, limit, _) in self._running.items() if time.monotonic() >= limit]
            ended = [self._finish(c) for c in ready if isinstance(c, Connection)]
            ended += [self._kill(c, "out of time") for c in late if c in self._running]
            if ended or time.monotonic() >= until:
                return ended
        return []

    def stop(self) -> list[tuple[Fit, FitResult]]:
        """Kill every child."""
        return [self._kill(connection, "stopped") for connection in list(self._running)]

    def _finish(self, connection: Connection) -> tuple[Fit, FitResult]:
        fit, child, _, started = self._running[connection]
        try:
            result: FitResult = connection.recv()
        except (EOFError, OSError):
            child.join(1)
            code = child.exitcode
            how = (
                signal.Signals(-code).name if code is not None and code < 0 else f"exit code {code}"
            )
            result = FitResult(
                error=f"process died without an answer: {how}", seconds=time.monotonic() - started
            )
        del self._running[connection]
        connection.close()
        _end(child)
        return fit, result

    def _kill(self, connection: Connection, why: str) -> tuple[Fit, FitResult]:
        fit, child, _, started = self._running.pop(connection)
        connection.close()
        _end(child)
        return fit, FitResult(
            error=f"{why} after {time.monotonic() - started:.1f} s",
            seconds=time.monotonic() - started,
        )


def recency_weights(
    ages: NDArray[np.float64], half_life: float | None, weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Row weights that halve with age, times `weights`, with mean 1.

    Parameters
    ----------
    ages
        Age of each row as a share of the history's length, shape (n_rows,): 0 newest, 1 oldest.
    half_life
        In the same unit; None leaves `weights` alone.
    """
    combined = weights if half_life is None else weights * np.power(0.5, ages / half_life)
    return combined / combined.mean()


def _end(child: Any) -> None:
    if child.is_alive():
        try:
            os.killpg(
                child.pid, signal.SIGKILL
            )  # the child leads its own group: grandchildren go too
        except (ProcessLookupError, PermissionError):
            child.kill()
    child.join(2)


def _child(fit: Fit, answer: Connection, memory: int) -> None:
    os.setsid()
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    warnings.simplefilter("ignore")
    _limit_memory(memory)
    started = time.monotonic()
    try:
        result = _run(fit)
    except MemoryError:
        result = FitResult(error="out of memory", seconds=time.monotonic() - started)
    except BaseException as error:  # noqa: BLE001  a user's estimator may raise anything, also SystemExit
        text = f"{type(error).__name__}: {error}".strip()
        result = FitResult(
            error=text[:500],
            trace=traceback.format_exc()[-4000:],
            seconds=time.monotonic() - started,
        )
    answer.send(result)
    answer.close()


def _limit_memory(memory: int) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (memory, resource.getrlimit(resource.RLIMIT_AS)[1]))


def _run(fit: Fit) -> FitResult:
    started = time.monotonic()
    family = load_family(fit.family, Path("/"))
    X, y, base, ages = (
        np.load(fit.data / f"train_{n}.npy", mmap_mode="c") for n in ("X", "y", "w", "age")
    )
    weights = recency_weights(ages, fit.recipe.half_life, np.asarray(base))
    more = family.fit_args(fit.shape) if family.fit_args else {}
    learned = fit.learned
    if learned is None:
        learned = _learn(family, fit, (X, y, weights), more)
    fitting = time.monotonic()
    estimator = family.build({**fit.recipe.params, **learned}, fit.shape, fit.recipe.seed)
    uniform = fit.recipe.half_life is None and bool((np.asarray(base) == base[0]).all())
    if family.weights and not uniform:
        more = {**more, "sample_weight": weights}
    estimator.fit(X, y, **more)
    seconds_fit = time.monotonic() - fitting
    if fit.refit:
        fit.output.write_bytes(pickle.dumps(estimator))
        return FitResult(seconds_fit, time.monotonic() - started, 0.0, learned)
    predicting = time.monotonic()
    output = predict(
        estimator, np.load(fit.data / "judged_X.npy", mmap_mode="c"), fit.shape.classes
    )
    np.save(fit.output, output)
    ended = time.monotonic()
    return FitResult(seconds_fit, ended - started, ended - predicting, learned)


def _learn(family: Any, fit: Fit, train: Sequence[Any], more: Params) -> Params:
    X, y, weights = train
    if family.fit is None or len(y) < EARLY_STOP_ROWS:
        return {}
    cut = int(len(y) * (1 - EARLY_STOP_SHARE))
    if fit.shape.classes and len(np.unique(y[:cut])) < fit.shape.classes:
        return {}
    estimator = family.build(fit.recipe.params, fit.shape, fit.recipe.seed)
    learned: Params = family.fit(
        estimator, X[:cut], y[:cut], X[cut:], y[cut:], weights[:cut], **more
    )
    # the early-stopped model saw fewer rows than the one that will be fitted with what it learned
    grow = min(MOST_TREES_GROWTH, 1 / (1 - EARLY_STOP_SHARE))
    return {k: round(v * grow) if isinstance(v, int) else v for k, v in learned.items()}


def predict(estimator: Any, X: NDArray[np.float32], classes: int) -> NDArray[np.float64]:
    """Probabilities, shape (n_rows, n_classes), or values, shape (n_rows,); raises if not finite."""
    if not classes:
        output = np.asarray(estimator.predict(X), dtype=np.float64)
    else:
        seen = np.asarray(estimator.predict_proba(X), dtype=np.float64)
        output = np.zeros((len(seen), classes))
        output[:, np.asarray(estimator.classes_, dtype=int)] = seen
    if output.ndim != (2 if classes else 1) or not np.isfinite(output).all():
        raise ValueError("predictions are not finite numbers")
    return output
