"""The document of a backtest as text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Group
from rich.table import Table

from automl.report.lines import command, sentence

__all__ = ["backtest_text"]


def backtest_text(document: Mapping[str, Any]) -> Group:
    """One row per policy, best first, and what to use."""
    better, metric = document["better"], document["metric"]
    arrow = "↑" if better == "higher" else "↓"
    table = Table(box=None, pad_edge=False)
    table.add_column("policy")
    heads = (
        f"{metric} {arrow}",
        "90 %",
        "regret",
        "core-s",
        "promoted",
        "moved",
        "cycles",
    )
    for head in heads:
        table.add_column(head, justify="right")
    ranked = sorted(document["policies"], key=lambda r: (r["loss"] is None, r["loss"] or 0.0))
    for row in ranked:
        table.add_row(row["policy"], *_cells(row))
    head = (
        f"{document['problem']}: {document['cycles']} cycles from {document['from']} to {document['to']}, "
        f"{document['batches']} batches with labels"
    )
    lines = [
        document["recommendation"]["text"],
        *([document["as_known"]] if document["as_known"] != "then" else []),
        *([document["not_run"]] if document["not_run"] else []),
        *(f"{name} failed: {why}" for name, why in document["failed"].items()),
        "plot and document:",
    ]
    shown = [sentence(line, indent=0) for line in lines]
    return Group(sentence(head, indent=0), table, *shown, command(document["folder"], indent=2))


def _cells(row: Mapping[str, Any]) -> list[str]:
    actions = ", ".join(f"{n} {action}" for action, n in row["actions"].items() if n)
    promoted = f"{row['promotions']}" + (f" (-{row['reverts']})" if row["reverts"] else "")
    moved = "-" if row["moved"] is None else f"{row['moved']:.0%}"
    if row["loss"] is None:
        return ["-", "-", "-", f"{row['core_seconds']:.0f}", promoted, moved, actions]
    share = row["regret"] / max(row["loss"] - row["regret"], 1e-12)
    return [
        f"{row['score']:.4g}",
        f"{row['low']:.3g} to {row['high']:.3g}",
        f"{share:+.1%}" if row["regret"] else "best",
        f"{row['core_seconds']:.0f}",
        promoted,
        moved,
        actions,
    ]
