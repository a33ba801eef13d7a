"""What the steps of monitoring share: the problem's lock, its store, MLflow if it is there, contract and rows."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime

import pandas as pd

from automl import history
from automl.cycles.options import RunOptions, default_as_of
from automl.errors import NoModelError, UnreachableError
from automl.files import umask
from automl.history import Snapshot
from automl.history.contract import Contract, load_contract
from automl.history.maturity import Maturity, mature_rows, with_maturity
from automl.predictions import check_owner
from automl.problem import Problem
from automl.store import Generation, Hold, Release, Store, check_watched_tables
from automl.tracking import Registry
from automl.workspace import Workspace, now

__all__ = ["Watching", "labelled_rows", "open_watching"]

REMEMBERED = 30  # retrainings that are searched for the age at which labels are complete
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Watching:
    """One run of monitoring, by the process that holds the problem's lock."""

    problem: Problem
    workspace: Workspace
    store: Store
    hold: Hold
    as_of: datetime
    contract: Contract
    registry: Registry | None  # None: MLflow is out of reach
    warnings: list[str] = field(default_factory=list)

    @property
    def generations(self) -> list[Generation]:
        """Published generations whose rows are kept, newest first."""
        limit = self.problem.publish.keep + 1
        found = self.store.generations(self.problem.name, limit=limit)
        known = [g for g in found if g.as_of <= self.as_of]
        return sorted(known, key=lambda g: (g.as_of, g.id), reverse=True)

    @property
    def releases(self) -> dict[int, Release]:
        """Releases by model version; of a version that was released twice, the newest."""
        return {r.model_version: r for r in reversed(self.store.releases(self.problem.name))}


@contextmanager
def open_watching(
    problem: Problem, workspace: Workspace, options: RunOptions
) -> Iterator[Watching]:
    """Hold the problem's lock and find what monitoring needs.

    Raises
    ------
    NoModelError
        Nothing was released yet, so there is nothing to monitor.
    BusyError, UnreachableError
        Another run holds the problem; the store is out of reach.
    ProblemError
        The tables belong to another problem or program.
    """
    as_of = options.as_of or default_as_of(problem, "monitor", now())
    store = Store(workspace)
    contract = load_contract(problem)
    if contract is None or store.champion(problem.name) is None:
        raise NoModelError(
            f"{problem.name}: no model was released yet; there is nothing to monitor",
            code="no_champion",
            next_step=f"automl cycle {problem.file.name}",
        )
    with umask(workspace.umask), store.hold(problem.name) as hold:
        check_owner(store, problem)
        check_watched_tables(store, problem.table)
        warnings: list[str] = []
        registry = None
        try:
            registry = Registry(problem, workspace)
        except UnreachableError as error:
            warnings.append(f"MLflow does not show what was found: {error}")
        yield Watching(
            problem=_settled(problem, store),
            workspace=workspace,
            store=store,
            hold=hold,
            as_of=as_of,
            contract=contract,
            registry=registry,
            warnings=warnings,
        )


def labelled_rows(watching: Watching, snapshot: Snapshot) -> pd.DataFrame:
    """The rows of a snapshot whose labels are mature."""
    return mature_rows(history.read(snapshot), watching.problem, watching.as_of)


def _settled(problem: Problem, store: Store) -> Problem:
    """The problem with the age at which labels are complete that the newest retraining settled."""
    if not problem.history.label_time:
        return problem
    for cycle in store.cycles(problem.name, verb="retrain", limit=REMEMBERED):
        if receipt := cycle.receipts.get("maturity"):
            content = {k: receipt[k] for k in ("age", "seconds", "declared")}
            return with_maturity(problem, Maturity.from_json(content))
    return problem
