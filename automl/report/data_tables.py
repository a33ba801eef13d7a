"""History and contract as plain documents: what `--json` prints."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pyarrow.parquet as pq

from automl import history
from automl.cycles.options import default_as_of
from automl.errors import HistoryError
from automl.history import contract as contracts
from automl.history.maturity import Maturity, with_maturity
from automl.problem import Problem
from automl.report.tables import trained_in
from automl.store import Store
from automl.workspace import Workspace, now

__all__ = ["LISTED_ROWS", "contract_document", "history_document", "verify_history"]

LISTED_ROWS = 100  # rows set aside in a document; all of them are in the quarantine folder
SEARCHED_CYCLES = 200
SAMPLED_BLOCKS = 4  # newest blocks that a contract is compared with


def verify_history(problem: Problem, workspace: Workspace) -> None:
    """Compare every window of the newest snapshot with the source, and pull differing windows again.

    Raises
    ------
    HistoryError, UnreachableError, BusyError
        There is no snapshot yet, the source cannot be read, or a cycle is running.
    """
    pulls = history.pulls(_folders(problem, workspace))
    contract = contracts.load_contract(problem)
    if not pulls or contract is None:
        raise HistoryError(
            f"{problem.name}: no history was pulled yet",
            code="no_snapshot",
            next_step=f"automl retrain {problem.file.name}",
        )
    with Store(workspace).hold(problem.name):
        history.pull(
            problem,
            workspace,
            pulls[-1].as_of,
            kinds=contract.kinds(problem),
            nulls=contract.nulls,
            gaps=contract.gaps,
            verify=True,
        )


def history_document(problem: Problem, workspace: Workspace) -> dict[str, Any]:
    """Pulls with their snapshots, newest first, and the rows that the newest pull set aside."""
    folders = _folders(problem, workspace)
    pulls = history.pulls(folders)[::-1]
    hidden = ("recipe", "state", "quarantine")
    quarantined: list[dict[str, Any]] = []
    if pulls and pulls[0].quarantine and (folders.quarantine / pulls[0].quarantine).exists():
        table = pq.read_table(folders.quarantine / pulls[0].quarantine)
        quarantined = table.slice(0, LISTED_ROWS).to_pylist()
    stored = sum(f.stat().st_size for f in folders.parts.glob("*.parquet"))
    maturity = _maturity(problem, workspace, pulls[0].as_of) if pulls else None
    return {
        "problem": problem.name,
        "file": str(problem.file),
        "folder": str(folders.root),
        "pulls": [{k: v for k, v in p.to_json().items() if k not in hidden} for p in pulls],
        "labels": maturity.in_words if maturity else None,
        "bytes_stored": stored,
        "quarantine": quarantined,
    }


def contract_document(
    problem: Problem, workspace: Workspace, as_of: datetime | None, *, accept: bool
) -> dict[str, Any]:
    """The contract, and how the rows of the newest blocks would change it.

    Raises
    ------
    HistoryError, UnreachableError
        Nothing was pulled yet, or the source cannot be read.
    """
    contract = contracts.load_contract(problem)
    if contract is None:
        raise HistoryError(
            f"{contracts.contract_file(problem).name} does not exist yet; the first pull writes it",
            code="no_contract",
            next_step=f"automl retrain {problem.file.name}",
        )
    newest = _newest(problem, workspace)
    # what is accepted are changes that a newer retraining may have been refused for
    moment = as_of or (newest if accept else _newest(problem, workspace, trained=True))
    maturity = _maturity(problem, workspace, moment)
    matured = with_maturity(problem, maturity) if maturity else problem
    since = problem.validation.block.before(
        matured.mature(moment), SAMPLED_BLOCKS, zone=problem.zone
    )
    fresh, _, _, gaps = history.sample(matured, workspace, moment, since)
    found = contracts.changes(fresh, contract, problem, gaps)
    if accept and found:
        contract = contracts.accept(fresh, contract, problem, gaps)
        contracts.save_contract(problem, contract)
    return {
        "problem": problem.name,
        "file": str(contracts.contract_file(problem)),
        "as_of": moment.isoformat(),
        "since": since.isoformat(),
        "rows": len(fresh),
        "columns": {
            name: {
                "kind": kind,
                "categories": list(contract.categories.get(name, ())) or None,
                "range": list(contract.ranges.get(name, ())) or None,
                "allowed": contract.allowed.get(name),
            }
            for name, kind in contract.features.items()
        },
        "unused": contract.unused,
        "classes": list(contract.classes),
        "nulls": list(contract.nulls),
        "changes": [{"code": f.code, "text": f.text} for f in found],
        "accepted": bool(accept and found),
        "newest": newest.isoformat(),
    }


def _maturity(problem: Problem, workspace: Workspace, as_of: datetime) -> Maturity | None:
    """When labels are complete, as found by the cycle of that as_of or by the champion's."""
    if not problem.history.label_time:
        return None
    store = Store(workspace)
    champion = store.champion(problem.name)
    for moment in (as_of, *([champion.as_of] if champion else [])):
        cycle = store.find_cycle(problem.name, "retrain", moment)
        if cycle and "maturity" in cycle.receipts:
            return Maturity.from_json(cycle.receipts["maturity"])
    return None


def _newest(problem: Problem, workspace: Workspace, *, trained: bool = False) -> datetime:
    """as_of of the newest retraining, also if it was refused, or of the newest that trained."""
    store = Store(workspace)
    cycles = store.cycles(problem.name, verb="retrain", limit=SEARCHED_CYCLES)
    found = next((c for c in cycles if trained_in(store, c)), None) if trained else None
    found = found or next(iter(cycles), None)
    return found.as_of if found else default_as_of(problem, "retrain", now())


def _folders(problem: Problem, workspace: Workspace) -> history.Folders:
    return history.Folders(workspace.history(problem.name))
