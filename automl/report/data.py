"""History and contract as documents, and as text to read in 80 columns."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from rich.console import Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from automl import history
from automl.cycles.options import default_as_of
from automl.errors import HistoryError
from automl.history import contract as contracts
from automl.history.maturity import Maturity, with_maturity
from automl.problem import Problem
from automl.store import Store
from automl.workspace import Workspace, now

SHOWN_PULLS = 12
SHOWN_ASIDE = 8
SHOWN_CATEGORIES = 8
LISTED_ASIDE = 100  # rows set aside in a document; all of them are in the quarantine folder
SAMPLED_BLOCKS = 4  # newest blocks that a contract is compared with


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
        aside = table.slice(0, LISTED_ASIDE).to_pylist()
    stored = sum(f.stat().st_size for f in folders.parts.glob("*.parquet"))
    maturity = _maturity(problem, workspace, told[0].as_of) if told else None
    return {
        "problem": problem.name,
        "file": str(problem.file),
        "folder": str(folders.root),
        "pulls": [{k: v for k, v in p.to_json().items() if k not in hidden} for p in told],
        "labels": maturity.in_words if maturity else None,
        "bytes_stored": stored,
        "quarantine": aside,
    }


def history_text(document: Mapping[str, Any]) -> Group:
    """What the newest pull did, one line per pull, then what was set aside."""
    name = Text(document["problem"], style="bold")
    if not document["pulls"]:
        first = f"automl retrain {Path(document['file']).name}"
        return Group(name, Text(f"  nothing was pulled yet; {first} pulls for the first time"))
    newest = document["pulls"][0]
    read = f"everything: {newest['full']}" if newest["full"] else "what was new or changed"
    checked = _count(newest["verified"], "window")
    parts: list[Any] = [
        name,
        _facts(
            {
                "span": f"{newest['first'][:16]} to {newest['last'][:16]}".replace("T", " "),
                **({"labels": document["labels"]} if document["labels"] else {}),
                "read": f"{read}, {newest['fetched']} rows",
                "checked": f"{checked} against the source, {newest['repaired']} pulled again",
                "stored": f"{_bytes(document['bytes_stored'])}, shared by all snapshots",
            }
        ),
        Text(),
        _pulls_table(document["pulls"]),
    ]
    if document["quarantine"]:
        parts += [Text(), *_aside(document["quarantine"], sum(newest["quarantined"].values()))]
    return Group(*parts)


def _pulls_table(told: Sequence[Mapping[str, Any]]) -> Table:
    midnight = all(p["as_of"][11:16] == "00:00" for p in told[:SHOWN_PULLS])
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="underline")
    for head in ("as of", "snapshot"):
        table.add_column(head, no_wrap=True)
    for head in ("rows", "new", "changed", "late", "gone", "aside", "written", "s"):
        table.add_column(head, justify="right", no_wrap=True)
    for p in told[:SHOWN_PULLS]:
        table.add_row(
            p["as_of"][: 10 if midnight else 16].replace("T", " "),
            p["snapshot"][:8],
            *(str(p[k]) for k in ("rows", "new", "updated", "late", "deleted")),
            str(sum(p["quarantined"].values())),
            _bytes(p["bytes_written"]),
            f"{p['seconds']:.1f}",
        )
    return table


def _aside(rows: Sequence[Mapping[str, Any]], count: int) -> list[Any]:
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="underline")
    table.add_column("reason", no_wrap=True)
    table.add_column("key", overflow="fold", max_width=32)
    table.add_column("why", overflow="fold")
    for row in rows[:SHOWN_ASIDE]:
        key = ", ".join(map(str, json.loads(row["key"]).values()))
        table.add_row(row["reason"], Text(key), Text(row["detail"]))
    told: list[Any] = [Text(f"{_count(count, 'row')} set aside", style="bold"), table]
    if count > SHOWN_ASIDE:
        told.append(Text(f"and {count - SHOWN_ASIDE} more; --json lists the first {LISTED_ASIDE}"))
    return told


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
    moment = as_of or _newest(problem, workspace)
    maturity = _maturity(problem, workspace, moment)
    matured = with_maturity(problem, maturity) if maturity else problem
    since = problem.validation.block.before(
        matured.mature(moment), SAMPLED_BLOCKS, zone=problem.zone
    )
    fresh, _, _ = history.sample(matured, workspace, moment, since)
    found = contracts.changes(fresh, contract, problem)
    if accept and found:
        contract = contracts.accept(fresh, contract, problem)
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
    }


def _maturity(problem: Problem, workspace: Workspace, as_of: datetime) -> Maturity | None:
    """When labels are complete, as the cycle of that as_of or the champion's found it."""
    if not problem.history.label_time:
        return None
    store = Store(workspace)
    champion = store.champion(problem.name)
    for moment in (as_of, *([champion.as_of] if champion else [])):
        cycle = store.find_cycle(problem.name, "retrain", moment)
        if cycle and "maturity" in cycle.receipts:
            return Maturity.from_json(cycle.receipts["maturity"])
    return None


def _newest(problem: Problem, workspace: Workspace) -> datetime:
    """as_of of the newest cycle, refused ones too: what it was refused for is what one asks about."""
    cycles = Store(workspace).cycles(problem.name, limit=1)
    return cycles[0].as_of if cycles else default_as_of(problem, "retrain", now())


def contract_text(document: Mapping[str, Any]) -> Group:
    """Columns with their kinds, then the changes."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="underline")
    table.add_column("column", overflow="fold", max_width=32)
    table.add_column("kind", no_wrap=True)
    table.add_column("seen when it was written", overflow="fold")
    for name, told in document["columns"].items():
        table.add_row(Text(name), told["kind"], Text(_extent(told)))
    for name, why in document["unused"].items():
        table.add_row(Text(name), "-", Text(f"not used: {why}"))
    facts = {"file": Path(document["file"]).name}
    if document["classes"]:
        facts["classes"] = ", ".join(map(str, document["classes"]))
    if document["nulls"]:
        facts["nulls"] = ", ".join(map(repr, document["nulls"]))
    span = f"{document['since'][:10]} to {document['as_of'][:10]}"
    facts["compared"] = f"with the {_count(document['rows'], 'labelled row')} of {span}"
    parts: list[Any] = [
        Text(document["problem"], style="bold"),
        _facts(facts),
        Text(),
        table,
        Text(),
    ]
    if not document["changes"]:
        return Group(*parts, Text("these rows change nothing in it"))
    taken = "taken into the contract; the next retraining uses it"
    head = taken if document["accepted"] else "these rows would change it; --accept takes all of it"
    changes = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    changes.add_column(no_wrap=True)
    changes.add_column(overflow="fold")
    for change in document["changes"]:
        changes.add_row(change["code"], Text(change["text"]))
    return Group(*parts, Text(head, style="bold"), changes)


def _extent(told: Mapping[str, Any]) -> str:
    extent = ""
    if told["categories"]:
        extent = ", ".join(told["categories"][:SHOWN_CATEGORIES])
        rest = len(told["categories"]) - SHOWN_CATEGORIES
        extent += f" and {rest} more" if rest > 0 else ""
    elif told["kind"] == "text":
        extent = "many texts"
    elif told["range"]:
        extent = f"{told['range'][0]:g} to {told['range'][1]:g}"
    for code, why in (told["allowed"] or {}).items():
        extent += f"{'; ' if extent else ''}{code} is allowed: {why}"
    return extent


def _facts(facts: Mapping[str, str]) -> Padding:
    """Indented lines of name and value; a long value folds under itself."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts.items():
        table.add_row(name, Text(value))
    return Padding(table, (0, 0, 0, 2))


def _count(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _folders(problem: Problem, workspace: Workspace) -> history.Folders:
    return history.Folders(workspace.history(problem.name))


def _bytes(count: int) -> str:
    size = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            return f"{size:.0f} {unit}" if unit == "B" or size >= 100 else f"{size:.1f} {unit}"
        size /= 1000
    raise AssertionError("a size has a unit")
