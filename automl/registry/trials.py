"""A trial as reviewers see it: a child run with its metrics, parameters, and what went wrong."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol

import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import Metric, Param

from automl.spaces import Family
from automl.sweep import Trial

__all__ = ["Look", "TrialLog", "looks_of", "rounded", "write_trial"]

COLOURS = ("#2b7bba", "#e08214", "#4d9221", "#8073ac", "#c51b7d", "#01665e", "#b35806", "#5f5f5f")


class Look(NamedTuple):
    """How the runs of a family are named and coloured."""

    family: str
    short: str
    colour: str


class TrialLog(Protocol):
    """Takes a trial to be logged, or one that was, with what became of it."""

    def __call__(self, trial: Trial, role: str = "") -> None:
        """Return at once."""


def looks_of(families: Mapping[str, Family]) -> dict[str, Look]:
    """A colour each, in the order of the families."""
    colours = zip(families.items(), COLOURS * 4, strict=False)
    return {name: Look(f.name, f.short, colour) for (name, f), colour in colours}


def write_trial(
    client: MlflowClient,
    experiment: str,
    name: str,
    parent: str,
    cycle: str,
    trial: Trial,
    look: Look,
) -> str:
    """A child run of a cycle; `name` is the metric's. Returns the run's id."""
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
        tags["mlflow.note.content"] = f"**{trial.status}**: {trial.reason}"
    run = client.create_run(experiment, run_name=f"{look.short} #{trial.number:03d}", tags=tags)
    values = {"fit_s": trial.seconds_fit, "blocks": float(len(trial.scores))}
    if trial.seconds_predict:  # not of who had answered in an earlier cycle
        values["pred_ms_1k"] = 1000 * trial.seconds_predict
    if trial.status == "complete":
        values[f"cv_{name}"] = trial.score
        values[f"cv_{name}_sd"] = float(pd.Series(trial.scores).std(ddof=0))
        values |= {f"cv_{k}": v for k, v in trial.also.items()}
    elif trial.scores:
        values[f"partial_{name}"] = trial.score
    metrics = [Metric(k, rounded(v), 0, 0) for k, v in values.items()]
    steps = len(trial.scores) - 1  # step 0 is the oldest block: charts run forward in time
    metrics += [
        Metric(f"block_{name}", rounded(s), 0, steps - i) for i, s in enumerate(trial.scores)
    ]
    told = {
        "family": look.family,
        **trial.recipe.params,
        **trial.learned,
        "half_life": trial.recipe.half_life,
        "recent": trial.recipe.recent or None,
        "trend": trial.recipe.trend or None,
    }
    params = [Param(k, shown(v)) for k, v in told.items()]
    client.log_batch(run.info.run_id, metrics=metrics, params=params)
    if trial.trace:
        client.log_text(run.info.run_id, trial.trace, "error/traceback.txt")
    client.set_terminated(run.info.run_id, "FAILED" if trial.status == "failed" else "FINISHED")
    return str(run.info.run_id)


def rounded(value: float) -> float:
    """Five significant digits: the UI prints numbers raw."""
    return float(f"{value:.5g}")


def shown(value: object) -> str:
    """A parameter as text."""
    return f"{value:.5g}" if isinstance(value, float) else str(value)
