"""The rows that a retraining works on: pulled, checked against the contract, cut into blocks."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd

from automl import history
from automl.cycles.job import Job
from automl.cycles.steps import step
from automl.history import Snapshot
from automl.history import contract as contracts
from automl.history.contract import Contract
from automl.history.maturity import Maturity, estimate, mature_rows, missing_outcomes, with_maturity
from automl.modeling.families import Family
from automl.modeling.splits import Block, make_blocks
from automl.problem import Problem, Span
from automl.sweep import Work, most_blocks
from automl.testing import fault

__all__ = [
    "check_contract",
    "counted_rows",
    "kept_snapshot",
    "make_work",
    "pull_history",
    "settle_maturity",
    "without_weights",
]

_log = logging.getLogger(__name__)


@step("pull history", io=True)
def pull_history(job: Job) -> Snapshot:
    """The frozen history of a cycle; an interrupted cycle resumes with the snapshot that it had."""
    job.require_hold()
    receipt = job.cycle.receipts.get("snapshot")
    if receipt and Path(receipt["path"]).exists():
        return kept_snapshot(receipt)
    contract = contracts.load_contract(job.problem)
    snapshot = history.pull(
        job.problem,
        job.workspace,
        job.as_of,
        kinds=contract.kinds(job.problem) if contract else None,
        nulls=contract.nulls if contract else (),
        gaps=contract.gaps if contract else {},
    )
    job.store.note(job.cycle, snapshot=_receipt(snapshot))
    fault("retrain.pulled")
    return snapshot


def settle_maturity(job: Job, snapshot: Snapshot) -> Job:
    """The job with the age at which labels are complete as its label delay, settled once per cycle."""
    if not job.problem.history.label_time:
        return job
    receipt = job.cycle.receipts.get("maturity")
    if receipt and receipt["snapshot"] == snapshot.digest:
        maturity = Maturity.from_json(receipt)
    else:
        before = _age_before(job)
        maturity = estimate(history.read(snapshot), job.problem, job.as_of, before)
        job.store.note(job.cycle, maturity={**maturity.to_json(), "snapshot": snapshot.digest})
    _log.info("labels: %s", maturity.in_words)
    return replace(job, problem=with_maturity(job.problem, maturity))


@step("check contract")
def check_contract(
    problem: Problem, as_of: datetime, snapshot: Snapshot, families: Mapping[str, Family]
) -> tuple[Contract, list[str]]:
    """The problem's contract, inferred at its first cycle, and warnings about the rows.

    Raises
    ------
    HistoryError
        The rows break the contract.
    """
    frame = _mature(problem, as_of, snapshot)
    contract = contracts.load_contract(problem)
    if contract is None:
        contract = contracts.infer(frame, problem, snapshot.unused, snapshot.gaps)
        contracts.save_contract(problem, contract)
        _log.info("wrote %s: review and commit it", contracts.contract_file(problem).name)
    warnings = [*snapshot.warnings]
    if snapshot.quarantined:
        counts = ", ".join(f"{count} {reason}" for reason, count in snapshot.quarantined.items())
        warnings.append(f"rows set aside: {counts}; see automl history {problem.file.name}")
    for warning in warnings:  # before a refusal, which they may explain
        _log.warning(warning)
    findings = contracts.check(frame, contract, problem, snapshot.offered, as_of=as_of)
    found = [
        *map(str, findings),
        *missing_outcomes(frame, problem),
        *without_weights(problem, families),
    ]
    for warning in found:
        _log.warning(warning)
    return contract, [*found, *warnings]


def make_work(job: Job, snapshot: Snapshot, contract: Contract) -> Work:
    """What sweep and refit of a cycle work on: mature rows, cut into blocks."""
    folder = job.workspace.scratch(job.problem.name)
    frame = counted_rows(job.problem, job.as_of, snapshot)
    return Work(
        problem=job.problem,
        contract=contract,
        families=job.families,
        frame=frame,
        blocks=_blocks(job, frame, contract),
        scratch=folder / f"{job.as_of:%Y%m%dT%H%M}-{snapshot.digest[:12]}",
        workers=job.workspace.workers,
        columns=job.columns,
    )


def counted_rows(problem: Problem, as_of: datetime, snapshot: Snapshot) -> pd.DataFrame:
    """The mature rows of a snapshot that count in training: those whose weight is not 0."""
    return contracts.counted(_mature(problem, as_of, snapshot), problem)


def _blocks(job: Job, frame: pd.DataFrame, contract: Contract) -> list[Block]:
    budget = job.problem.sweep.budget
    seconds = budget.seconds if budget else float("inf")
    most = most_blocks(len(frame), len(contract.features), seconds, job.workspace.workers)
    return make_blocks(frame, job.problem, job.as_of, most)


def without_weights(problem: Problem, families: Mapping[str, Family]) -> list[str]:
    """A warning that names the families whose fits ignore the user's row weights."""
    weight = problem.history.weight
    names = [f.name for f in families.values() if not f.weights and problem.task in f.tasks]
    if not weight or not names:
        return []
    ignored = f"fits of {', '.join(names)} ignore history.weight {weight!r}"
    return [f"{ignored}; their trials are scored with it all the same [weights_not_taken]"]


def _mature(problem: Problem, as_of: datetime, snapshot: Snapshot) -> pd.DataFrame:
    return mature_rows(history.read(snapshot), problem, as_of)


def _receipt(snapshot: Snapshot) -> dict[str, Any]:
    return {
        **asdict(snapshot),
        "first": f"{snapshot.first:%Y-%m-%dT%H:%M:%S%z}",
        "last": f"{snapshot.last:%Y-%m-%dT%H:%M:%S%z}",
        "path": str(snapshot.path),
    }


def kept_snapshot(receipt: Mapping[str, Any]) -> Snapshot:
    """The snapshot of a cycle's receipt, whether or not its rows are still there."""
    times = {name: datetime.fromisoformat(receipt[name]) for name in ("first", "last")}
    tuples = {name: tuple(receipt[name]) for name in ("offered", "warnings")}
    return Snapshot(**{**receipt, **times, **tuples, "path": Path(receipt["path"])})


def _age_before(job: Job) -> Span | None:
    """The age of complete labels that the champion's cycle used."""
    champion = job.champion
    cycle = job.store.find_cycle(job.problem.name, "retrain", champion.as_of) if champion else None
    receipt = cycle.receipts.get("maturity") if cycle else None
    return Maturity.from_json(receipt).age if receipt else None
