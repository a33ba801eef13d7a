"""The report of a cycle as one page: no network, no script, readable on a phone and on paper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from automl.redaction import redact
from automl.report.figures import Picture, pictures

__all__ = ["SECTIONS", "report_html"]

# in the order of the page: id -> heading
SECTIONS: Mapping[str, str] = {
    "decision": "What was decided, and why",
    "live": "What is live, and how it has turned out",
    "gain": "Fresh data and new recipe",
    "leaderboard": "Leaderboard",
    "budget": "Where the budget went",
    "quality": "How good the predictions are",
    "drivers": "What drives the predictions",
    "drift": "Drift and findings",
    "batch": "The newest batch",
    "act": "If you disagree",
    "reproduce": "How to reproduce it",
}
_WORDS = {
    "first": "First champion",
    "promote": "Promoted",
    "revert": "Reverted to the previous champion",
    "keep": "Kept the champion",
    "stay": "Kept the champion unchanged",
    "wait": "Awaits review",
}
_STATUS = {
    "failed": "Failed",
    "refused": "Refused",
    "skipped": "Skipped",
    "running": "Has not ended",
    "dry-run": "Dry run",
}
_TONES = {
    "first": "good",
    "promote": "good",
    "wait": "look",
    "revert": "look",
    "failed": "bad",
    "refused": "bad",
}


def report_html(document: Mapping[str, Any], drawn: Sequence[Picture] | None = None) -> str:
    """The page of a document of `cycle_report`; `drawn` are its pictures, if they exist already."""
    drawn = pictures(document) if drawn is None else drawn
    outcome = document["decision"]["outcome"]
    status = document["status"]
    ended = (
        _STATUS.get(status) if status in _STATUS else _WORDS.get(outcome or "", status.capitalize())
    )
    text = _template().render(
        d=document,
        sections=SECTIONS,
        headline=ended,
        tone=_TONES.get(status, _TONES.get(outcome or "", "plain")),
        pictures={
            p.name: {"title": p.title, "sentence": p.sentence, "svg": p.svg()} for p in drawn
        },
        reasons=_reasons(document),
    )
    return redact(text)


def _reasons(document: Mapping[str, Any]) -> Mapping[str, str]:
    """Why a section has nothing to show, in one sentence."""
    status = document["status"]
    if status in ("failed", "refused"):
        how = "failed" if status == "failed" else "was refused"
        why = f"The cycle {how} before it had any: see its reason above."
    elif status == "skipped":
        why = "The cycle was skipped by its policy: nothing was fitted, and the champion is unchanged."
    elif not document["leaderboard"]["trials"]:
        why = "The plan of this cycle was to refit the champion without a search."
    else:
        why = "Nothing was recorded of it."
    return {"trained": why}


@cache
def _template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": _number,
        "percent": _percent,
        "share": _share,
        "seconds": _seconds,
    }
    return environment.get_template("report.html.j2")


def _number(value: Any) -> str:
    """Four significant digits; a dash for nothing."""
    if value is None:
        return "–"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def _percent(value: float | None, digits: int = 2) -> str:
    return "–" if value is None else f"{100 * value:+.{digits}f} %"


def _share(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.0f} %"


def _seconds(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.1f} s" if value < 100 else f"{value / 60:.1f} min"
