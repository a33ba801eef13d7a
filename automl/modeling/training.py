"""One fit, in a child process that can be killed; whatever happens in there is a result, not a crash.

The parent encodes and writes matrices once; children map them, fit with one thread, and answer with
numbers and, for a refit, a file. A child fits one recipe after the other, because starting one costs as
much as a small fit.
"""

from __future__ import annotations

import contextlib
import inspect
import os
import pickle
import resource
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from automl.modeling.families import Family, Shape, load_family
from automl.modeling.recipes import Params, Recipe
from automl.modeling.workers import context, end, fate, settle, start

__all__ = ["Fit", "FitResult", "Pool", "recency_weights", "takes_later_weights"]

EARLY_STOP_SHARE = 0.15  # newest share of the training rows that tells when to stop
EARLY_STOP_ROWS = 500  # fewer training rows than this are not split again
RECENT_ROWS = 200  # fewer newest rows than this have nothing to teach
MOST_TREES_GROWTH = 1.1  # more rows deserve a few more trees, not proportionally more
MOST_SHARED = 4  # things that a child keeps for the fits to come
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


@dataclass(slots=True, eq=False)
class _Worker:
    """A child and what it is at; it fits one job after the other until one goes wrong."""

    process: Any
    connection: Connection
    fit: Fit | None = None
    limit: float = 0.0
    started: float = 0.0


class Pool:
    """At most `workers` children, each with one thread; a child whose fit fails or is killed is replaced."""

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self._context = context()
        self._children: list[_Worker] = []

    @property
    def running(self) -> int:
        """Children now at work."""
        return len(self._busy)

    @property
    def at_work(self) -> list[tuple[Fit, float]]:
        """Fits now at work, and the seconds they have had."""
        now = time.monotonic()
        return [(_busy_with(w), now - w.started) for w in self._busy]

    @property
    def free(self) -> int:
        """Fits that may be started."""
        return self.workers - self.running

    def hire(self) -> None:
        """Start every child now, beside what the caller does before the first fit."""
        while len(self._children) < self.workers:
            self._hire()

    def start(self, fit: Fit, limit: float) -> None:
        """Start a fit in a free child; it is killed at the monotonic moment `limit`."""
        if self.free <= 0:
            raise AssertionError("every child is at work")
        worker = next((w for w in self._children if w.fit is None), None) or self._hire()
        worker.fit, worker.limit, worker.started = fit, limit, time.monotonic()
        with contextlib.suppress(OSError):  # it died while idle; `collect` says so
            worker.connection.send(fit)

    def collect(self, until: float, *wakers: Connection) -> list[tuple[Fit, FitResult]]:
        """Wait until a fit ends, a limit passes, one of `wakers` is readable, or the moment `until`.

        Returns what has ended.
        """
        while self.running or wakers:
            busy = {w.connection: w for w in self._busy}
            horizon = min([until, *(w.limit for w in busy.values())])
            ready = wait([*busy, *wakers], min(60.0, max(0.0, horizon - time.monotonic())))
            if any(waker in ready for waker in wakers):
                until = time.monotonic()
            ended = [self._finish(w) for c, w in busy.items() if c in ready]
            late = [w for w in self._busy if time.monotonic() >= w.limit]
            ended += [self._kill(w, "out of time") for w in late]
            if ended or time.monotonic() >= until:
                return ended
        return []

    def stop(self, which: Callable[[Fit], bool] = lambda _: True) -> list[tuple[Fit, FitResult]]:
        """Kill the children at such fits, and those that are idle; return the fits."""
        ended = [self._kill(w, "stopped") for w in self._busy if which(_busy_with(w))]
        for worker in [w for w in self._children if w.fit is None]:
            self._dismiss(worker)
        return ended

    @property
    def _busy(self) -> list[_Worker]:
        return [w for w in self._children if w.fit is not None]

    def _hire(self) -> _Worker:
        here, there = self._context.Pipe()
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        process = self._context.Process(
            target=_work, args=(there, int(MEMORY_SHARE * memory / self.workers)), daemon=True
        )
        start(process)
        there.close()
        self._children.append(_Worker(process, here))
        return self._children[-1]

    def _dismiss(self, worker: _Worker) -> None:
        self._children.remove(worker)
        end(worker.process, worker.connection)

    def _finish(self, worker: _Worker) -> tuple[Fit, FitResult]:
        fit = _busy_with(worker)
        try:
            result: FitResult = worker.connection.recv()
        except (EOFError, OSError):
            how = f"process died without an answer: {fate(worker.process)}"
            result = FitResult(error=how, seconds=time.monotonic() - worker.started)
        worker.fit = None
        if result.error:  # whatever it left in memory goes with it
            self._dismiss(worker)
        return fit, result

    def _kill(self, worker: _Worker, why: str) -> tuple[Fit, FitResult]:
        fit, spent = _busy_with(worker), time.monotonic() - worker.started
        self._dismiss(worker)
        return fit, FitResult(error=f"{why} after {spent:.1f} s", seconds=spent)


def _busy_with(worker: _Worker) -> Fit:
    if worker.fit is None:
        raise AssertionError("an idle child has nothing to answer")
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
    """The life of a child: fit what comes, answer, until the parent closes or kills."""
    settle()
    warnings.simplefilter("ignore")
    _limit_memory(memory)
    while True:
        try:
            fit: Fit = jobs.recv()
        except (EOFError, OSError):
            return
        jobs.send(_answer(fit))


def _answer(fit: Fit) -> FitResult:
    started = time.monotonic()
    try:
        return _run(fit)
    except MemoryError:
        return FitResult(error="out of memory", seconds=time.monotonic() - started)
    except BaseException as error:  # noqa: BLE001  a user's estimator may raise anything, also SystemExit
        text = f"{type(error).__name__}: {error}".strip()
        return FitResult(
            error=text[:500],
            trace=traceback.format_exc()[-4000:],
            seconds=time.monotonic() - started,
        )


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
    uniform = fit.recipe.half_life is None and bool((np.asarray(base) == base[0]).all())
    given = None if uniform or not family.weights else weights
    estimator, seconds_fit = _fitted(family, fit, (X, y, given), more, learned)
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


def _fitted(
    family: Family, fit: Fit, train: Sequence[Any], more: Params, learned: Params
) -> tuple[Any, float]:
    """Something that predicts, and the seconds that its fit would take with nothing to share."""
    X, y, weights = train
    params, begun = {**fit.recipe.params, **learned}, time.monotonic()
    if family.share and family.fit_shared and not fit.refit and not fit.recipe.recent:
        shared, before = _shared(family.share, fit, X, y, weighted=weights is not None)
        begun = time.monotonic()
        model = family.fit_shared(params, fit.shape, fit.recipe.seed, shared, weights)
        return model, before + time.monotonic() - begun
    if weights is not None:
        more = {**more, "sample_weight": weights}
    estimator = family.build(params, fit.shape, fit.recipe.seed)
    estimator.fit(X, y, **more)
    if fit.recipe.recent and family.recent:
        _go_on(family, fit, estimator, (X, y), more)
    return estimator, time.monotonic() - begun


_kept: dict[tuple[Any, ...], tuple[Any, float]] = {}  # a child's own; the newest last


def _shared(
    share: Callable[..., Any], fit: Fit, X: Any, y: Any, *, weighted: bool
) -> tuple[Any, float]:
    """What fits of a family on the same rows share, and the seconds that it took to make.

    Weighted fits have one of their own: whoever sets weights need not think of who comes next.
    """
    at = (fit.family, fit.data, fit.recipe.seed, weighted)
    if at not in _kept:
        begun = time.monotonic()
        made = share(X, y, fit.shape, fit.recipe.seed)
        _kept[at] = made, time.monotonic() - begun
    _kept[at] = _kept.pop(at)
    while len(_kept) > MOST_SHARED:
        del _kept[next(iter(_kept))]
    return _kept[at]


def _go_on(family: Any, fit: Fit, estimator: Any, train: Sequence[Any], more: Params) -> None:
    """The stage on the newest rows; left out where they are few, or lack a class."""
    X, y = train
    cut = int(len(y) * (1 - fit.recipe.recent))
    if len(y) - cut < RECENT_ROWS or len(np.unique(y[cut:])) < fit.shape.classes:
        return
    newest = {n: v[cut:] if n == "sample_weight" else v for n, v in more.items()}
    family.recent(estimator, X[cut:], y[cut:], **newest)


def takes_later_weights(family: Family) -> bool:
    """Whether a family's `fit` wants to know how much the rows count that tell it when to stop."""
    return family.fit is not None and "weights_val" in inspect.signature(family.fit).parameters


def _learn(family: Any, fit: Fit, train: Sequence[Any], more: Params) -> Params:
    X, y, weights = train
    if family.fit is None or len(y) < EARLY_STOP_ROWS:
        return {}
    cut = int(len(y) * (1 - EARLY_STOP_SHARE))
    if fit.shape.classes and len(np.unique(y[:cut])) < fit.shape.classes:
        return {}
    if takes_later_weights(family):
        more = {**more, "weights_val": weights[cut:]}
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
        output /= output.sum(axis=1, keepdims=True)  # some answer in single precision
    if output.ndim != (2 if classes else 1) or not np.isfinite(output).all():
        raise ValueError("predictions are not finite numbers")
    return output
