"""Results as text to read in 80 columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from automl.promotion.evidence import GAIN, shown_probability
from automl.report.monitoring import monitoring_lines

SHOWN_TRIALS = 12
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
    parts.append(Text(f"  {document['reason']}"))
    if document["model_version"]:
        parts.append(Text(f"  champion     version {document['model_version']}"))
    if document["predictions"]:
        parts.append(
            Text(f"  predictions  {document['rows']} rows, generation {document['generation']}")
        )
        parts += [
            Text(f"    {k:9}  {v}", overflow="fold")
            for k, v in document["predictions"].items()
            if v
        ]
    if document.get("turned_out"):
        parts += [Text(), realised_text(document["turned_out"])]
    parts += [Text(f"  warning: {w}", style="yellow") for w in document["warnings"]]
    return Group(*parts)


def leaderboard_text(document: Mapping[str, Any]) -> Group:
    """The trials with scores and number of blocks; members of the chosen blend show their weight."""
    # no rules and narrow gaps, to fit 80 columns
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="underline")
    arrow = {"higher": " ↑", "lower": " ↓"}.get(document["better"], "")
    table.add_column("#", justify="right", no_wrap=True)
    table.add_column("family", no_wrap=True)
    for head in (
        f"{document['metric']}{arrow}",
        *document["also"][:1],
        "blocks",
        "recency",
        "fit s",
        "weight",
    ):
        table.add_column(head, justify="right", no_wrap=True)
    for t in document["trials"][:SHOWN_TRIALS]:
        table.add_row(
            str(t["rank"]),
            t["family"],
            _number(t["score"]),
            *(_number(t["also"].get(name)) for name in document["also"][:1]),
            f"{t['blocks']}/{document['blocks']}",
            _recency(t),
            f"{t['fit_seconds']:.1f}",
            _weight(t),
            style="bold" if t["weight"] else "",
        )
    rest = document["trials"][SHOWN_TRIALS:]
    states = [t["state"] for t in document["trials"]]
    foot = f"{len(states)} trials: " + ", ".join(
        f"{states.count(s)} {s}" for s in ("complete", "pruned", "failed")
    )
    failed = [
        f"  failed: {t['family']}: {t['reason']}"
        for t in document["trials"]
        if t["state"] == "failed"
    ][:3]
    hidden = f"; {len(rest)} more with --json" if rest else ""
    return Group(
        Text(f"{document['problem']} as of {document['as_of']}", style="bold"),
        *_later_lines(document),
        table,
        Text(foot + hidden),
        *(Text(line, style="yellow") for line in failed),
    )


def _later_lines(document: Mapping[str, Any]) -> list[Text]:
    """That a later cycle is not shown, because it did not train."""
    later = document.get("later")
    if not later:
        return []
    reason = later["reason"].split("\n")[0]
    line = f"  not shown: the later cycle of {later['as_of']}, {later['status']}: {reason}"
    return [Text(line, style="yellow", overflow="fold")]


def _weight(trial: Mapping[str, Any]) -> str:
    """Weight in the chosen blend, or the state of a trial that did not complete."""
    if trial["state"] != "complete":
        return str(trial["state"])
    return f"{trial['weight']:.0%}" if trial["weight"] else ""


def _recency(trial: Mapping[str, Any]) -> str:
    """How a recipe favours recent rows: half-life, a last stage on them, time as a column."""
    parts = [f"{trial['half_life']:g}"] if trial["half_life"] else []
    parts += [name for name in ("recent", "trend") if trial[name]]
    return "+".join(parts) or "-"


def why_text(document: Mapping[str, Any]) -> Group:
    """The decision in a sentence, then challengers, blocks, search and ledger."""
    parts: list[Any] = [
        Text(
            f"{document['problem']} as of {document['as_of']}: {document['status']}", style="bold"
        ),
        *_reason_lines(document["reason"]),
        *_later_lines(document),
        Text(),
    ]
    blends = document.get("blends", {})
    if document.get("verdicts"):
        parts += [_verdict_table(document["verdicts"]), Text()]
    if document.get("blocks"):
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for head in ("block", "until", "rows", "blend", "loss", "evidence"):
            table.add_column(head, justify="right" if head in ("rows", "loss") else "left")
        for b in document["blocks"]:
            until = b.get("until", "")  # absent from decisions of earlier versions
            loss = f"{b['loss']:.5f}"
            table.add_row(
                b["block"],
                until,
                str(b["rows"]),
                b["blend"],
                loss,
                EVIDENCE.get(b["kind"], b["kind"]),
            )
        parts.append(table)
    parts += [Text(f"  {name}  {b['text']}", overflow="fold") for name, b in blends.items()]
    if document.get("attribution"):
        parts.append(Text(f"  {document['attribution']['text']}", overflow="fold"))
    if document.get("probation"):
        parts.append(Text(f"  probation: {document['probation']['reason']}", overflow="fold"))
    if document.get("regret"):
        parts.append(Text(f"  regret: {document['regret']['text']}", overflow="fold"))
    parts += [*_search_lines(document), *monitoring_lines(document.get("monitoring"))]
    return Group(*parts, *_ledger_lines(document.get("ledger", ())))


def _reason_lines(reason: str) -> list[Text]:
    """The reason, and on a second line its numbers: raw gain, shrunk gain and the gain needed."""
    why, gain, numbers = reason.partition(GAIN)
    lines = [why.rstrip(" :;"), gain + numbers] if gain and why else [reason]
    return [Text(f"  {line}") for line in lines]


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


def _search_lines(document: Mapping[str, Any]) -> list[Text]:
    """How much was searched, why, and how it stopped."""
    plan, done, cost = document.get("plan"), document.get("sweep"), document.get("cost")
    lines = [f"  plan: {plan['kind']}; {plan['reason']}"] if plan else []
    policy = document.get("policy")
    if policy and not plan:
        lines.append(f"  policy {policy['when']}: {policy['action']}; {policy['reason']}")
    if done:
        lines.append(
            f"  sweep: {done['trials']} trials on {done['rows']} rows in {done['seconds']} s, "
            f"scored by {document['metric']}, stopped: {done['stopped']}"
        )
    if cost:
        wall = f", {cost['wall_seconds']:.0f} s of wall clock" if cost.get("wall_seconds") else ""
        lines.append(f"  cost: {cost['core_seconds']:.1f} core-seconds of fits{wall}")
    return [Text(line, overflow="fold") for line in lines]


def champion_text(document: Mapping[str, Any]) -> Group:
    """Version, since when, released by, reason, live predictions."""
    champion, live = document["champion"], document["live"]
    parts: list[Any] = [Text(f"{document['problem']} at {document['at']}", style="bold")]
    if champion is None:
        first = document["first"]
        later = f"; the first release is of {first}" if first else ""
        return Group(*parts, Text(f"  no version was released yet{later}"))
    parts += [
        Text(f"  champion  version {champion['model_version']}: {champion['blend']}"),
        Text(f"  since     {champion['since'][:19]}Z, by {champion['actor']}"),
        Text(f"  why       {_line(champion)}", overflow="fold"),
    ]
    if live:
        parts.append(
            Text(
                f"  readers   generation {live['generation']}, {live['rows']} rows by version "
                f"{live['model_version']}, {live['as_of']} to {live['until']}"
            )
        )
    return Group(*parts, *_waiting_lines(document["waiting"]))


def _waiting_lines(challenger: Mapping[str, Any] | None) -> list[Text]:
    if challenger is None:
        return []
    name = f"version {challenger['version']} ({challenger['blend']})"
    line = f"{name} awaits approval until {challenger['expires']}: {challenger['reason']}"
    return [Text(f"  waiting   {line}", style="yellow", overflow="fold")]


def _ledger_lines(rows: Sequence[Mapping[str, Any]]) -> list[Text]:
    return [
        Text(f"  {e['since'][:16].replace('T', ' ')}  {e['actor']}  {_line(e)}", overflow="fold")
        for e in rows
    ]


def _line(entry: Mapping[str, Any]) -> str:
    versions = [f"v{v}" for v in (entry["from_version"], entry["to_version"]) if v is not None]
    return f"{entry['kind']} {' to '.join(versions)}: {entry['reason']}"


def status_text(document: Mapping[str, Any]) -> Group:
    """Champion, live predictions, what needs attention, realised performance, recent cycles."""
    parts: list[Any] = [
        Text(document["problem"], style="bold"),
        *_champion_lines(document),
        *_live_lines(document["live"]),
        *_waiting_lines(document["waiting"]),
        *_attention_lines(document),
        *monitoring_lines(document.get("monitoring")),
    ]
    if document["turned_out"]:
        parts += [Text(), realised_text(document["turned_out"])]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for head in ("cycle", "what", "ended", "reason"):
        table.add_column(head, no_wrap=head != "reason")
    for c in document["cycles"]:
        table.add_row(c["as_of"], c["verb"], c["status"], c["reason"].split("\n")[0])
    return Group(*parts, Text(), table)


def _champion_lines(document: Mapping[str, Any]) -> list[Text]:
    champion = document["champion"]
    if champion is None:
        return [Text(f"  no champion yet: automl cycle {document['file']}")]
    version = f"version {champion['model_version']} of {champion['as_of']}"
    return [Text(f"  champion  {version}: {champion['blend']}")]


def _live_lines(live: Mapping[str, Any] | None) -> list[Text]:
    if live is None:
        return [Text("  no predictions published yet")]
    window = f"{live['as_of']} to {live['until']}"
    return [
        Text(f"  live      generation {live['generation']}, {live['rows']} rows, {window}"),
        *(Text(f"    {k:8}{live[k]}", overflow="fold") for k in ("sql", "parquet") if live.get(k)),
    ]


def _attention_lines(document: Mapping[str, Any]) -> list[Text]:
    lines = []
    if document["ahead"]:
        lines.append(
            f"  ahead     the cycle of {document['ahead']} is later than now; commands for earlier "
            "slots are refused until then"
        )
    if document["missed"]:
        first, count = document["missed"][0], len(document["missed"])
        lines.append(
            f"  missed    {count} slot{'s' if count > 1 else ''} without predictions, the first "
            f"{first}; the next scheduled command scores the newest 24"
        )
    if document["unscored"]:
        lines.append(f"  released v{document['champion']['model_version']}, not yet scored")
    return [Text(line, style="yellow") for line in lines]


def realised_text(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Realised performance of published predictions."""
    table = Table(
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        title="realised performance",
        title_justify="left",
    )
    # metric.name may have changed between them
    metrics = list(dict.fromkeys(name for g in rows for name in g["scores"] or {}))
    for head in ("generation", "as of", "version", "labels", *metrics):
        table.add_column(head, justify="right")
    for g in rows:
        table.add_row(
            str(g["generation"]),
            g["as_of"],
            str(g["model_version"]),
            f"{g['labelled_rows']} of {g['rows']}",
            *(_number((g["scores"] or {}).get(name)) for name in metrics),
        )
    return table


def checked_text(document: Mapping[str, Any]) -> Group:
    """What a valid problem file describes."""
    lines = [
        f"{document['problem']}: the problem file is valid",
        f"  task       {document['task']}, metric {document['metric']}",
        f"  families   {', '.join(document['families'])}",
        f"  next as_of {document['as_of']}, batch until {document['batch'][1]}",
        f"  publishes  table {document['table']}",
        f"  workspace  {document['workspace']}",
    ]
    for c in document.get("connections", ()):
        lines.append(f"{'  ok' if c['passed'] else 'FAIL':6} {c['name']:10} {c['found']}")
        if not c["passed"]:
            lines.append(f"         -> {c['remedy']}")
    return Group(*(Text(line, overflow="fold") for line in lines))


def families_text(document: Mapping[str, Any]) -> Group:
    """One line each."""
    lines = [
        Text(f"{f['name']:24}{f['about'].split(':', 1)[-1].strip()}") for f in document["families"]
    ]
    return Group(*lines, Text(), Text("automl spaces NAME|PATH checks a family."))


def family_text(document: Mapping[str, Any]) -> Group:
    """Checks, then ranges."""
    lines: list[Any] = [Text(f"{document['family']}: {document['about']}", style="bold")]
    for c in document["checks"]:
        lines.append(
            Text(
                f"  {'ok' if c['passed'] else 'FAIL':4} {c['name']}: {c['found']}",
                style="" if c["passed"] else "red",
            )
        )
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


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.4f}" if abs(value) < 100 else f"{value:.1f}"
