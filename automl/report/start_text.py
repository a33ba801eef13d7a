"""What `automl init` prints: guesses with reasons, what the check found, what to type next."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Group
from rich.table import Table

from automl.report.lines import checks, command, sentence

__all__ = ["started_text"]


def started_text(document: Mapping[str, Any]) -> Group:
    """A new problem file: what was guessed and why, what the check found, what to type."""
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold", max_width=24)
    table.add_column(overflow="fold")
    for guess in document["guesses"]:
        value = guess["value"]
        shown = ", ".join(map(str, value)) if isinstance(value, list) else value
        table.add_row(
            guess["argument"], "-" if shown in (None, "") else str(shown), guess["reason"]
        )
    guesses = [table] if document["guesses"] else []
    warnings = [sentence(f"look at {warning}", indent=0) for warning in document["warnings"]]
    return Group(
        command(f"wrote {document['file']}"),
        *guesses,
        *warnings,
        checks(document["checked"]["connections"]),
        command(f"next: {document['next']}"),
    )
