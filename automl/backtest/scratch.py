"""Scratch workspaces: one per policy, below the real one, with a store and models of its own.

Nothing outside its folder is written: no MLflow, no parquet copy, no alert. Their first cycle, a full search
without a champion, is the same for every policy, so it runs once and is copied.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from automl.backtest.window import Window, absolute
from automl.history.contract import contract_file
from automl.modeling.user_files import is_path
from automl.problem import POLICIES, MonitoringSection, Problem, Span
from automl.workspace import Workspace

__all__ = ["FIRST", "Scratch", "copy_first", "folder_of", "home_of", "scratch_of"]

FIRST = "first"  # folder of the first cycle, which all policies share
STORE = "automl.db"
IMMUTABLE = (".parquet", ".pickle", ".npy")  # files that are replaced, never changed: links do


class Scratch(NamedTuple):
    """A problem under one policy, and its workspace."""

    problem: Problem
    workspace: Workspace

    @property
    def results(self) -> Path:
        """Folder with one document per replayed event."""
        return self.workspace.home / "events"


def home_of(workspace: Workspace, window: Window) -> Path:
    """Folder of a backtest: the same problem, contract, users' files and window again continue in it."""
    problem, days = window.problem, f"{window.start:%Y%m%dT%H%M}-{window.end:%Y%m%dT%H%M}"
    plain = problem.model_copy(update={"retraining": type(problem.retraining)()})
    digest = hashlib.sha256(f"{plain.digest}{window.events[1:2]}".encode())
    families = [Path(f) for f in absolute(problem).sweep.families if is_path(f)]
    for file in (contract_file(problem), problem.transformer, *families):
        digest.update(file.read_bytes() if file is not None and file.is_file() else b"none")
    return workspace.home / "backtests" / f"{problem.name}-{days}-{digest.hexdigest()[:8]}"


def folder_of(policy: str) -> str:
    """Name of a policy's folder; a file's holds a digest of its content, so that an edited policy starts over."""
    if policy in POLICIES or policy == FIRST:
        return policy
    path = Path(policy.rpartition(":")[0] if not policy.endswith(".py") else policy)
    digest = hashlib.sha256(path.read_bytes() + policy.encode()).hexdigest()[:8]
    return f"{path.stem}-{digest}"


def scratch_of(
    window: Window, workspace: Workspace, home: Path, policy: str, *, at_once: int = 1
) -> Scratch:
    """The problem under a policy in its folder; `FIRST` is the cycle that all begin with.

    Policies that are replayed at once share the cores: each sweep then has fewer workers, and a budget as much
    longer.
    """
    folder, problem = home / folder_of(policy), absolute(window.problem)
    workers = max(1, workspace.workers // at_once)
    budget = problem.sweep.budget
    if budget is not None and workers < workspace.workers:
        seconds = min(86_399, round(budget.seconds * workspace.workers / workers))
        budget = Span(seconds, "s")
    update = {
        "file": folder / "problem.toml",
        "retraining": problem.retraining.model_copy(
            update={"when": "full" if policy == FIRST else policy, "mode": "act"}
        ),
        "sweep": problem.sweep.model_copy(update={"budget": budget}),
        "publish": problem.publish.model_copy(update={"parquet": ""}),
        "monitoring": MonitoringSection(),
    }
    if problem.history.updated_at:  # rows are read as they are today; see `kept` in `replay`
        h = problem.history
        ignored = tuple(dict.fromkeys((*h.ignore, h.updated_at)))
        update["history"] = h.model_copy(update={"updated_at": "", "ignore": ignored})
    scratch = replace(
        workspace,
        home=folder,
        database_url=f"sqlite:///{folder / STORE}",
        tracking_uri="",
        workers=workers,
        reports=False,
    )
    return Scratch(problem.model_copy(update=update), scratch)


def prepare(scratch: Scratch, real: Problem) -> None:
    """Create its folder, with copies of the problem file and of the contract."""
    scratch.workspace.create()
    shutil.copyfile(real.file, scratch.problem.file)
    if contract_file(real).exists():
        shutil.copyfile(contract_file(real), contract_file(scratch.problem))


def copy_first(first: Scratch, scratch: Scratch) -> None:
    """Begin a policy with a copy of the first cycle, unless it has begun."""
    target = scratch.workspace.home
    if target.exists():
        return
    source, aside = first.workspace.home, target.with_name(f"{target.name}.tmp")
    shutil.rmtree(aside, ignore_errors=True)
    ignored = shutil.ignore_patterns(f"{STORE}*", "*.lock")
    shutil.copytree(source, aside, copy_function=_copy, ignore=ignored)
    with (
        closing(sqlite3.connect(source / STORE)) as before,
        closing(sqlite3.connect(aside / STORE)) as after,
    ):
        before.backup(after)
    aside.rename(target)


def _copy(source: str, target: str) -> None:
    if source.endswith(IMMUTABLE):
        os.link(source, target)
    else:
        shutil.copy2(source, target)
