"""Weekly cycles of the flights problem against libraries' defaults on the same rows.

Every Monday from 2013-08-12 on, for `--weeks` weeks, the problem's own `cycle` runs, and the published predictions
are scored against what then happened. LightGBM, HistGradientBoosting and logistic regression with their
defaults are fitted on the same snapshot and score the same batch. Differences are paired by week.

    python -m benchmarks.flights [--small] [--json] [--budget 30s] [--weeks 16] [--keep]
"""

from __future__ import annotations

import argparse
import json
import os
import re
import runpy
import sqlite3
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from automl.workspace import DEFAULTS

for key, value in DEFAULTS.items():  # before numpy and LightGBM read the environment
    os.environ.setdefault(key, value)

import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
from sklearn.metrics import roc_auc_score  # noqa: E402

from benchmarks.defaults import PEERS, peer_scores  # noqa: E402
from benchmarks.provenance import provenance  # noqa: E402
from benchmarks.tools import Cycle, by_command, in_this_process  # noqa: E402

ROOT = Path(__file__).parents[1]
FIRST, WEEKS = datetime(2013, 8, 12, tzinfo=UTC), 16
RESULT = ROOT / "benchmarks" / "results" / "flights.json"


def main() -> None:
    """Run the weeks, print the table or the document."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument(
        "--small", action="store_true", help="two weeks of 10 s each on 30 days of history"
    )
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--budget", default="30s")
    parser.add_argument("--weeks", type=int, default=WEEKS)
    parser.add_argument("--keep", action="store_true", help="write benchmarks/results/flights.json")
    args = parser.parse_args()
    weeks, budget = (2, "10s") if args.small else (args.weeks, args.budget)
    how = in_this_process if args.small else by_command
    with tempfile.TemporaryDirectory() as folder:
        file = prepare(Path(folder), budget, small=args.small)
        rows = [_week(how, file, FIRST + timedelta(days=7 * i)) for i in range(weeks)]
    document = _document(rows, budget)
    if args.keep:
        RESULT.parent.mkdir(exist_ok=True)
        RESULT.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(json.dumps(document) + "\n" if args.json else _table(document))


def prepare(folder: Path, budget: str, *, small: bool) -> Path:
    """The example in a folder of its own, with another budget; a small one has a summer's history."""
    source = ROOT / "examples" / "flights"
    warehouse = runpy.run_path(str(source / "warehouse.py"))
    if small:
        columns = runpy.run_path(str(source / "columns.py"))
        flights = columns["flights_table"](*warehouse["source_frames"]())
        summer = flights["scheduled"].between("2013-06-24", "2013-09-02")
        warehouse["write"](f"sqlite:///{folder / 'warehouse.db'}", flights[summer])
    else:
        warehouse["build"]()
        (folder / "warehouse.db").symlink_to(source / "warehouse.db")
    text = (source / "problem.toml").read_text(encoding="utf-8")
    for name, value in {"budget": budget, "keep": "30d" if small else "270d"}.items():
        setting = rf'^({name} *= )".*"'
        text, found = re.subn(setting, rf'\1"{value}"', text, count=1, flags=re.MULTILINE)
        assert found, name
    file = folder / "problem.toml"
    file.write_text(text, encoding="utf-8")
    return file


def _week(cycle: Cycle, file: Path, as_of: datetime) -> dict[str, Any]:
    started = time.monotonic()
    result = cycle(file, as_of, "auto", "")
    if "error" in result:  # run again, as a scheduler would
        print(result["error"], file=sys.stderr, flush=True)
        result = cycle(file, as_of, "auto", "")
        if "error" in result:
            raise SystemExit(f"the cycle of {as_of:%Y-%m-%d} failed twice: {result['error']}")
        print("the same cycle again succeeded", file=sys.stderr, flush=True)
    seconds = time.monotonic() - started
    labels = _labels(file, as_of)
    published = _published(file, result["generation"])
    joined = published.merge(labels, on="flight_id").dropna(subset="late")
    scores = {"automl": _auc(joined["late"], joined["probability"])}
    scores |= peer_scores(file, as_of, labels)
    row = {
        "as_of": f"{as_of:%Y-%m-%d}",
        "rows": len(joined),
        "seconds": round(seconds, 1),
        "reason": result["reason"],
        "trials": len(result["leaderboard"]["trials"]),
        "roc_auc": scores,
    }
    print(json.dumps(row), file=sys.stderr, flush=True)
    return row


def _labels(file: Path, as_of: datetime) -> pd.DataFrame:
    query = "select flight_id, late from flights where scheduled >= ? and scheduled < ?"
    window = [f"{as_of:%Y-%m-%d %H:%M:%S}", f"{as_of + timedelta(days=7):%Y-%m-%d %H:%M:%S}"]
    with sqlite3.connect(file.parent / "warehouse.db") as database:
        return pd.read_sql(query, database, params=window)


def _published(file: Path, generation: int) -> pd.DataFrame:
    with sqlite3.connect(file.parent / ".automl" / "automl.db") as database:
        return pd.read_sql(
            "select flight_id, probability from flight_delays where generation = ?",
            database,
            params=[generation],
        )


def _auc(truth: pd.Series, probability: pd.Series) -> float:
    return float(roc_auc_score(truth, probability))


def _document(rows: list[dict[str, Any]], budget: str) -> dict[str, Any]:
    names = ["automl", *PEERS]
    scores = pd.DataFrame([r["roc_auc"] for r in rows])[names]
    differences = {
        name: {
            "mean": round(float((scores["automl"] - scores[name]).mean()), 5),
            "standard_error": round(
                float((scores["automl"] - scores[name]).std(ddof=1) / np.sqrt(len(scores))), 5
            ),
            "weeks_better": int((scores["automl"] > scores[name]).sum()),
        }
        for name in PEERS
    }
    return {
        **provenance("flights"),
        "budget": budget,
        "weeks": len(rows),
        "figures": {
            **{f"mean_roc_auc_{name}": round(float(scores[name].mean()), 5) for name in names},
            "mean_difference_lightgbm": differences["lightgbm"]["mean"],
        },
        "paired_differences": differences,
        "by_week": rows,
    }


def _table(document: dict[str, Any]) -> str:
    lines = [
        f"{document['weeks']} weeks, budget {document['budget']}, {document['cores']} cores, mean ROC AUC"
    ]
    figures = document["figures"]
    lines.append(f"  {'automl':24}{figures['mean_roc_auc_automl']:.4f}")
    for name, d in document["paired_differences"].items():
        mean = figures[f"mean_roc_auc_{name}"]
        lines.append(
            f"  {name:24}{mean:.4f}  automl - it: {d['mean']:+.4f} ± {d['standard_error']:.4f}, "
            f"better in {d['weeks_better']} of {document['weeks']} weeks"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
