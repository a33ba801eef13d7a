"""One fit in a worker process that can be killed; a failure in there is a result, not a crash.

The parent encodes and writes matrices once; workers map them, fit with one thread, and return numbers
and, for a refit, a file. A worker fits one recipe after another, because starting a process costs as
much as a small fit.
"""

from __future__ import annotations

import contextlib
import inspect
import os
import pickle
import resource
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from automl.modeling.families import Family, Shape, in_family_folder, load_family
from automl.modeling.recipes import Params, Recipe, plain_params
from automl.modeling.tasks import Task, task_of
from automl.processes import context, end, fate, has_children, settle, start

__all__ = ["Fit", "FitResult", "Pool", "recency_weights", "takes_later_weights"]

EARLY_STOP_SHARE = 0.15  # newest share of the training rows, held out for early stopping
EARLY_STOP_ROWS = 500  # fewer training rows than this are not split again
RECENT_ROWS = 200  # with fewer newest rows the stage on them is left out
MOST_TREES_GROWTH = 1.1  # more rows deserve a few more trees, not proportionally more
MOST_SHARED = 4  # results of `Family.share` that a worker caches
MEMORY_SHARE = 0.8  # of the machine's memory, divided among the workers


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """One job for a worker: plain data, so that the same job gives the same result anywhere.

    `data` is a folder with train_X, train_y, train_w, train_age and, unless it is a refit, validation_X
    (all .npy).
    """

    tag: tuple[int, int]  # (trial, block), for the caller
    family: str  # path of the family file
    recipe: Recipe
    learned: Params | None  # None: learn by early stopping, if the family can
    shape: Shape
    data: Path
    output: Path  # predictions (.npy), or the fitted estimator (.pickle) of a refit
    refit: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class FitResult:
    """How a fit ended. `error` is empty after success."""

    seconds_fit: float = 0.0  # of the final fit, what a refit would cost on the same rows
    seconds: float = 0.0  # in total, early stopping and prediction included
    seconds_predict: float = 0.0
    learned: Params = field(default_factory=dict)
    error: str = ""
    trace: str = ""
    leaves: bool = False  # threads or processes that go on after the fit


@dataclass(slots=True, eq=False, kw_only=True)
class _Worker:
    """A process and its current fit; it is replaced after a fit that fails.

    One that has run a user's file runs no other: that file may have changed its state.
    """

    process: Any
    connection: Connection
    fit: Fit | None = None
    limit: float = 0.0
    started: float = 0.0
    kept_for: str = ""  # the user's family file that it has run


class Pool:
    """Up to `workers` processes with one thread each; a process is replaced if its fit fails or is killed."""

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self._context = context()
        self._workers: list[_Worker] = []

    @property
    def running(self) -> int:
        """How many fits are running."""
        return len(self._busy)

    @property
    def at_work(self) -> list[tuple[Fit, float]]:
        """Running fits with their seconds so far."""
        now = time.monotonic()
        return [(_busy_with(w), now - w.started) for w in self._busy]

    @property
    def free(self) -> int:
        """How many fits can be started now."""
        return self.workers - self.running

    def start_all(self) -> None:
        """Start every process now, while the caller prepares the first fit."""
        while len(self._workers) < self.workers:
            self._start_worker()

    def start(self, fit: Fit, limit: float) -> None:
        """Start a fit in a free worker; it is killed at the monotonic moment `limit`."""
        if self.free <= 0:
            raise AssertionError("every worker is busy")
        worker = self._worker_for(fit)
        worker.fit, worker.limit, worker.started = fit, limit, time.monotonic()
        with contextlib.suppress(OSError):  # it died while idle: `collect` reports that
            worker.connection.send(fit)

    def collect(self, until: float, *wakers: Connection) -> list[tuple[Fit, FitResult]]:
        """Wait until a fit ends, a limit passes, one of `wakers` is readable, or the moment `until`.

        Returns the fits that ended.
        """
        while self.running or wakers:
            # the sentinel too: what a dead process has started may keep its connection open
            busy = {end: w for w in self._busy for end in (w.connection, w.process.sentinel)}
            horizon = min([until, *(w.limit for w in busy.values())])
            ready = wait([*busy, *wakers], min(60.0, max(0.0, horizon - time.monotonic())))
            if any(waker in ready for waker in wakers):
                until = time.monotonic()
            ended = [
                self._finish(w) for w in {id(busy[r]): busy[r] for r in ready if r in busy}.values()
            ]
            late = [w for w in self._busy if time.monotonic() >= w.limit]
            ended += [self._kill(w, "out of time") for w in late]
            if ended or time.monotonic() >= until:
                return ended
        return []

    def stop(self, which: Callable[[Fit], bool] = lambda _: True) -> list[tuple[Fit, FitResult]]:
        """Kill the workers that run such fits, and idle ones; return the fits."""
        ended = [self._kill(w, "stopped") for w in self._busy if which(_busy_with(w))]
        for worker in [w for w in self._workers if w.fit is None]:
            self._dismiss(worker)
        return ended

    @property
    def _busy(self) -> list[_Worker]:
        return [w for w in self._workers if w.fit is not None]

    def _worker_for(self, fit: Fit) -> _Worker:
        """An idle process that may run the fit, started if need be."""
        own = "" if in_family_folder(Path(fit.family)) else fit.family
        for worker in [w for w in self._workers if w.fit is None]:
            if worker.kept_for in ("", own):
                worker.kept_for = own
                return worker
            self._dismiss(worker)
        worker = self._start_worker()
        worker.kept_for = own
        return worker

    def _start_worker(self) -> _Worker:
        ours, workers_end = self._context.Pipe()
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        given = workers_end, int(MEMORY_SHARE * memory / self.workers)
        process = self._context.Process(target=_work, args=given, daemon=True)
        start(process)
        workers_end.close()
        self._workers.append(_Worker(process=process, connection=ours))
        return self._workers[-1]

    def _dismiss(self, worker: _Worker) -> None:
        self._workers.remove(worker)
        end(worker.process, worker.connection)

    def _finish(self, worker: _Worker) -> tuple[Fit, FitResult]:
        fit = _busy_with(worker)
        try:
            result: FitResult = _received(worker.connection)
        except (EOFError, OSError):
            error = f"process died without a result: {fate(worker.process)}"
            result = FitResult(error=error, seconds=time.monotonic() - worker.started)
        except Exception as error:  # noqa: BLE001  learned params that cannot be read here
            text = f"its result cannot be read: {type(error).__name__}: {error}"
            result = FitResult(error=text[:500], seconds=time.monotonic() - worker.started)
        worker.fit = None
        if result.error or result.leaves:  # what it left in memory is freed with the process
            self._dismiss(worker)
        return fit, result

    def _kill(self, worker: _Worker, why: str) -> tuple[Fit, FitResult]:
        fit, spent = _busy_with(worker), time.monotonic() - worker.started
        self._dismiss(worker)
        return fit, FitResult(error=f"{why} after {spent:.1f} s", seconds=spent)


def _received(connection: Connection) -> Any:
    """The message that is there; EOFError without one: a dead process's own children may hold the pipe open."""
    if not connection.poll():
        raise EOFError
    return connection.recv()


def _busy_with(worker: _Worker) -> Fit:
    if worker.fit is None:
        raise AssertionError("the worker is idle")
    return worker.fit


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


def _work(jobs: Connection, memory: int) -> None:
    """Worker loop: fit each job and send its result until the pipe closes."""
    settle()
    warnings.simplefilter("ignore")
    _limit_memory(memory)
    while True:
        try:
            fit: Fit = jobs.recv()
        except (EOFError, OSError):
            return
        result = _result(fit)
        leaves = threading.active_count() > 1 or has_children()
        jobs.send(replace(result, leaves=True) if leaves else result)


def _result(fit: Fit) -> FitResult:
    started = time.monotonic()
    try:
        return _run(fit)
    except MemoryError:
        return FitResult(error="out of memory", seconds=time.monotonic() - started)
    except BaseException as error:  # noqa: BLE001  a user's estimator may raise anything, also SystemExit
        text, trace = f"{type(error).__name__}: {error}".strip(), traceback.format_exc()
        seconds = time.monotonic() - started
        return FitResult(error=text[:500], trace=trace[-4000:], seconds=seconds)


def _limit_memory(memory: int) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (memory, resource.getrlimit(resource.RLIMIT_AS)[1]))


def _run(fit: Fit) -> FitResult:
    started = time.monotonic()
    family = load_family(fit.family, Path("/"))
    X, y, base, ages = (
        np.load(fit.data / f"train_{n}.npy", mmap_mode="c") for n in ("X", "y", "w", "age")
    )
    weights = recency_weights(ages, fit.recipe.half_life, np.asarray(base))
    fit_args = family.fit_args(fit.shape) if family.fit_args else {}
    learned = fit.learned
    if learned is None:
        learned = _learn(family, fit, (X, y, weights), fit_args)
    uniform = fit.recipe.half_life is None and bool((np.asarray(base) == base[0]).all())
    sample_weight = None if uniform or not family.weights else weights
    train = X, y, sample_weight
    estimator, seconds_fit = _fitted(family, fit, train, fit_args, learned)
    if fit.refit:
        fit.output.write_bytes(pickle.dumps(estimator))
        return FitResult(
            seconds_fit=seconds_fit, seconds=time.monotonic() - started, learned=learned
        )
    if not in_family_folder(family.path):
        pickle.dumps(estimator)  # or its refit would fail
    predicting = time.monotonic()
    task = task_of(range(fit.shape.classes), fit.shape.task)
    output = predict(estimator, np.load(fit.data / "validation_X.npy", mmap_mode="c"), task)
    np.save(fit.output, output)
    ended = time.monotonic()
    return FitResult(
        seconds_fit=seconds_fit,
        seconds=ended - started,
        seconds_predict=ended - predicting,
        learned=learned,
    )


def _fitted(
    family: Family, fit: Fit, train: Sequence[Any], fit_args: Params, learned: Params
) -> tuple[Any, float]:
    """A fitted model, and the seconds that its fit would take without shared preparation."""
    X, y, weights = train
    params, started = {**fit.recipe.params, **learned}, time.monotonic()
    if family.share and family.fit_shared and not fit.refit and not fit.recipe.recent:
        shared, before = _shared(family.share, fit, X, y, weighted=weights is not None)
        started = time.monotonic()
        model = family.fit_shared(params, fit.shape, fit.recipe.seed, shared, weights)
        return model, before + time.monotonic() - started
    if weights is not None:
        fit_args = {**fit_args, "sample_weight": weights}
    estimator = _built(family, params, fit)
    estimator.fit(X, y, **fit_args)
    if fit.recipe.recent and family.recent:
        _fit_recent(family, fit, estimator, (X, y), fit_args)
    return estimator, time.monotonic() - started


def _built(family: Family, params: Params, fit: Fit) -> Any:
    built = family.build(params, fit.shape, fit.recipe.seed)
    if isinstance(built, type) or not hasattr(built, "fit"):
        found = f"the class {built.__name__}" if isinstance(built, type) else type(built).__name__
        raise TypeError(f"build returned {found}; wanted an unfitted estimator")
    return built


_cache: dict[tuple[Any, ...], tuple[Any, float]] = {}  # of this worker; the last used at the end


def _shared(
    share: Callable[..., Any], fit: Fit, X: Any, y: Any, *, weighted: bool
) -> tuple[Any, float]:
    """What fits of a family on the same rows share, and the seconds that its preparation took.

    Weighted fits have an entry of their own, because a family may store the weights in it.
    """
    key = (fit.family, fit.data, fit.recipe.seed, weighted)
    if key not in _cache:
        started = time.monotonic()
        shared = share(X, y, fit.shape, fit.recipe.seed)
        _cache[key] = shared, time.monotonic() - started
    _cache[key] = _cache.pop(key)
    while len(_cache) > MOST_SHARED:
        del _cache[next(iter(_cache))]
    return _cache[key]


def _fit_recent(
    family: Any, fit: Fit, estimator: Any, train: Sequence[Any], fit_args: Params
) -> None:
    """The stage on the newest rows; left out if they are few, or lack a class."""
    X, y = train
    cut = int(len(y) * (1 - fit.recipe.recent))
    if len(y) - cut < RECENT_ROWS or len(np.unique(y[cut:])) < fit.shape.classes:
        return
    newest = {n: v[cut:] if n == "sample_weight" else v for n, v in fit_args.items()}
    family.recent(estimator, X[cut:], y[cut:], **newest)


def takes_later_weights(family: Family) -> bool:
    """Whether a family's `fit` takes `weights_val`, the weights of the early-stopping rows."""
    return family.fit is not None and "weights_val" in inspect.signature(family.fit).parameters


def _learn(family: Any, fit: Fit, train: Sequence[Any], fit_args: Params) -> Params:
    X, y, weights = train
    if family.fit is None or len(y) < EARLY_STOP_ROWS:
        return {}
    cut = int(len(y) * (1 - EARLY_STOP_SHARE))
    if fit.shape.classes and len(np.unique(y[:cut])) < fit.shape.classes:
        return {}
    if takes_later_weights(family):
        fit_args = {**fit_args, "weights_val": weights[cut:]}
    estimator = _built(family, fit.recipe.params, fit)
    returned = family.fit(estimator, X[:cut], y[:cut], X[cut:], y[cut:], weights[:cut], **fit_args)
    learned = plain_params(returned, "fit")
    # the early-stopped model saw fewer rows than the one that will be fitted with what it learned
    grow = min(MOST_TREES_GROWTH, 1 / (1 - EARLY_STOP_SHARE))
    return {k: round(v * grow) if isinstance(v, int) else v for k, v in learned.items()}


def predict(estimator: Any, X: NDArray[np.generic], task: Task) -> NDArray[np.float64]:
    """Output of an estimator fitted on outcomes.

    Raises
    ------
    ValueError
        The output has the wrong shape, is not finite, or holds no probabilities of classes.
    """
    output = task.fitted_output(estimator, X)
    wanted = task.output_shape(len(X))
    if output.shape != wanted:
        raise ValueError(f"predictions have shape {output.shape}; wanted {wanted}")
    if not np.isfinite(output).all():
        raise ValueError("predictions are not finite numbers")
    return output
