"""Budgets too small: what would do is named and does; a champion stays as it is, a constant is never released."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path

import pytest

from automl.errors import NoModelError
from automl.problem import load_problem
from tests.support.parcels import AS_OF, make_world, write_problem
from tests.support.workspaces import rows, run_cycle

pytestmark = pytest.mark.slow
WEEK = timedelta(days=7)
SLOW = '''"""Waits, then fits a logistic regression."""
import time

from sklearn.linear_model import LogisticRegression

from automl import Family


class Slow(LogisticRegression):
    def fit(self, X, y, sample_weight=None):
        time.sleep(7)
        return super().fit(X, y, sample_weight)


family = Family(name="slow", short="slow", tasks={"binary"}, encoding="dense", start=[(1, {"C": 1.0})],
                space=lambda trial, shape: {"C": trial.suggest_float("C", 0.1, 10, log=True)},
                build=lambda params, shape, seed: Slow(C=params["C"]))
'''


def test_a_refused_budget_names_one_that_does_and_a_later_one_keeps_the_champion(
    tmp_path: Path,
) -> None:
    (tmp_path / "slow.py").write_text(SLOW, encoding="utf-8")
    small = {
        "trials   = 4": 'trials = 2\nbudget = "10s"',
        '["baseline", "linear"]': '["baseline", "slow.py"]',
    }
    file = write_problem(tmp_path, replace=small, frame=make_world())

    with pytest.raises(NoModelError, match="A constant is not released") as caught:
        run_cycle(file, AS_OF - WEEK)

    assert (caught.value.code, caught.value.exit_code) == ("budget_too_small", 4)
    assert rows(file, "select * from automl_release") == []
    wanted = re.search(r"wanted (\w+)", str(caught.value))
    assert wanted is not None
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace('"10s"', f'"{wanted[1]}"'), encoding="utf-8")
    first = run_cycle(file, AS_OF - WEEK)
    assert (first.status, first.model_version) == ("published", 1)
    assert "slow" in rows(file, "select blend from automl_release")[0][0]

    file.write_text(text.replace("trials = 2\n", ""), encoding="utf-8")
    kept = run_cycle(file, AS_OF)

    assert (kept.status, kept.model_version) == ("published", 1)
    assert kept.reason.startswith("kept version 1 unchanged: refit of slow failed: out of time")
    assert "wanted" in kept.warnings[0]
    assert load_problem(file).sweep.budget is not None
    assert rows(file, "select count(*) from automl_release") == [(1,)]
    assert rows(file, "select distinct as_of from parcels") == [("2026-03-02 00:00:00.000000",)]
