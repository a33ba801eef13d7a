"""Retraining policies in cycles: a skip, its overrides, suggestions, and policies of users."""

from __future__ import annotations

import sqlite3
from datetime import timedelta
from pathlib import Path

import pytest

from automl import open_project
from automl.cycles.job import open_job
from automl.cycles.options import RunOptions
from automl.cycles.steps import call
from automl.errors import ProblemError
from automl.history.contract import load_contract
from automl.retrain.gather_situation import situation_of
from automl.retrain.policies import BY_NAME
from automl.retrain.training_data import pull_history
from automl.store import Store
from automl.workspace import open_workspace
from tests.support.parcels import AS_OF
from tests.support.workspaces import file as file  # a fixture
from tests.support.workspaces import opened, rows, run_cycle, standing

LATER = AS_OF + timedelta(days=3)
LATEST = AS_OF + timedelta(days=4)


def let(file: Path, section: str) -> None:
    """Give the problem file a section `retraining`."""
    text = file.read_text(encoding="utf-8").partition("\n[retraining]")[0]
    file.write_text(f"{text}\n[retraining]\n{section}\n", encoding="utf-8")


def fits(file: Path) -> int:
    return int(rows(file, "select count(*) from automl_trial")[0][0])


def test_a_skip_fits_nothing_and_the_champion_scores(file: Path) -> None:
    let(file, 'when = "never"')
    before, trials = standing(file), fits(file)
    result = run_cycle(file, LATER)
    assert result.status == "published"
    assert "retraining skipped, policy never chose skip" in result.reason
    assert fits(file) == trials
    after = standing(file)
    assert after["releases"] == before["releases"]
    assert after["ledger"] == before["ledger"]
    assert (after["champion"], after["running"]) == (2, 0)
    assert {version for _, version, _ in after["live"]} == {2}
    assert after["live"] != before["live"]

    # the store, the commands, MLflow
    project = open_project(file)
    cycle = Store(project.workspace).find_cycle("parcels", "retrain", LATER)
    assert cycle is not None
    assert (cycle.status, cycle.receipts["policy"]["action"]) == ("skipped", "skip")
    shown = project.status()["cycles"]
    assert ("retrain", "skipped") in {(c["verb"], c["status"]) for c in shown}
    why = project.why(cycle=LATER)
    assert why["policy"] == {**cycle.receipts["policy"]}
    assert why["cost"]["core_seconds"] == 0
    assert "policy never" in str(why)
    assert project.why()["as_of"] == f"{AS_OF:%Y-%m-%d}", "without --cycle the newest that trained"

    # the same command again is a no-op
    again = run_cycle(file, LATER)
    assert again.already
    assert project.cycle(as_of=LATER).already
    assert standing(file) == after

    # a plan on the command line overrides the policy
    trained = run_cycle(file, LATEST, plan="refit")
    assert trained.status == "published"
    assert standing(file)["champion"] == 3
    found = Store(project.workspace).find_cycle("parcels", "retrain", LATEST)
    assert found is not None
    assert "policy" not in found.receipts
    assert found.receipts["plan"]["reason"] == "requested"

    # and so does --again
    run_cycle(file, LATEST, again=True, reason="to see", plan="refit")
    assert standing(file)["champion"] == 4


def test_a_suggestion_changes_nothing_but_the_reason(file: Path) -> None:
    let(file, 'when = "never"\nmode = "suggest"')
    result = run_cycle(file, LATER)
    assert standing(file)["champion"] == 3
    cycle = Store(open_workspace(file)).find_cycle("parcels", "retrain", LATER)
    assert cycle is not None
    assert cycle.receipts["plan"]["kind"] == "refit", "as without a policy: no whole block is new"
    assert "policy never suggests skip" in cycle.receipts["plan"]["reason"]
    assert result.status == "published"


BAD = {
    "raises": ("raise ValueError('no idea')", "failed: ValueError: no idea"),
    "exits": ("raise SystemExit(3)", "failed: SystemExit: 3"),
    "nonsense": ("return 'sometimes'", "returned 'sometimes'; wanted one of skip, auto, refit"),
    "a number": ("return 3", "returned '3'"),
    "no reason": ("return 'skip', 7", "wanted one of"),
}


@pytest.mark.parametrize("what", BAD)
def test_a_bad_policy_of_a_user_is_refused_and_nothing_changes(file: Path, what: str) -> None:
    body, message = BAD[what]
    (file.parent / "mine.py").write_text(f"def policy(situation):\n    {body}\n")
    let(file, 'when = "mine.py"')
    before = standing(file)
    with pytest.raises(ProblemError, match=r"retraining\.when: policy of") as caught:
        run_cycle(file, LATER)
    assert message in str(caught.value)
    assert "--plan" in caught.value.next_step
    assert standing(file) == before


SEEING = """
import pathlib

def mine(situation):
    pathlib.Path(__file__).with_suffix(".seen").write_text(repr(situation))
    return "skip"
"""


def test_a_policy_of_a_user_sees_plain_values_of_the_past(file: Path) -> None:
    (file.parent / "mine.py").write_text(SEEING)
    let(file, 'when = "mine.py:mine"')
    result = run_cycle(file, LATER)
    assert "policy mine.py:mine chose skip: it gave no reason" in result.reason
    seen = (file.parent / "mine.seen").read_text()
    assert seen.startswith("Situation(")
    assert "<" not in seen, "no object of ours but values"


POISON = (
    "update automl_generation set realised = '{\"roc_auc\": 0.001}', labelled_rows = rows",
    "update automl_evidence set loss = 1000 where cycle > ?",
    'update automl_decision set content = \'{"attribution": {"published": 9.0, "refit": 1.0}}\' where as_of > ?',
    'update automl_cycle set receipts = \'{"plan": {"kind": "full", "rows": 1, "signature": ""}}\' where as_of > ?',
    "update automl_release set model_version = 77 where as_of > ?",
)


def test_no_policy_sees_anything_later_than_as_of(file: Path) -> None:
    as_of, (problem, workspace, _) = AS_OF - timedelta(days=4), opened(file)
    options = RunOptions(as_of=as_of, backfill=True)
    with open_job(problem, workspace, "retrain", options) as job:
        snapshot, contract = call(pull_history, job), load_contract(problem)
        assert contract is not None
        before = situation_of(job, snapshot, contract)
        assert [t.as_of for t in before.trainings] == [AS_OF - timedelta(days=7)]
        assert before.rows > 1000
        with sqlite3.connect(file.parent / ".automl" / "automl.db") as database:
            for line in POISON:
                values = (f"{as_of:%Y-%m-%d %H:%M:%S}",) if "?" in line else ()
                assert database.execute(line, values).rowcount > 0
        assert situation_of(job, snapshot, contract) == before


def test_every_policy_chooses_from_the_situation_of_a_real_cycle(file: Path) -> None:
    let(file, 'when = "on_drift"')
    problem, workspace, _ = opened(file)
    with open_job(problem, workspace, "retrain", RunOptions(as_of=LATER)) as job:
        snapshot, contract = call(pull_history, job), load_contract(problem)
        assert contract is not None
        situation = situation_of(job, snapshot, contract)
    assert [r.as_of for r in situation.realised] == [AS_OF - timedelta(days=7)]
    newest = situation.realised[0]
    assert newest.promised is not None
    assert 0 < newest.promised < 0.5
    assert newest.age == 0
    assert 0.2 < situation.since_training < 0.6  # type: ignore[operator]
    assert 0 < situation.new_rows < situation.rows
    assert min(situation.costs.values()) > 0
    assert situation.drift is not None
    assert situation.drift.state == "uncalibrated", "eight weeks are too few"
    chosen = {name: policy(situation).action for name, policy in BY_NAME.items()}
    assert chosen["on_drift"] == chosen["on_degradation"] == chosen["never"] == "skip"
    assert chosen["schedule"] == "auto"
    assert chosen["cost_aware"] in ("refit", "warm", "full"), "a training of seconds is worth it"
