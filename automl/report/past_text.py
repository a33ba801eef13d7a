"""What `automl reproduce` and `automl backfill` print."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

__all__ = ["backfill_text", "reproduction_text"]


def reproduction_text(document: Mapping[str, Any]) -> Group:
    """The verdict, then every comparison."""
    words = {True: "same", False: "DIFFERS", None: "unknown"}
    head = f"{document['problem']} as of {document['as_of']}, version {document['model_version']}"
    lines = [f"  {words[c['same']]:8} {c['name']:12} {c['text']}" for c in document["checks"]]
    return Group(
        Text(head, style="bold"),
        Text(f"  {document['reason']}", overflow="fold"),
        Text(),
        *(Text(line, overflow="fold") for line in lines),
    )


def backfill_text(document: Mapping[str, Any]) -> Group:
    """What was done, slot by slot."""
    head = f"{document['problem']} from {document['from']} to {document['to']}"
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("slot", "what", "ended", "reason"):
        table.add_column(name, no_wrap=name != "reason")
    for s in document["slots"]:
        table.add_row(s["as_of"], s["verb"], s["status"], s["reason"].split("\n")[0])
    shown = [table] if document["slots"] else []
    return Group(Text(head, style="bold"), Text(f"  {document['reason']}"), *shown)
