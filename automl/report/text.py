"""Results as text to read in 80 columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from automl.promotion.evidence import GAIN, shown_probability
from automl.report.leaderboard_text import later_lines, leaderboard_text
from automl.report.lines import checks, command, facts, sentence
from automl.report.monitoring import WRONG, monitoring_facts
from automl.report.status_text import realised_text, waiting_sentence

EVIDENCE = {"out_of_sample": "out-of-sample", "in_sample": "in-sample"}
VERDICT_COLUMNS = (
    "challenger",
    "raw",
    "shrunk",
    "90 % interval",
    "over",
    "P",
    "needed",
    "blocks",
    "out-of-\nsample",
)


def result_text(document: Mapping[str, Any]) -> Group:
    """Leaderboard, decision, where to read the predictions, and realised performance."""
    parts: list[Any] = []
    if document.get("leaderboard"):
        parts += [leaderboard_text(document["leaderboard"]), Text()]
    head = f"{document['problem']} as of {document['as_of']}: {document['status']}"
    parts.append(Text(head + (" already" if document["already"] else ""), style="bold"))
    parts.append(sentence(document["reason"]))
    if document["model_version"]:
        parts.append(Text(f"  champion     version {document['model_version']}"))
    if document["predictions"]:
        parts.append(
            Text(f"  predictions  {document['rows']} rows, generation {document['generation']}")
        )
        parts += [command(str(v), indent=4) for v in document["predictions"].values() if v]
    if document.get("turned_out"):
        parts += [Text(), realised_text(document["turned_out"])]
    parts += [sentence(f"warning: {w}", style=WRONG) for w in document["warnings"]]
    return Group(*parts)


def why_text(document: Mapping[str, Any]) -> Group:
    """The decision in a sentence, then challengers, blocks, search and ledger."""
    head = f"{document['problem']} as of {document['as_of']}: {document['status']}"
    parts: list[Any] = [
        Text(head, style="bold"),
        *_reason_lines(document["reason"]),
        *later_lines(document),
        Text(),
    ]
    if document.get("verdicts"):
        parts += [_verdict_table(document["verdicts"]), Text()]
    if document.get("blocks"):
        parts.append(_block_table(document["blocks"]))
    blends = {name: b["text"] for name, b in document.get("blends", {}).items()}
    if blends:
        parts += [facts(blends), Text()]
    parts += [sentence(line) for line in _lines(document)]
    watched = dict(monitoring_facts(document.get("monitoring")))
    parts += [facts(watched)] if watched else []
    return Group(*parts, *_ledger_lines(document))


def _lines(document: Mapping[str, Any]) -> list[str]:
    """Where the gain came from, what is known since, and what the search cost."""
    lines = [document["attribution"]["text"]] if document.get("attribution") else []
    lines += [f"refit: {document['refit']}"] if document.get("refit") else []
    lines += [f"probation: {p['reason']}"] if (p := document.get("probation")) else []
    lines += [f"regret: {r['text']}"] if (r := document.get("regret")) else []
    return [*lines, *_search_lines(document)]


def _block_table(blocks: Sequence[Mapping[str, Any]]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for head in ("block", "until", "rows", "blend", "loss", "evidence"):
        table.add_column(head, justify="right" if head in ("rows", "loss") else "left")
    for b in blocks:
        until = b.get("until", "")  # absent from decisions of earlier versions
        loss, evidence = f"{b['loss']:.5f}", EVIDENCE.get(b["kind"], b["kind"])
        table.add_row(b["block"], until, str(b["rows"]), b["blend"], loss, evidence)
    return table


def _reason_lines(reason: str) -> list[Any]:
    """The reason, and on a second line its numbers: raw gain, shrunk gain and the gain needed."""
    why, gain, numbers = reason.partition(GAIN)
    lines = [why.rstrip(" :;"), gain + numbers] if gain and why else [reason]
    return [sentence(line) for line in lines]


def _verdict_table(verdicts: Sequence[Mapping[str, Any]]) -> Table:
    """Every challenger with its numbers; `over` is the margin that the shrunk gain must exceed."""
    # no rules and narrow gaps, to fit 80 columns
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="underline")
    for head in VERDICT_COLUMNS:
        table.add_column(head, justify="left" if head == "challenger" else "right", no_wrap=True)
    for v in verdicts:
        # decisions of earlier versions have no margin
        margin = f"{v['margin']:.2%}" if "margin" in v else "-"
        table.add_row(
            v["challenger"],
            f"{v['mean']:+.2%}",
            f"{v['shrunk']:+.2%}",
            f"{v['low']:+.2%} {v['high']:+.2%}",
            margin,
            shown_probability(v["probability"]),
            shown_probability(v["needed"]),
            str(v["blocks"]),
            str(v["out_of_sample"]),
            style="green" if v["passed"] else "",
        )
    return table


def _search_lines(document: Mapping[str, Any]) -> list[str]:
    """How much was searched, why, and how it stopped."""
    plan, done, cost = document.get("plan"), document.get("sweep"), document.get("cost")
    lines = [f"plan: {plan['kind']}; {plan['reason']}"] if plan else []
    policy = document.get("policy")
    if policy and not plan:
        lines.append(f"policy {policy['when']}: {policy['action']}; {policy['reason']}")
    if done:
        lines.append(
            f"sweep: {done['trials']} trials on {done['rows']} rows in {done['seconds']} s, "
            f"scored by {document['metric']}, stopped: {done['stopped']}"
        )
    if cost:
        wall = f", {cost['wall_seconds']:.0f} s of wall clock" if cost.get("wall_seconds") else ""
        lines.append(f"cost: {cost['core_seconds']:.1f} core-seconds of fits{wall}")
    return lines


def champion_text(document: Mapping[str, Any]) -> Group:
    """Version, since when, released by, reason, live predictions."""
    champion, live = document["champion"], document["live"]
    head = Text(f"{document['problem']} at {document['at']}", style="bold")
    if champion is None:
        first = document["first"]
        later = f"; the first release is of {first}" if first else ""
        return Group(head, Text(f"  no version was released yet{later}"))
    rows: dict[str, str | Text] = {
        "champion": f"version {champion['model_version']}: {champion['blend']}",
        "since": f"{champion['since'][:19]}Z, by {champion['actor']}",
        "why": f"{_moved(champion)}: {champion['reason']}",
    }
    if live:
        rows["readers"] = (
            f"generation {live['generation']}, {live['rows']} rows by version "
            f"{live['model_version']}, {live['as_of']} to {live['until']}"
        )
    if document["waiting"]:
        rows["waiting"] = Text(waiting_sentence(document["waiting"]), style=WRONG)
    return Group(head, facts(rows))


def _ledger_lines(document: Mapping[str, Any]) -> list[Any]:
    """What the cycle changed, and by which user; a reason that stands above is not repeated."""
    lines = []
    for e in document.get("ledger", ()):
        reason = "" if e["reason"] == document["reason"] else f": {e['reason']}"
        at = e["since"][:16].replace("T", " ")
        lines.append(sentence(f"{at}  {e['actor']}  {_moved(e)}{reason}"))
    return lines


def _moved(entry: Mapping[str, Any]) -> str:
    versions = [f"v{v}" for v in (entry["from_version"], entry["to_version"]) if v is not None]
    return f"{entry['kind']} {' to '.join(versions)}"


def checked_text(document: Mapping[str, Any]) -> Group:
    """What a valid problem file describes."""
    rows = {
        "task": f"{document['task']}, metric {document['metric']}",
        "families": ", ".join(document["families"]),
        "next as_of": f"{document['as_of']}, batch until {document['batch'][1]}",
        "publishes": f"table {document['table']}",
        "workspace": document["workspace"],
    }
    head = Text(f"{document['problem']}: the problem file is valid")
    opened = document.get("connections")
    return Group(head, facts(rows), *([checks(opened)] if opened else []))


def families_text(document: Mapping[str, Any]) -> Group:
    """One line each."""
    lines = {f["name"]: f["about"].split(":", 1)[-1].strip() for f in document["families"]}
    return Group(facts(lines, indent=0), Text(), Text("automl spaces NAME|PATH checks a family."))


def family_text(document: Mapping[str, Any]) -> Group:
    """Checks, then ranges."""
    lines: list[Any] = [Text(f"{document['family']}: {document['about']}", style="bold")]
    for c in document["checks"]:
        word, style = ("ok", "") if c["passed"] else ("FAIL", "red")
        lines.append(sentence(f"{word:4} {c['name']}: {c['found']}", style=style))
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for head in ("parameter", "range"):
        table.add_column(head)
    for name, text in document["ranges"].items():
        table.add_row(name, text)
    return Group(
        *lines,
        table,
        Text(
            f"needs: {document['needs']}; {document['seconds_per_fit']:.2f} s per fit of 200 rows"
        ),
    )
