"""The status of a problem as text that fits one screen: sentences wrap under themselves, commands stay whole."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from automl.promotion.evidence import GAIN
from automl.report.leaderboard_text import number
from automl.report.lines import command, facts
from automl.report.monitoring import WRONG, monitoring_facts

__all__ = ["realised_text", "status_text", "waiting_sentence"]

SHOWN_CYCLES = 4
SHOWN_GENERATIONS = 3
WITH_CYCLE = "with the cycle"  # reason of a scoring that a retraining ran


def status_text(document: Mapping[str, Any]) -> Group:
    """Champion, live predictions, what needs attention, realised performance, recent cycles."""
    live = document["live"]
    parts: list[Any] = [
        Text(document["problem"], style="bold"),
        facts({"champion": _champion(document), "live": _live(live)}),
    ]
    if live:
        parts += [command(str(live[k]), indent=4) for k in ("sql", "parquet") if live.get(k)]
    rows = [*_attention(document), *monitoring_facts(document.get("monitoring"))]
    if rows:
        parts.append(facts(dict(_unique(rows))))
    if document["turned_out"]:
        parts += [Text(), realised_text(document["turned_out"][:SHOWN_GENERATIONS])]
    if document["cycles"]:
        parts += [Text(), _cycles(document["cycles"])]
    if document["champion"] is None:
        parts.append(command(f"next: automl cycle {document['file']}", indent=2))
    return Group(*parts)


def realised_text(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Realised performance of published predictions."""
    table = _table()
    # metric.name may have changed between them
    metrics = list(dict.fromkeys(name for g in rows for name in g["scores"] or {}))
    table.add_column("realised as of", no_wrap=True)
    for head in ("generation", "version", "labels", *metrics):
        table.add_column(head, justify="right", no_wrap=True)
    for g in rows:
        table.add_row(
            g["as_of"],
            str(g["generation"]),
            str(g["model_version"]),
            f"{g['labelled_rows']} of {g['rows']}",
            *(number((g["scores"] or {}).get(name)) for name in metrics),
        )
    return table


def waiting_sentence(challenger: Mapping[str, Any]) -> str:
    """Which challenger awaits approval, until when and why."""
    name = f"version {challenger['version']} ({challenger['blend']})"
    return f"{name} awaits approval until {challenger['expires']}: {challenger['reason']}"


def _champion(document: Mapping[str, Any]) -> str:
    champion = document["champion"]
    if champion is None:
        return "no champion yet"
    return f"version {champion['model_version']} of {champion['as_of']}: {champion['blend']}"


def _live(live: Mapping[str, Any] | None) -> str:
    if live is None:
        return "no predictions published yet"
    window = f"{live['as_of']} to {live['until']}"
    return f"generation {live['generation']}, {live['rows']} rows, {window}"


def _attention(document: Mapping[str, Any]) -> list[tuple[str, Text]]:
    rows = []
    if document["waiting"]:
        rows.append(("waiting", waiting_sentence(document["waiting"])))
    if document["ahead"]:
        rows.append((
            "ahead",
            f"the cycle of {document['ahead']} is later than now; commands for earlier slots are refused until then",
        ))  # fmt: skip
    if document["missed"]:
        first, count = document["missed"][0], len(document["missed"])
        text = f"{count} slot{'s' if count > 1 else ''} without predictions, the first {first}"
        rows.append(("missed", f"{text}; the next scheduled command scores the newest 24"))
    if document["unscored"]:
        rows.append(("released", f"v{document['champion']['model_version']}, not yet scored"))
    return [(name, Text(text, style=WRONG)) for name, text in rows]


def _unique(rows: Iterable[tuple[str, Text]]) -> list[tuple[str, Text]]:
    """Each name once: a further row of a name continues it on a line of its own."""
    found: dict[str, Text] = {}
    for name, text in rows:
        found[name] = Text("\n").join([found[name], text]) if name in found else text
    return list(found.items())


def _cycles(cycles: Sequence[Mapping[str, Any]]) -> Table:
    """The newest cycles; a scoring that a retraining ran is part of its line."""
    together = {c["as_of"] for c in cycles if c["verb"] == "score" and c["reason"] == WITH_CYCLE}
    table = _table()
    for head in ("cycle", "what", "ended"):
        table.add_column(head, no_wrap=True)
    table.add_column("reason; automl why has the numbers", overflow="fold")
    shown = [c for c in cycles if c["verb"] != "score" or c["reason"] != WITH_CYCLE]
    for c in shown[:SHOWN_CYCLES]:
        both = c["verb"] == "retrain" and c["as_of"] in together
        reason = c["reason"].split("\n")[0].partition(GAIN)[0].rstrip(" :;")
        table.add_row(c["as_of"], "cycle" if both else c["verb"], c["status"], reason)
    return table


def _table() -> Table:
    return Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="underline")
