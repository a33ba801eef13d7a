"""History and contract as documents, and as text to read in 80 columns."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import pyarrow.parquet as pq
from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from automl import contract as contracts
from automl import history
from automl.ask import default_as_of
from automl.errors import HistoryError
from automl.problem import Problem
from automl.store import Store
from automl.workspace import Workspace, now

SHOWN_PULLS = 12
SHOWN_ASIDE = 8


def verify(problem: Problem, workspace: Workspace) -> None:
    """Compare every window of the newest snapshot with the source, and pull again what differs.

    Raises
    ------
    HistoryError, UnreachableError, BusyError
        There is no snapshot yet, the source says no, or a cycle is running.
    """
    told = history.pulls(_folders(problem, workspace))
    contract = contracts.load_contract(problem)
    if not told or contract is None:
        raise HistoryError(
            f"{problem.name}: nothing was pulled yet",
            code="no_snapshot",
            next_step=f"automl retrain {problem.file.name}",
        )
    with Store(workspace).hold(problem.name):
        history.pull(
            problem,
            workspace,
            told[-1].as_of,
            kinds=contract.kinds(problem),
            nulls=contract.nulls,
            verify=True,
        )


def history_document(problem: Problem, workspace: Workspace) -> dict[str, Any]:
    """Pulls, newest first, with their snapshots; rows that the newest pull set aside."""
    folders = _folders(problem, workspace)
    told = history.pulls(folders)[::-1]
    hidden = ("recipe", "state", "quarantine")
    aside: list[dict[str, Any]] = []
    if told and told[0].quarantine and (folders.quarantine / told[0].quarantine).exists():
        table = pq.read_table(folders.quarantine / told[0].quarantine)
        aside = table.slice(0, 100).to_pylist()
    stored = sum(f.stat().st_size for f in folders.parts.glob("*.parquet"))
    return {
        "problem": problem.name,
        "pulls": [{k: v for k, v in p.to_json().items() if k not in hidden} for p in told],
        "bytes_stored": stored,
        "quarantine": aside,
    }


def history_text(document: Mapping[str, Any]) -> Group:
    """One line per pull, then what was set aside."""
    if not document["pulls"]:
        return Group(Text(f"{document['problem']}: nothing was pulled yet"))
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="underline")
    table.add_column("as of", no_wrap=True)
    table.add_column("snapshot", no_wrap=True)
    for head in ("rows", "new", "upd", "late", "gone", "aside", "written", "s"):
        table.add_column(head, justify="right", no_wrap=True)
    for p in document["pulls"][:SHOWN_PULLS]:
        table.add_row(
            p["as_of"][:10],
            p["snapshot"][:8],
            *(str(p[k]) for k in ("rows", "new", "updated", "late", "deleted")),
            str(sum(p["quarantined"].values())),
            _bytes(p["bytes_written"]),
            f"{p['seconds']:.1f}",
        )
    newest = document["pulls"][0]
    parts: list[Any] = [
        Text(document["problem"], style="bold"),
        Text(f"  span      {newest['first'][:16]} to {newest['last'][:16]}"),
        Text(f"  stored    {_bytes(document['bytes_stored'])}, shared by all snapshots"),
        Text(
            f"  checked   {newest['verified']} windows against the source, {newest['repaired']} pulled again"
        ),
        Text(
            f"  read      {'everything: ' + newest['full'] if newest['full'] else 'what was new'}"
        ),
        Text(),
        table,
    ]
    if document["quarantine"]:
        told = Table(
            box=box.SIMPLE_HEAD, pad_edge=False, title="rows set aside", title_justify="left"
        )
        told.add_column("reason", no_wrap=True)
        told.add_column("key", overflow="fold")
        told.add_column("why", overflow="fold")
        for row in document["quarantine"][:SHOWN_ASIDE]:
            told.add_row(row["reason"], row["key"], row["detail"])
        parts += [Text(), told]
        rest = len(document["quarantine"]) - SHOWN_ASIDE
        if rest > 0:
            parts.append(Text(f"  and {rest} more: --json lists them"))
    return Group(*parts)


def contract_document(
    problem: Problem, workspace: Workspace, as_of: datetime | None, *, accept: bool
) -> dict[str, Any]:
    """The contract, and what the rows of the newest blocks would change in it.

    Raises
    ------
    HistoryError, UnreachableError
        Nothing was pulled yet, or the source says no.
    """
    contract = contracts.load_contract(problem)
    if contract is None:
        raise HistoryError(
            f"{contracts.contract_file(problem).name} does not exist yet; the first pull writes it",
            code="no_contract",
            next_step=f"automl retrain {problem.file.name}",
        )
    told = history.pulls(_folders(problem, workspace))
    moment = as_of or (told[-1].as_of if told else default_as_of(problem, "retrain", now()))
    since = problem.validation.block.before(problem.mature(moment), 4)
    fresh, _, _ = history.sample(problem, workspace, moment, since)
    found = contracts.changes(fresh, contract, problem)
    if accept and found:
        contract = contracts.accept(fresh, contract, problem)
        contracts.save_contract(problem, contract)
    return {
        "problem": problem.name,
        "file": str(contracts.contract_file(problem)),
        "as_of": moment.isoformat(),
        "columns": {
            name: {
                "kind": kind,
                "categories": list(contract.categories.get(name, ())) or None,
                "range": list(contract.ranges.get(name, ())) or None,
            }
            for name, kind in contract.features.items()
        },
        "unused": contract.unused,
        "classes": list(contract.classes),
        "changes": [{"code": f.code, "text": f.text} for f in found],
        "accepted": bool(accept and found),
    }


def contract_text(document: Mapping[str, Any]) -> Group:
    """Columns with their kinds, then the changes."""
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="underline")
    table.add_column("column", overflow="fold")
    table.add_column("kind", no_wrap=True)
    table.add_column("categories or range", overflow="fold")
    for name, told in document["columns"].items():
        extent = ""
        if told["categories"]:
            extent = ", ".join(told["categories"][:8]) + (
                " ..." if len(told["categories"]) > 8 else ""
            )
        elif told["range"]:
            extent = f"{told['range'][0]:g} to {told['range'][1]:g}"
        table.add_row(name, told["kind"], extent)
    for name, why in document["unused"].items():
        table.add_row(name, "-", f"not used: {why}")
    parts: list[Any] = [
        Text(f"{document['problem']}  {document['file']}", style="bold"),
        Text(),
        table,
        Text(),
    ]
    if not document["changes"]:
        parts.append(Text("the newest data change nothing in it"))
    else:
        head = (
            "taken into the contract:"
            if document["accepted"]
            else "the newest data would change (--accept takes it):"
        )
        parts.append(Text(head, style="bold"))
        parts += [Text(f"  {c['text']} [{c['code']}]") for c in document["changes"]]
    return Group(*parts)


def _folders(problem: Problem, workspace: Workspace) -> history.Folders:
    return history.Folders(workspace.history(problem.name))


def _bytes(count: int) -> str:
    size = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            return f"{size:.0f} {unit}" if unit == "B" or size >= 100 else f"{size:.1f} {unit}"
        size /= 1000
    raise AssertionError("a size has a unit")
