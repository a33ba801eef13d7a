"""How often the gate was right: past decisions scored again on the blocks after them.

The flights problem runs its weekly cycles from 2013-08-12 on, and each further table its own retraining calendar; then
every decision is compared with what it rejected, on the next four blocks, from losses that later cycles measured
anyway. With `--folder` an interrupted run resumes.

    python -m benchmarks.regret [--small] [--json] [--budget 15s] [--weeks 16] [--tables elec2] [--folder DIR] [--keep]
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks.flights import FIRST, WEEKS, prepare
from benchmarks.provenance import provenance
from benchmarks.tables import KEY, METRICS, Table, drifting, find_tables, open_tables
from benchmarks.tools import PROBLEM, Cycle, by_command, in_this_process

RESULT = Path(__file__).parent / "results" / "regret.json"
MOST_CYCLES = 16  # of a table


def main() -> None:
    """Run the cycles, print the table or the document."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--small", action="store_true", help="three cycles of one made table")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--budget", default="15s")
    parser.add_argument("--weeks", type=int, default=WEEKS)
    parser.add_argument("--tables", nargs="*", default=["elec2"])
    parser.add_argument("--catalogue", help="folder of catalog.json and its parquet files")
    parser.add_argument("--folder", type=Path, help="keeps the workspaces; run again, it resumes")
    parser.add_argument("--keep", action="store_true", help="write benchmarks/results/regret.json")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        found = _run(args, args.folder or Path(temporary))
    document = {**provenance("regret"), "budget": args.budget, "figures": _figures(found)}
    document["decisions"] = found
    if args.keep:
        RESULT.parent.mkdir(exist_ok=True)
        RESULT.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(json.dumps(document) + "\n" if args.json else _text(document))


def _run(args: argparse.Namespace, folder: Path) -> dict[str, list[dict[str, Any]]]:
    """Decisions by table."""
    if args.small:
        made = drifting(3000)
        return {made.name: _table(made, made.bounds[1:4], folder, "10s", in_this_process)}
    place = folder / "flights"
    place.mkdir(parents=True, exist_ok=True)
    file = place / "problem.toml"
    file = file if file.exists() else prepare(place, args.budget, small=False)
    weeks = [FIRST + timedelta(days=7 * i) for i in range(args.weeks)]
    found = {"flights": _decisions(by_command, file, weeks)}
    catalogue = find_tables(args.catalogue)
    for table in open_tables(catalogue, args.tables) if catalogue and args.tables else []:
        moments = table.bounds[:-1][-MOST_CYCLES:]
        found[table.name] = _table(table, moments, folder, args.budget, by_command)
    return found


def _table(
    table: Table, moments: Sequence[datetime], folder: Path, budget: str, how: Cycle
) -> list[dict[str, Any]]:
    place = folder / table.name
    place.mkdir(parents=True, exist_ok=True)
    file = place / "problem.toml"
    if not file.exists():
        frame = table.frame.sort_values(table.time, kind="stable").reset_index(names=KEY)
        frame.to_parquet(place / "rows.parquet", index=False)
        text = PROBLEM.format(
            name=table.name.replace("_", "-"),
            task=table.task,
            time=table.time,
            key=KEY,
            target=table.target,
            metric=METRICS[table.task],
            block=table.block,
            seconds=float(budget.removesuffix("s")),
            seed=7,
        )
        file.write_text(text, encoding="utf-8")
    return _decisions(how, file, moments)


def _decisions(how: Cycle, file: Path, moments: Sequence[datetime]) -> list[dict[str, Any]]:
    from automl import report
    from automl.problem import load_problem
    from automl.workspace import open_workspace

    for moment in moments:
        result = how(file, moment, "auto", "")
        line = result.get("error") or f"{result['as_of']}: {result['reason']}"
        print(line, file=sys.stderr, flush=True)
    return report.regrets(load_problem(file), open_workspace(file))


def _figures(found: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Per table: decisions, those whose regret is known, those that were right, and the mean regret."""
    figures: dict[str, Any] = {}
    for name, rows in found.items():
        known = [r for r in rows if r["right"] is not None]
        promoted = [r for r in known if r["outcome"] in ("promote", "revert")]
        figures[name] = {
            "decisions": len(rows),
            "known": len(known),
            "right": sum(r["right"] for r in known),
            "promotions_known": len(promoted),
            "promotions_right": sum(r["right"] for r in promoted),
            "mean_regret": round(fmean(r["regret"] for r in known), 5) if known else None,
            "mean_gain_of_rejected": round(fmean(r["gain"] for r in known), 5) if known else None,
        }
    return figures


def _text(document: dict[str, Any]) -> str:
    lines = [
        f"budget {document['budget']}, {document['cores']} cores; the gate was right in:",
        f"  {'table':20}{'right':>8}{'known':>8}{'decisions':>11}{'promotions right':>18}{'mean regret':>13}",
    ]
    for name, f in document["figures"].items():
        promotions = f"{f['promotions_right']} of {f['promotions_known']}"
        regret = "-" if f["mean_regret"] is None else f"{f['mean_regret']:.2%}"
        lines.append(
            f"  {name:20}{f['right']:8}{f['known']:8}{f['decisions']:11}{promotions:>18}{regret:>13}"
        )
    for name, rows in document["decisions"].items():
        lines.append(f"{name}")
        lines += [f"  {r['as_of']:12}{r['outcome']:9}{r['text']}" for r in rows]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
