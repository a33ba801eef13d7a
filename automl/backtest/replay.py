"""One event of one policy, replayed by the real conductors and measured; runs in a process of an engine.

The labels of the future are read here, after the conductors have ended; they never are given any.
"""

from __future__ import annotations

import json
import logging
import math
import resource
import time
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from automl import history, predictions
from automl.backtest.scratch import Scratch
from automl.backtest.window import Event
from automl.cycles.options import RunOptions
from automl.errors import AutomlError, BusyError, DiskError, ProblemError, UnreachableError
from automl.files import write_json
from automl.history import Snapshot
from automl.history.contract import load_contract
from automl.modeling.metrics import get_metric
from automl.monitoring.realised import score_published
from automl.retrain import retrain
from automl.score import cycle, score
from automl.store import Generation, Release, Store
from automl.tracking import closing_model, load_model, open_registry

__all__ = ["event_file", "replay"]

MOVED = 0.05  # of a probability; of a number, as a share of the predictions' standard deviation twice as much
MOST_ROWS = 5_000  # of a batch, whose predictions of two models are compared
Kept = Mapping[str, Any]  # receipts of the real cycle at this moment: its snapshot


def event_file(scratch: Scratch, event: Event) -> Path:
    """The document of a replayed event."""
    return scratch.results / f"{event.as_of:%Y%m%dT%H%M%S}-{event.verb}.json"


def replay(scratch: Scratch, event: Event, labels: Snapshot, kept: Kept | None = None) -> float:
    """Run an event and write its document; again, it does only what is missing. Returns its seconds.

    Raises
    ------
    AutomlError
        The source or the disk fails, or the problem or a user's file is wrong. Cycles that the data or the guards
        refuse are results: the champion predicts, as an operator would let it.
    """
    file = event_file(scratch, event)
    if file.exists():
        return float(json.loads(file.read_text("utf-8"))["seconds"])
    logging.getLogger("automl").setLevel(logging.ERROR)
    began, cpu = time.monotonic(), _cpu()
    if kept:
        _seed(scratch, event.as_of, kept)
    refused = _run(scratch, event)
    measured = _measured(scratch, event, labels) if event.verb != "retrain" else {}
    seconds = round(time.monotonic() - began, 2)
    document = {
        "as_of": event.as_of.isoformat(),
        "verb": event.verb,
        "refused": refused,
        **_what_happened(scratch, event),
        **measured,
        "seconds": seconds,
        "process_seconds": round(_cpu() - cpu, 2),
        "as_known_then": bool(kept),
    }
    file.parent.mkdir(exist_ok=True)
    write_json(file, document)
    return seconds


def _run(scratch: Scratch, event: Event) -> str:
    """Run the conductors; why a cycle was refused, or an empty text."""
    verbs = {"cycle": cycle, "retrain": retrain, "score": score}
    options = RunOptions(as_of=event.as_of, trigger="backtest")
    try:
        verbs[event.verb](*scratch, options)
    except (UnreachableError, DiskError, BusyError, ProblemError):
        raise
    except AutomlError as error:
        if Store(scratch.workspace).champion(scratch.problem.name, at=event.as_of) is None:
            raise
        refused = str(error)
    else:
        return ""
    if event.verb == "cycle":
        try:
            score(*scratch, options)
        except (UnreachableError, DiskError, BusyError):
            raise
        except AutomlError as error:
            return f"{refused}; then: {error}"
    return refused


def _seed(scratch: Scratch, as_of: datetime, kept: Kept) -> None:
    """Let a cycle begin with the snapshot that the real one had at that moment."""
    problem, store = scratch.problem, Store(scratch.workspace)
    if store.find_cycle(problem.name, "retrain", as_of) is None:
        opened = store.open_cycle(problem.name, "retrain", as_of, 1, problem.digest)
        store.note(opened, snapshot=dict(kept))


def _what_happened(scratch: Scratch, event: Event) -> dict[str, Any]:
    """Plan, decision and cost of an event, as its store has them."""
    problem, store = scratch.problem, Store(scratch.workspace)
    trained = store.find_cycle(problem.name, "retrain", event.as_of)
    if event.verb == "score" or trained is None:
        return {"action": "score", "outcome": "", "reason": "", "core_seconds": 0.0}
    receipts = trained.receipts
    skipped = trained.status == "skipped"
    made = next((d for d in store.decisions(problem.name) if d.as_of == event.as_of), None)
    action = "skip" if skipped else receipts.get("plan", {}).get("kind", "refused")
    return {
        "action": action if trained.ended else "refused",
        "policy": (receipts.get("policy") or {}).get("reason", ""),
        "outcome": made.outcome if made else "",
        "reason": trained.reason,
        "core_seconds": float((receipts.get("cost") or {}).get("core_seconds", 0.0)),
    }


# ------------------------------------------------------------ what was published


def _measured(scratch: Scratch, event: Event, labels: Snapshot) -> dict[str, Any]:
    """Loss of the published predictions on the labels, and how many of them the newest model moved."""
    problem, workspace = scratch
    store, contract = Store(workspace), load_contract(problem)
    live = store.live(problem.table)
    if live is None or live.as_of != event.as_of or contract is None:
        return {"loss": None, "scores": {}, "rows": 0, "labelled_rows": 0, "version": None}
    frame = history.read(labels, since=live.as_of, until=live.until)
    if contract.classes:
        known = frame[problem.history.target].astype("str").isin(map(str, contract.classes))
        frame = frame[known]
    scores, rows = score_published(store, problem, contract, live, frame)
    metric = get_metric(problem.metric.name)
    loss = metric.loss(scores[metric.name]) if metric.name in scores else math.nan
    return {
        "loss": loss if math.isfinite(loss) else None,
        "scores": {k: v for k, v in scores.items() if math.isfinite(v)},
        "rows": live.rows,
        "labelled_rows": rows,
        "version": live.model_version,
        "moved": _moved(scratch, store, live),
    }


def _moved(scratch: Scratch, store: Store, live: Generation) -> float | None:
    """Share of the batch's rows that the model before would have predicted otherwise; None for the first."""
    problem, workspace = scratch
    published = [g for g in store.generations(problem.name, limit=10) if g.as_of < live.as_of]
    if not published:
        return None
    if published[0].model_version == live.model_version:
        return 0.0
    by_version = {r.model_version: r for r in store.releases(problem.name)}
    pair = [by_version.get(v) for v in (published[0].model_version, live.model_version)]
    batch = history.frozen_batch(history.Folders(workspace.history(problem.name)), live.batch)
    if batch is None or None in pair:
        return None
    frame = pd.concat(predictions.read_pieces(batch, problem), ignore_index=True)
    rows = np.unique(np.linspace(0, len(frame) - 1, min(len(frame), MOST_ROWS)).astype("int64"))
    frame = frame.iloc[rows].reset_index(drop=True)
    try:
        before, after = (_output(scratch, release, frame) for release in pair if release)
    except AutomlError:  # the model before needs a column that is gone
        return None
    return share_moved(before, after)


def _output(scratch: Scratch, release: Release, frame: pd.DataFrame) -> np.ndarray:
    contract = load_contract(scratch.problem)
    if contract is None:
        raise AssertionError("a model cannot be older than its contract")
    registry = open_registry(*scratch)
    model = load_model(registry, release.model_version, release.digests, release.blend.families)
    with closing_model(model):
        return predictions.model_output(model, frame, contract)


def share_moved(before: np.ndarray, after: np.ndarray) -> float | None:
    """Share of rows whose predictions differ: another class, a probability by 0.05, a number by a tenth of the deviation.

    Parameters
    ----------
    before, after
        Probabilities, shape (n_rows, n_classes), or values, shape (n_rows,).
    """
    if before.shape != after.shape:
        return None
    if before.ndim == 1:
        spread = float(np.std(before))
        return float(np.mean(np.abs(after - before) > 2 * MOVED * spread))
    other = before.argmax(axis=1) != after.argmax(axis=1)
    return float(np.mean(other | (np.abs(after - before).max(axis=1) > MOVED)))


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
