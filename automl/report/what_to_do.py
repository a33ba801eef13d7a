"""Commands for a reader who disagrees with a cycle, and what it takes to reproduce it."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from automl.problem import Problem
from automl.store import Cycle, DecisionRecord, Release, Store
from automl.workspace import Workspace, day_of

__all__ = ["reproduction", "ways_to_act"]

PACKAGES = ("automl-retrain", "scikit-learn", "lightgbm", "optuna", "mlflow", "pandas", "numpy")


def ways_to_act(
    store: Store, problem: Problem, cycle: Cycle, record: DecisionRecord | None
) -> dict[str, Any]:
    """Who may do what now, each with its command."""
    file, waiting = problem.file.name, store.waiting(problem.name)
    releases = store.releases(problem.name, limit=3)
    commands: list[dict[str, str]] = []
    if waiting is not None:
        v = waiting.model_version
        commands += [
            {
                "when": f"Release version {v}, which awaits approval until {waiting.expires_at:%Y-%m-%d %H:%M} UTC",
                "command": f'automl approve {file} {v} --reason "..."',
            },
            {
                "when": f"Reject version {v}; for five cycles its blend needs stronger evidence",
                "command": f'automl reject {file} {v} --reason "..."',
            },
        ]
    if len(releases) > 1:
        now, before = releases[0].model_version, releases[1].model_version
        commands.append(
            {
                "when": f"Undo: back from version {now} to version {before}, with its predictions, in one transaction",
                "command": f'automl rollback {file} --reason "..."',
            }
        )
    when = day_of(cycle.as_of)
    commands.append(
        {
            "when": "Run this cycle again, after a change of the problem file or of the data",
            "command": f'automl cycle {file} --as-of {when} --again --reason "..."',
        }
    )
    if record is not None:
        commands.append(
            {
                "when": "See every challenger and block of this decision",
                "command": f"automl why {file} --cycle {when}",
            }
        )
    return {"waiting": waiting.model_version if waiting else None, "commands": commands}


def reproduction(
    problem: Problem,
    workspace: Workspace,
    cycle: Cycle,
    record: DecisionRecord | None,
    release: Release | None,
) -> dict[str, Any]:
    """Command, snapshot, code and recipes of a cycle."""
    receipts: Mapping[str, Any] = cycle.receipts
    snapshot = receipts.get("snapshot") or {}
    return {
        "command": f"automl reproduce {problem.file.name} --cycle {day_of(cycle.as_of)}"
        if record and release
        else None,
        "facts": {
            "snapshot": snapshot.get("digest"),
            "rows": snapshot.get("rows"),
            "problem file": cycle.problem_digest,
            "seed": problem.sweep.seed,
            "run": receipts.get("run_id"),
            "model version": release.model_version if release else None,
            "fingerprint": release.fingerprint if release else None,
            "workspace": workspace.home.name,
            "Python": platform.python_version(),
            **{name: _version(name) for name in PACKAGES},
        },
        "recipes": [
            {
                "family": m.recipe.family,
                "weight": m.weight,
                "recipe": m.recipe.id,
                "params": {**m.recipe.params, **m.learned},
                "half_life": m.recipe.half_life,
            }
            for m in (release.blend.members if release else ())
        ],
        "files": dict(release.digests) if release else {},
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
