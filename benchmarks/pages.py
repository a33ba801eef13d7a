"""MLflow's pages with two years of weekly cycles in one experiment, against three cycles.

The runs are written by the tracking code of a cycle, with made trials instead of a sweep: parent run, 60 trials,
roles, decision, line of live losses, views. `write_ratio` is the median time of the last cycles over that of the first
ones. `decisions_open_ratio` is the time until headless Chromium shows the rows of the view *Decisions*, with all
cycles over that with three; both servers run and are opened in turn, the medians count. Nothing is registered: what
a version costs does not depend on the runs.

    python -m benchmarks.pages [--small] [--json] [--keep]
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from automl.modeling.families import load_families
from automl.modeling.recipes import Recipe
from automl.problem import load_problem
from automl.sweep import Trial
from automl.tracking import (
    DECISIONS,
    LIVE_LOSS,
    PROMISED_LOSS,
    CycleRecord,
    Registry,
    cycle_tag,
    view_link,
)
from automl.workspace import open_workspace
from benchmarks.provenance import provenance
from tests.support.browser import Browser, open_browser
from tests.support.parcels import write_problem
from tests.support.shown_cycles import serving

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "benchmarks" / "results" / "pages.json"
FIRST = datetime(2024, 1, 1, tzinfo=UTC)
FEW = 3  # cycles of the small experiment
TIMED = 3  # cycles at each end whose writing is compared, after one that warms up
VISITS = 7  # of each experiment
FAMILIES = ("baseline", "linear")
POINTS = 52  # as in a cycle


def main() -> None:
    """Write both experiments, open both, print the table or the document."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--small", action="store_true", help="12 cycles of 10 trials")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--keep", action="store_true", help="write benchmarks/results/pages.json")
    args = parser.parse_args()
    cycles, trials = (12, 10) if args.small else (104, 60)
    with tempfile.TemporaryDirectory() as place:
        many, few = Path(place) / "many", Path(place) / "few"
        seconds = _write(many, cycles, trials)
        _write(few, FEW, trials)
        opened = _open_both(many, few, cycles)
    document = _document(seconds, opened, cycles, trials)
    if args.keep:
        RESULT.parent.mkdir(exist_ok=True)
        RESULT.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(json.dumps(document) + "\n" if args.json else _table(document))


def _document(
    seconds: Sequence[float], opened: dict[str, list[float]], cycles: int, trials: int
) -> dict[str, Any]:
    first, last = seconds[1 : 1 + TIMED], seconds[-TIMED:]
    write = {"first": statistics.median(first), "last": statistics.median(last)}
    visits = {name: statistics.median(times[1:]) for name, times in opened.items()}
    return {
        **provenance("pages"),
        "cycles": cycles,
        "trials": trials,
        "write_seconds": {name: round(value, 3) for name, value in write.items()},
        "open_seconds": {name: round(value, 3) for name, value in visits.items()},
        "figures": {
            "write_ratio": round(write["last"] / write["first"], 3),
            "decisions_open_ratio": round(visits["many"] / visits["few"], 3),
        },
    }


def _table(document: dict[str, Any]) -> str:
    write, opened, figures = (document[k] for k in ("write_seconds", "open_seconds", "figures"))
    cycles, trials = document["cycles"], document["trials"]
    return (
        f"{cycles} cycles of {trials} trials in one experiment\n"
        f"  runs of a cycle written   {write['first']:.2f} s in an empty one, {write['last']:.2f} s in the full one: "
        f"{figures['write_ratio']:.2f}\n"
        f"  Decisions opened          {opened['few']:.2f} s with {FEW} cycles, {opened['many']:.2f} s with all: "
        f"{figures['decisions_open_ratio']:.2f}\n"
    )


# ---- writing


def _write(folder: Path, cycles: int, trials: int) -> list[float]:
    """Seconds that each cycle's runs took."""
    folder.mkdir()
    file = write_problem(folder)
    problem = load_problem(file)
    registry = Registry(problem, open_workspace(file))
    families = load_families(FAMILIES, folder)
    seconds = []
    for week in range(cycles):
        as_of = FIRST + timedelta(weeks=week)
        made = _trials(week, trials)
        began = time.monotonic()
        tag = cycle_tag(as_of, 1)
        run_id = registry.open_cycle(
            tag, {"metric": "roc_auc", "rows": 2000 + week}, {"plan": "full"}
        )
        with registry.logging_trials(run_id, tag, families) as log:
            for trial in made:
                log(trial)
            log(made[0], "chosen")
        registry.log_trials(run_id, tag, made, families, {made[0].recipe.id: "chosen"})
        registry.close_cycle(_record(run_id, week))
        registry.describe(tag, run_id)
        seconds.append(time.monotonic() - began)
    return seconds


def _trials(week: int, count: int) -> list[Trial]:
    rng = np.random.default_rng(week)
    statuses = rng.choice(["complete", "pruned", "failed"], count, p=[0.7, 0.25, 0.05])
    statuses[0] = "complete"
    made = []
    for number, status in enumerate(statuses):
        losses = tuple(rng.uniform(0.1, 0.3, 3 if status == "complete" else 1))
        made.append(
            Trial(
                number=number,
                recipe=Recipe(
                    "linear", {"C": float(rng.lognormal()), "alpha": float(number)}, week
                ),
                source="search",
                status=str(status),
                losses=losses,
                scores=tuple(1 - x for x in losses),
                also={"log_loss": float(rng.uniform(0.4, 0.6))},
                seconds_fit=float(rng.uniform(0.1, 2)),
                reason="" if status == "complete" else f"{status} by the benchmark",
            )
        )
    return made


def _record(run_id: str, week: int) -> CycleRecord:
    rng = np.random.default_rng(1000 + week)
    day = int(FIRST.timestamp() // 86400)
    days = [day + 7 * k for k in range(max(0, week - POINTS), week)]
    return CycleRecord(
        run_id=run_id,
        note="**– Kept the champion, refitted**: linear  \ngain +0.10%",
        tags={"decision": "kept", "winner": "linear", "champion_version": str(week + 1)},
        metrics={
            "best_roc_auc": 0.81, "champ_roc_auc": 0.8, "live_roc_auc": 0.79, "gain_pct": 0.1,
            "gain_low": -0.2, "gain_high": 0.3, "p_better": 0.6, "n_trials": 60, "n_failed": 3,
            "n_pruned": 15, "minutes": 1.0, "fit_share": 0.7,
        },
        series={
            LIVE_LOSS: [(d, float(rng.uniform(0.18, 0.22))) for d in days],
            PROMISED_LOSS: [(d, 0.2) for d in days],
        },
        artifacts={"decision.md": "kept", "leaderboard.json": {"columns": ["rank"], "data": [[1]]}},
    )  # fmt: skip


# ---- opening


def _open_both(many: Path, few: Path, cycles: int) -> dict[str, list[float]]:
    newest = {"many": FIRST + timedelta(weeks=cycles - 1), "few": FIRST + timedelta(weeks=FEW - 1)}
    opened: dict[str, list[float]] = {"many": [], "few": []}
    with ExitStack() as stack:
        places = {}
        for name, folder in (("many", many), ("few", few)):
            base, first_page = stack.enter_context(serving(folder / "problem.toml"))
            places[name] = base, first_page
        browser = stack.enter_context(open_browser())
        for _, first_page in places.values():
            browser.open(
                first_page, "parcels"
            )  # the store knows no cycle, so it leads to the experiments
        for visit in range(VISITS):
            for name in sorted(places, reverse=bool(visit % 2)):
                base, _ = places[name]
                opened[name].append(_visit(browser, base, cycle_tag(newest[name], 1)))
    return opened


def _visit(browser: Browser, base: str, tag: str) -> float:
    """Seconds until the newest and the third newest cycle are on the page, with their decisions."""
    browser.open("about:blank")
    began = time.monotonic()
    browser.open(view_link(base, "1", DECISIONS))
    rows = f"document.querySelectorAll('[role=row][row-id]').length >= {2 * FEW}"
    browser.wait(f"js:document.body.innerText.includes('cycle {tag}') && {rows}")
    browser.wait("kept")
    return time.monotonic() - began


if __name__ == "__main__":
    main()
