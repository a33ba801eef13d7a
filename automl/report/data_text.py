"""History and contract as text to read in 80 columns."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from automl.report.data_tables import LISTED_ROWS

__all__ = ["contract_text", "history_text"]

SHOWN_PULLS = 12
SHOWN_ROWS = 8
SHOWN_CATEGORIES = 8


def history_text(document: Mapping[str, Any]) -> Group:
    """The newest pull, one line per pull, then the rows set aside."""
    name = Text(document["problem"], style="bold")
    if not document["pulls"]:
        first = f"automl retrain {Path(document['file']).name}"
        return Group(name, Text(f"  no pull yet; run {first}"))
    newest = document["pulls"][0]
    read = f"everything: {newest['full']}" if newest["full"] else "new and changed rows"
    checked = _count(newest["verified"], "window")
    parts: list[Any] = [
        name,
        _facts(
            {
                "span": f"{newest['first'][:16]} to {newest['last'][:16]}".replace("T", " "),
                **({"labels": document["labels"]} if document["labels"] else {}),
                "read": f"{read}, {newest['fetched']} rows",
                "checked": f"{checked} compared with the source, {newest['repaired']} pulled again",
                "stored": f"{_bytes(document['bytes_stored'])}, shared by all snapshots",
            }
        ),
        Text(),
        _pulls_table(document["pulls"]),
    ]
    if document["quarantine"]:
        parts += [Text(), *_quarantine(document["quarantine"], sum(newest["quarantined"].values()))]
    return Group(*parts)


def _pulls_table(pulls: Sequence[Mapping[str, Any]]) -> Table:
    midnight = all(p["as_of"][11:16] == "00:00" for p in pulls[:SHOWN_PULLS])
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="underline")
    for head in ("as of", "snapshot"):
        table.add_column(head, no_wrap=True)
    for head in ("rows", "new", "changed", "late", "deleted", "aside", "written", "s"):
        table.add_column(head, justify="right", no_wrap=True)
    for p in pulls[:SHOWN_PULLS]:
        table.add_row(
            p["as_of"][: 10 if midnight else 16].replace("T", " "),
            p["snapshot"][:8],
            *(str(p[k]) for k in ("rows", "new", "updated", "late", "deleted")),
            str(sum(p["quarantined"].values())),
            _bytes(p["bytes_written"]),
            f"{p['seconds']:.1f}",
        )
    return table


def _quarantine(rows: Sequence[Mapping[str, Any]], count: int) -> list[Any]:
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="underline")
    table.add_column("reason", no_wrap=True)
    table.add_column("key", overflow="fold", max_width=32)
    table.add_column("why", overflow="fold")
    for row in rows[:SHOWN_ROWS]:
        key = ", ".join(map(str, json.loads(row["key"]).values()))
        table.add_row(row["reason"], Text(key), Text(row["detail"]))
    parts: list[Any] = [Text(f"{_count(count, 'row')} set aside", style="bold"), table]
    if count > SHOWN_ROWS:
        parts.append(Text(f"and {count - SHOWN_ROWS} more; --json lists the first {LISTED_ROWS}"))
    return parts


def contract_text(document: Mapping[str, Any]) -> Group:
    """Columns with their kinds, then the changes."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="underline")
    table.add_column("column", overflow="fold", max_width=32)
    table.add_column("kind", no_wrap=True)
    table.add_column("seen when the contract was written", overflow="fold")
    for name, column in document["columns"].items():
        table.add_row(Text(name), column["kind"], Text(_extent(column)))
    for name, reason in document["unused"].items():
        table.add_row(Text(name), "-", Text(f"not used: {reason}"))
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
    if document["newest"] > document["as_of"]:
        later = document["newest"][:16]
        line = f"not shown: the later retraining of {later}; --as-of {later} compares with its rows"
        parts.append(Text(line, style="yellow", overflow="fold"))
    if not document["changes"]:
        return Group(*parts, Text("no changes"))
    accepted = "accepted; the next retraining uses the new contract"
    proposed = "changes found; --accept writes these changes to the contract"
    head = accepted if document["accepted"] else proposed
    changes = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    changes.add_column(no_wrap=True)
    changes.add_column(overflow="fold")
    for change in document["changes"]:
        changes.add_row(change["code"], Text(change["text"]))
    return Group(*parts, Text(head, style="bold"), changes)


def _extent(column: Mapping[str, Any]) -> str:
    extent = ""
    if column["categories"]:
        extent = ", ".join(column["categories"][:SHOWN_CATEGORIES])
        rest = len(column["categories"]) - SHOWN_CATEGORIES
        extent += f" and {rest} more" if rest > 0 else ""
    elif column["kind"] == "text":
        extent = "many texts"
    elif column["range"]:
        extent = f"{column['range'][0]:g} to {column['range'][1]:g}"
    for code, reason in (column["allowed"] or {}).items():
        extent += f"{'; ' if extent else ''}{code} is allowed: {reason}"
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


def _bytes(count: int) -> str:
    size = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            return f"{size:.0f} {unit}" if unit == "B" or size >= 100 else f"{size:.1f} {unit}"
        size /= 1000
    raise AssertionError("a size has a unit")
