"""What `automl why` prints: the sentence and the table under it say the same numbers."""

from __future__ import annotations

import re
from dataclasses import asdict
from typing import Any

import pytest
from rich.console import Console

from automl.promotion.decide import Decision
from automl.report.text import why_text
from tests.support.decisions import decide_on, duel

NULLS = [duel(f"null{i}", [0.004, -0.006, 0.006, -0.004]) for i in range(3)]


def printed(decision: Decision, reason: str = "", drop: str = "") -> list[str]:
    """Lines of 80 columns; `drop` is a number that an earlier version did not keep."""
    verdicts: list[dict[str, Any]] = [asdict(v) for v in decision.verdicts]
    for verdict in verdicts:
        verdict.pop(drop, None)
    document = {
        "problem": "parcels",
        "as_of": "2026-01-05",
        "status": "kept",
        "reason": reason or decision.reason,
        "verdicts": verdicts,
        "blocks": [
            {"block": "2026-01-05", "rows": 9, "blend": "r", "loss": 0.1, "kind": kind}
            for kind in ("out_of_sample", "in_sample")
        ],
    }
    console = Console(width=80)
    with console.capture() as capture:
        console.print(why_text(document))
    return [line.rstrip() for line in capture.get().splitlines()]


@pytest.mark.parametrize(
    ("gains", "unseen"),
    [
        ([0.04, 0.05, 0.04], 2),
        ([0.004, 0.002, 0.004], 0),
        ([0.0004, 0.0002, 0.0004], 3),
        ([-0.12, 0.1, 0.1, -0.11, 0.12], 4),
        ([-0.2, -0.21], 1),
    ],
)
def test_raw_gain_shrunk_gain_and_threshold_stand_on_one_line_that_agrees_with_the_table(
    gains: list[float], unseen: int
) -> None:
    decision = decide_on(duel("rrrrrrrrrr", gains, out_of_sample=unseen))
    (verdict,) = decision.verdicts

    lines = printed(decision)

    (line,) = [line for line in lines if "raw gain" in line]
    found = re.search(
        r"^  raw gain (\S+), shrunk (\S+), (\S+) needed; P\(better\) (\S+), (\S+)( needed;.*)?$",
        line,
    )
    assert found, line
    raw, shrunk, margin, sure, asked = found.groups()[:5]
    text = " ".join(lines)
    interval = re.search(r"interval (\S+) to (\S+); (\d+) blocks, (\d+) +out-of-sample", text)
    assert interval
    low, high, blocks, out_of_sample = interval.groups()
    (row,) = [line.split() for line in lines if line.startswith("rrrrrrrrrr")]
    assert row[1:] == [raw, shrunk, low, high, margin, sure, asked, blocks, out_of_sample]
    assert (raw, shrunk) == (f"{verdict.mean:+.2%}", f"{verdict.shrunk:+.2%}")
    assert (float(sure) >= float(asked)) is (verdict.probability >= verdict.needed)


def test_the_line_is_of_the_promoted_or_else_of_the_best() -> None:
    promoted = decide_on(duel("rrrrrrrrrr", [0.05] * 4), *NULLS)
    kept = decide_on(*NULLS)

    for decision in (promoted, kept):
        best = max(decision.verdicts, key=lambda v: v.shrunk)
        assert f"raw gain {best.mean:+.2%}, shrunk {best.shrunk:+.2%}," in "\n".join(
            printed(decision)
        )
    assert "  promoted" in printed(promoted)


def test_the_words_of_the_line_are_those_of_the_blocks() -> None:
    text = "\n".join(printed(decide_on(duel("r", [0.01, 0.02]))))

    assert re.search(r"0\.10000 +out-of-sample", text)
    assert re.search(r"0\.10000 +in-sample", text)


@pytest.mark.parametrize("reason", ["kept: gain +0.10%, P(better) 0.60", "no evidence"])
def test_decisions_of_earlier_versions_are_still_printed(reason: str) -> None:
    lines = printed(decide_on(duel("rrrrrrrrrr", [0.01, 0.02])), reason, drop="margin")

    assert f"  {reason}" in lines
    (row,) = [line.split() for line in lines if line.startswith("rrrrrrrrrr")]
    assert row[5] == "-"
