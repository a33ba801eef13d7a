"""What monitoring found, as documents and as text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from automl.monitoring.promises import LiveLoss, live_losses
from automl.problem import HIGHER_IS_BETTER, Problem
from automl.report.lines import facts, sentence
from automl.store import Store, newest_watch, open_alerts
from automl.workspace import day_of

__all__ = ["WRONG", "late_text", "monitor_text", "monitoring_facts", "monitoring_state"]

WRONG = "yellow"


def monitoring_state(store: Store, problem: Problem) -> dict[str, Any]:
    """Open alerts, the newest generation with labels against its promise, and what monitoring found last."""
    losses = live_losses(store, problem)
    newest = losses[-1] if losses else None
    watch = newest_watch(store, problem.name)
    return {
        "alerts": [alert.document for alert in open_alerts(store, problem.name)],
        "live": _live(newest, problem) if newest else None,
        "as_of": day_of(watch[0]) if watch else None,
        "found": dict(watch[1]) if watch else None,
    }


def _live(loss: LiveLoss, problem: Problem) -> dict[str, Any]:
    higher = problem.metric.name in HIGHER_IS_BETTER

    def score(value: float | None) -> float | None:
        return None if value is None else 1 - value if higher else value

    return {
        "generation": loss.generation,
        "model_version": loss.model_version,
        "metric": problem.metric.name,
        "labelled_rows": loss.labelled_rows,
        "value": score(loss.loss),
        "promised": score(loss.promised),
        "ratio": loss.ratio,
        "z": loss.z,
        "degraded": loss.degraded,
    }


def monitoring_facts(state: Mapping[str, Any] | None) -> list[tuple[str, Text]]:
    """Name and sentence of what `status` and `why` show."""
    if state is None:
        return []
    rows = [
        ("alert", Text(f"{a['title']}, since {a['since'][:16].replace('T', ' ')}", style="red"))
        for a in state["alerts"]
    ]
    live, found = state["live"], state["found"]
    if live and live["promised"] is not None:
        word = "WORSE than promised" if live["degraded"] else "as promised"
        text = (
            f"{word}: {live['metric']} {live['value']:.4g} on {live['labelled_rows']} labels, "
            f"promised {live['promised']:.4g}"
        )
        if live["degraded"]:
            text += f" ({live['ratio']:.1f} times the loss)"
            if found and found.get("performance") and found["performance"].get("cause"):
                text += f"; likely {found['performance']['cause']}"
        rows.append(("live loss", Text(text, style=WRONG if live["degraded"] else "")))
    if found:
        drift = found["drift"]
        style = WRONG if drift["state"] == "alarm" else ""
        rows.append(("drift", Text(f"{drift['text']} ({state['as_of']})", style=style)))
    return rows


def monitor_text(document: Mapping[str, Any]) -> Group:
    """What one run of monitoring found."""
    performance, expected, fresh = (document[n] for n in ("performance", "expected", "freshness"))
    rows, drift = document["rows"], document["drift"]
    realised = performance["text"] if performance else "no published prediction has 30 labels yet"
    window = f" (window {' to '.join(drift['window'])})" if drift["window"] else ""
    moved = [Text(f"{drift['text']}{window}"), *(Text(_shift(s)) for s in drift["shifts"][:3])]
    usual = f", usually {rows['usual']:.0f}" if rows["usual"] else ""
    shown = {
        "realised": Text(realised, style=WRONG if document["degraded"] else ""),
        "expected": expected["text"],
        "drift": Text("\n", style=WRONG if drift["state"] == "alarm" else "").join(moved),
        "fresh": f"history until {fresh['history_until']}, labels until {fresh['labels_until'] or '-'}, "
        f"predictions until {fresh['predictions_until'] or '-'}",
        "rows": f"{rows['newest']} in the newest batch{usual}",
        **_stable(document["stability"]),
        "tables": ", ".join(document["tables"]),
    }
    alerts = [
        sentence(f"alert     {a['title']}, since {a['since'][:16].replace('T', ' ')}", style="red")
        for a in document.get("alerts", ())
    ]
    warnings = [sentence(f"warning: {w}", style=WRONG) for w in document["warnings"]]
    head = Text(f"{document['problem']} as of {document['as_of']}", style="bold")
    return Group(head, facts(shown), *alerts, *warnings)


def _stable(stability: Mapping[str, Any] | None) -> dict[str, str]:
    if not stability:
        return {}
    parts = [
        f"{stability[k]:.1%} changed {k.split('_')[0]}"
        for k in ("class_changed", "bucket_changed")
        if k in stability
    ]
    keys = f"of {stability['common_rows']} keys in two generations"
    return {"stable": f"{keys} {', '.join(parts)}"}


def _shift(shift: Mapping[str, Any]) -> str:
    effect = "-" if shift["effect"] is None else f"{shift['effect']:+.1f} sd"
    return f"{shift['source']:11} {shift['column']}: {shift['statistic']} {shift['value']:.4g}, usually {shift['reference']:.4g} ({effect})"


def late_text(document: Mapping[str, Any]) -> Table:
    """One line per problem: what is wrong with it, else what it does."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for p in document["problems"]:
        word = "LATE" if p["late"] else "ALERT" if p["alerts"] else "ok"
        text = "; ".join([p["late"] or p["text"], *p["alerts"]])
        table.add_row(word, p["problem"], Text(text), style="" if word == "ok" else "red")
    return table
