"""The steps of a backtest: labels, the first cycle, an estimate, every policy date by date, a document.

The real workspace is only read; what is written lies in one folder below it, from which an interrupted backtest
continues.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import filelock

from automl import history, progress
from automl.backtest.document import make_document
from automl.backtest.replay import event_file, replay
from automl.backtest.scratch import FIRST, Scratch, copy_first, home_of, prepare, scratch_of
from automl.backtest.window import Event, Options, Window, known_policies, window_of
from automl.engines import Engine, Item, LocalEngine, Outcome
from automl.errors import AutomlError, BusyError, HistoryError, UnreachableError
from automl.files import write_json
from automl.history import Snapshot
from automl.problem import Problem, Span
from automl.report.figures import backtest_plot
from automl.store import store_as_it_is
from automl.tracking import Registry
from automl.workspace import Workspace, day_of, now

__all__ = ["backtest"]

LABELS = "labels"  # folder of the labels as known at the end
_log = logging.getLogger(__name__)


def backtest(problem: Problem, workspace: Workspace, options: Options) -> dict[str, Any]:
    """Replay the window under every policy; returns the document that `--json` prints.

    Raises
    ------
    ProblemError
        The window is empty or too short, or a policy is unknown.
    HistoryError
        The window has no labels, or its first cycle is refused.
    """
    began = time.monotonic()
    policies, window = known_policies(problem, options.policies), window_of(problem, options)
    at_once = max(1, min(options.workers, len(policies), workspace.workers))
    home = home_of(workspace, window)
    workspace.create()
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _alone(home), LocalEngine(at_once) as engine:
        first = scratch_of(window, workspace, home, FIRST)
        prepare(first, problem)
        with progress.step("pull labels"):
            labels = _labels(window, workspace, home)
        book = _Book(
            window=window,
            engine=engine,
            labels=labels,
            kept=_kept(window, workspace),
            until=began + options.budget.seconds if options.budget else float("inf"),
        )
        _run_first(book, first)
        scratches = {
            name: scratch_of(window, workspace, home, name, at_once=at_once) for name in policies
        }
        for scratch in scratches.values():
            copy_first(first, scratch)
        estimate = _estimated(book, scratches)
        with progress.step("replay"):
            _run_all(book, scratches)
    if len(book.failed) == len(policies):
        raise AutomlError(
            next(iter(book.failed.values())),
            code="policies_failed",
            next_step="Correct the policies, or name others with --policies; the same command then continues.",
        )
    document = make_document(
        window,
        {name: list(_events(scratch, window)) for name, scratch in scratches.items()},
        failed=book.failed,
        home=home,
        estimate=estimate,
        seconds=time.monotonic() - began,
    )
    plot = backtest_plot(document)
    write_json(home / "backtest.json", document)
    (home / "backtest.svg").write_text(plot, encoding="utf-8")
    return {**document, "run_id": _log_run(problem, workspace, document, plot)}


@dataclass(slots=True, eq=False, kw_only=True)
class _Book:
    """What a running backtest keeps: where it runs, until when, and which policies failed."""

    window: Window
    engine: Engine
    labels: Snapshot
    kept: Mapping[str, Any]
    until: float  # of the monotonic clock
    failed: dict[str, str] = field(default_factory=dict)

    def submit(self, name: str, scratch: Scratch, event: Event) -> None:
        """Give an event of a policy to the engine."""
        kept = self.kept.get(event.as_of.isoformat())
        arguments = (scratch, event, self.labels, kept)
        self.engine.submit(Item(key=name, function=replay, arguments=arguments))


def _run_first(book: _Book, first: Scratch) -> None:
    """The cycle that every policy begins with.

    Raises
    ------
    HistoryError
        Its data are refused: the window begins too early, for example.
    """
    event = book.window.events[0]
    book.submit(FIRST, first, event)
    with progress.step("first cycle"):
        outcome = book.engine.collect()
    error = outcome.error if outcome else None
    if isinstance(error, HistoryError):
        raise HistoryError(
            f"the first cycle of the window, {day_of(event.as_of)}, is refused: {error}",
            code=error.code,
            next_step="Begin later, when there is enough history: --from.",
        ) from error
    if error is not None:
        raise error


def _run_all(book: _Book, scratches: Mapping[str, Scratch]) -> None:
    """Every policy date by date, those that are behind first, until all have ended or the time is up."""
    todo = {
        name: [e for e in book.window.events if not event_file(scratch, e).exists()]
        for name, scratch in scratches.items()
    }
    expected = {name: _slowest(scratch, book.window) for name, scratch in scratches.items()}
    running: set[str] = set()
    count, began = sum(map(len, todo.values())), time.monotonic()
    while True:
        left = sum(map(len, todo.values()))
        _show(count - left, count, began, running)
        waiting = sorted((n for n in todo if todo[n] and n not in running), key=_behind(todo))
        for name in waiting[: book.engine.capacity - len(running)]:
            if time.monotonic() + expected[name] > book.until:
                todo.clear()  # what is missing is said in the document
                break
            running.add(name)
            book.submit(name, scratches[name], todo[name][0])
        outcome = book.engine.collect()
        if outcome is None:
            return
        running.discard(outcome.key)
        _take(book, outcome, todo)
        expected[outcome.key] = _slowest(scratches[outcome.key], book.window)


def _show(done: int, count: int, began: float, running: Collection[str]) -> None:
    """How many cycles are replayed, and how long the others will take if they go on like this."""
    now = time.monotonic()
    until = now + (now - began) * (count - done) / done if done else None
    text = f"{done} of {count} cycles; {', '.join(sorted(running))}"
    progress.show(text, done=done, of=count, until=until)


def _behind(todo: Mapping[str, Sequence[Event]]) -> Callable[[str], int]:
    return lambda name: -len(todo[name])


def _slowest(scratch: Scratch, window: Window) -> float:
    """Seconds of a policy's slowest event after the first one; of the first as long as there is no other."""
    seconds = [float(event["seconds"]) for event in _events(scratch, window)]
    return max(seconds[1:], default=seconds[0])


def _take(book: _Book, outcome: Outcome, todo: dict[str, list[Event]]) -> None:
    """Note an outcome; a policy that fails is left out, a source that is away ends the backtest."""
    name = outcome.key
    if outcome.error is None:
        done = todo[name].pop(0) if todo.get(name) else None
        if done:
            _log.info("%s: %s, %.0f s", name, day_of(done.as_of), outcome.seconds)
        return
    if isinstance(outcome.error, (UnreachableError, BusyError)):
        raise outcome.error
    _log.warning("policy %s ends here: %s", name, outcome.error)
    book.failed[name] = str(outcome.error)
    todo.pop(name, None)


def _estimated(book: _Book, scratches: Mapping[str, Scratch]) -> float:
    """Seconds that the backtest is expected to take at most, from the first cycle: no cycle searches more."""
    first = json.loads(
        event_file(next(iter(scratches.values())), book.window.events[0]).read_text("utf-8")
    )
    missing = sum(
        not event_file(scratch, event).exists()
        for scratch in scratches.values()
        for event in book.window.events
    )
    seconds = missing * float(first["seconds"])
    left = max(0.0, book.until - time.monotonic())
    _log.info(
        "%d cycles of %d policies are to be replayed: at most about %s%s",
        missing,
        len(scratches),
        _minutes(seconds),
        f", of which --budget allows {_minutes(left)}" if seconds > left else "",
    )
    return seconds


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"


# ------------------------------------------------------------ what the real workspace has


def _labels(window: Window, workspace: Workspace, home: Path) -> Snapshot:
    """The labels of the window as known at its end; today, where the problem does not say when they are.

    Raises
    ------
    HistoryError
        There are none.
    """
    problem = window.problem
    at = now() if problem.history.label_time else window.labels_at
    length = int((at - window.start).total_seconds() // 86_400) + 2
    h = problem.history.model_copy(update={"keep": Span(length, "d"), "updated_at": ""})
    every = problem.model_copy(update={"history": h})
    place = Workspace(
        root=workspace.root,
        home=home / LABELS,
        database_url="",
        tracking_uri="",
        workers=workspace.workers,
    )
    days = f"from {day_of(window.start)} to {day_of(window.end)} no row has a label"
    step = "Choose a window whose labels have arrived: --from, --to."
    try:
        snapshot = history.pull(every, place, at)
    except HistoryError as error:
        if error.code != "no_history":
            raise
        raise HistoryError(days, code="no_labels", next_step=step) from error
    if not len(history.read(snapshot, since=window.start, until=window.end)):
        raise HistoryError(
            f"{days}; labelled rows begin {snapshot.first:%Y-%m-%d} and end {snapshot.last:%Y-%m-%d}",
            code="no_labels",
            next_step=step,
        )
    return snapshot


def _kept(window: Window, workspace: Workspace) -> dict[str, Any]:
    """Receipts of snapshots that real cycles of this window left, where rows change after they were pulled."""
    store = store_as_it_is(workspace) if window.problem.history.updated_at else None
    found: dict[str, Any] = {}
    for event in window.events if store else ():
        ended = store.find_cycle(window.problem.name, "retrain", event.as_of) if store else None
        receipt = ended.receipts.get("snapshot") if ended else None
        if receipt and Path(receipt["path"]).exists():
            found[event.as_of.isoformat()] = receipt
    return found


def _events(scratch: Scratch, window: Window) -> Iterator[dict[str, Any]]:
    """Documents of the events that were replayed, up to the first that is missing."""
    for event in window.events:
        file = event_file(scratch, event)
        if not file.exists():
            return
        yield json.loads(file.read_text("utf-8"))


@contextmanager
def _alone(home: Path) -> Iterator[None]:
    lock = filelock.FileLock(home / "backtest.lock", timeout=0)
    try:
        lock.acquire()
    except filelock.Timeout as error:
        raise BusyError(
            f"another backtest runs in {home}",
            code="busy",
            next_step="Wait for it, or stop it; the same command then continues.",
        ) from error
    try:
        yield
    finally:
        lock.release()


def _log_run(problem: Problem, workspace: Workspace, document: Mapping[str, Any], plot: str) -> str:
    """The document as a run of the problem's experiment; an MLflow that is away is a warning."""
    names = ("loss", "regret", "core_seconds", "promotions", "reverts", "moved")
    metrics = {
        f"{row['folder']}_{name}": float(row[name])
        for row in document["policies"]
        for name in names
        if row.get(name) is not None
    }
    try:
        return Registry(problem, workspace).log_run(
            f"backtest {document['from']} to {document['to']}",
            tags={"kind": "backtest", "mlflow.note.content": document["recommendation"]["text"]},
            params={k: document[k] for k in ("from", "to", "every", "metric", "cycles")},
            metrics=metrics,
            artifacts={"backtest.json": dict(document), "backtest.svg": plot},
        )
    except AutomlError as error:
        _log.warning("the backtest is not in MLflow: %s", error)
        return ""
