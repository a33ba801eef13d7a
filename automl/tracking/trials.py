"""Trials as MLflow child runs: metrics, parameters, and the reason of a failure."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from concurrent import futures
from concurrent.futures import Executor
from typing import NamedTuple

import pandas as pd
from mlflow.entities import Metric, Param

from automl.modeling.families import Family
from automl.redaction import redact
from automl.sweep import Trial
from automl.tracking.connection import Connection

__all__ = ["Look", "TrialLog", "looks_of", "rounded", "write_trial"]

COLOURS = ("#2b7bba", "#e08214", "#4d9221", "#8073ac", "#c51b7d", "#01665e", "#b35806", "#5f5f5f")

REASON = 200  # letters of a reason in a table
DRAIN = 1.0  # seconds: an unreachable MLflow server must not use up the time of the refit


class Look(NamedTuple):
    """Name and colour of a family's runs."""

    family: str
    short: str
    colour: str


class TrialLog:
    """Logs trials, and then their roles, in the thread of a pool; a trial that cannot be logged is skipped."""

    def __init__(self, pool: Executor, write: Callable[[Trial, str], None]) -> None:
        self._pool = pool
        self._write = write
        self.waited = 0.0  # seconds spent in `drain`

    def __call__(self, trial: Trial, role: str = "") -> None:
        """Queue a trial, or the role of a logged one; returns at once."""
        self._pool.submit(self._quietly, trial, role)

    def drain(self) -> None:
        """Wait until all queued trials are logged, at most `DRAIN` seconds.

        A process frozen afterwards has no request to MLflow under way.
        """
        began = time.monotonic()
        futures.wait([self._pool.submit(lambda: None)], timeout=DRAIN)
        self.waited += time.monotonic() - began

    def _quietly(self, trial: Trial, role: str) -> None:
        with contextlib.suppress(Exception):
            self._write(trial, role)


def looks_of(families: Mapping[str, Family]) -> dict[str, Look]:
    """A colour each, in the order of the families."""
    colours = zip(families.items(), COLOURS * 4, strict=False)
    return {name: Look(f.name, f.short, colour) for (name, f), colour in colours}


def write_trial(
    client: Connection,
    experiment: str,
    name: str,
    parent: str,
    cycle: str,
    trial: Trial,
    look: Look,
) -> str:
    """Write the child run of a trial; `name` is the metric's. Returns the run's id."""
    tags = {
        "mlflow.parentRunId": parent,
        "mlflow.runColor": look.colour,
        "kind": "trial",
        "cycle": cycle,
        "family": look.family,
        "state": trial.status,
        "source": trial.source,
        "recipe": trial.recipe.id,
    }
    if trial.reason:
        reason = redact(trial.reason)
        tags["reason"] = reason.splitlines()[0][:REASON]  # a column of the view of failed trials
        tags["mlflow.note.content"] = f"**{trial.status}**: {reason}"
    run = client.create_run(experiment, run_name=f"{look.short} #{trial.number:03d}", tags=tags)
    metrics = _metrics(trial, name)
    values_of_params = {
        "family": look.family,
        **trial.recipe.params,
        **trial.learned,
        "half_life": trial.recipe.half_life,
        "recent": trial.recipe.recent or None,
        "trend": trial.recipe.trend or None,
    }
    params = [Param(k, shown(v)) for k, v in values_of_params.items()]
    client.log_batch(run.info.run_id, metrics=metrics, params=params)
    if trial.trace:
        client.log_text(run.info.run_id, redact(trial.trace), "error/traceback.txt")
    client.set_terminated(run.info.run_id, "FAILED" if trial.status == "failed" else "FINISHED")
    return str(run.info.run_id)


def _metrics(trial: Trial, name: str) -> list[Metric]:
    """The score first, by name and in the order of writing: compare pages begin with it."""
    values: dict[str, float] = {}
    if trial.status == "complete":
        values[f"cv_{name}"] = trial.score
        values[f"cv_{name}_sd"] = float(pd.Series(trial.scores).std(ddof=0))
        values |= {f"other_{k}": v for k, v in trial.also.items()}
    elif trial.scores:
        values[f"partial_{name}"] = trial.score
    values |= {"fit_s": round(trial.seconds_fit, 3), "n_blocks": float(len(trial.scores))}
    if trial.seconds_predict:  # absent if the trial predicted in an earlier cycle
        values["pred_ms_1k"] = round(1000 * trial.seconds_predict, 2)
    metrics = [Metric(k, rounded(v), 0, 0) for k, v in values.items()]
    steps = len(trial.scores) - 1  # step 0 is the oldest block, so charts run forward in time
    return metrics + [
        Metric(f"per_block_{name}", rounded(s), 0, steps - i) for i, s in enumerate(trial.scores)
    ]


def rounded(value: float) -> float:
    """Five significant digits: the UI prints numbers raw."""
    return float(f"{value:.5g}")


def shown(value: object) -> str:
    """A parameter as text."""
    return f"{value:.5g}" if isinstance(value, float) else str(value)
