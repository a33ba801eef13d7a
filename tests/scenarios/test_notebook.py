"""Ten lines of a notebook on a table that nothing here knows: a first try, with a family of one's own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
TABLE = """
import numpy as np, pandas as pd
rng = np.random.default_rng(1)
day = pd.date_range("2025-01-01", periods=1200, freq="6h")
frame = pd.DataFrame({"day": day, "wind": rng.gamma(2, 3, 1200), "site": rng.choice(["north", "south"], 1200)})
frame["power"] = 3 * frame["wind"] + 10 * (frame["site"] == "north") + rng.normal(0, 2, 1200)
"""
FAMILY = '''
"""Nearest neighbours: a mean of the most similar rows."""
from automl import Family

def space(trial, shape):
    return {"n_neighbors": trial.suggest_int("n_neighbors", 2, 20)}

def build(params, shape, seed):
    from sklearn.neighbors import KNeighborsRegressor
    return KNeighborsRegressor(**params)

family = Family(name="neighbours", short="knn", tasks={"regression"}, encoding="dense", weights=False,
                start=[(1, {"n_neighbors": 5})], space=space, build=build)
'''
NOTEBOOK = """
import automl
attempt = automl.try_table(frame, "power", families=["baseline", "linear", "mine.py"], trials=5, budget=None, folder="scratch")
trials = attempt.leaderboard()
predictions = attempt.predictions()
print(sorted(set(trials["family"])), trials.query("state == 'complete'")["rmse"].is_monotonic_increasing)
print(len(predictions), predictions["prediction"].notna().all())
print(attempt.guesses["task"], attempt.guesses["validation.block"], attempt.result.status)
print(attempt.project.predict(frame.tail(2)).shape)
print(attempt._repr_html_().count("<table"))
"""


def test_ten_lines_try_a_table_and_print_nothing_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(FAMILY, encoding="utf-8")
    (tmp_path / "notebook.py").write_text(TABLE + NOTEBOOK, encoding="utf-8")
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("AUTOML_", "MLFLOW_"))}

    done = subprocess.run(
        [sys.executable, "notebook.py"],
        cwd=tmp_path,
        env={**clean, "PYTHONPATH": str(ROOT), "AUTOML_REPORT": "off"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.stderr == ""
    assert done.returncode == 0
    families, predictions, guesses, predicted, tables = done.stdout.splitlines()
    assert families == "['baseline', 'linear', 'neighbours'] True"
    assert predictions.endswith(" True")
    assert guesses == "regression 1mo published"
    assert (predicted, tables) == ("(2, 1)", "2")
    assert (tmp_path / "scratch" / "problem.toml").exists()
