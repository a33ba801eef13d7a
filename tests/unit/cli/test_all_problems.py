"""`automl status` of a folder: a line per problem, and an exit code that cron can use."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from automl.cli.all_problems import status_of_all
from automl.cli.app import app
from automl.cli.show import status  # noqa: F401  importing it registers the command
from automl.errors import ProblemError
from automl.problem import Problem
from automl.store import Store, close_alert, open_alert, open_alerts
from automl.workspace import now, open_workspace

DAILY = '\n[schedule]\nretrain = "0 0 * * *"\n'


@pytest.fixture
def problem(make_problem: Callable[..., Problem]) -> Problem:
    """A problem with a daily schedule, written just now."""
    found = make_problem()
    found.file.write_text(found.file.read_text("utf-8") + DAILY, encoding="utf-8")
    return found


def store_of(problem: Problem) -> Store:
    return Store(open_workspace(problem.file))


def age(problem: Problem, days: int) -> None:
    """The problem file was written so many days ago."""
    at = (now() - timedelta(days=days)).timestamp()
    os.utime(problem.file, (at, at))


def looked(
    problem: Problem, capsys: pytest.CaptureFixture[str], *, alerting: bool = True
) -> tuple[int, dict]:
    code = status_of_all([problem.file.parent], as_json=True, alerting=alerting)
    return code, json.loads(capsys.readouterr().out)


def test_exit_code_0_while_cycles_end_and_no_alert_is_open(
    problem: Problem, capsys: pytest.CaptureFixture[str]
) -> None:
    code, document = looked(problem, capsys)
    assert (code, document["late"], document["alerts"], document["schema"]) == (0, 0, 0, 1)
    assert [p["problem"] for p in document["problems"]] == ["parcels"]


def test_exit_code_1_when_nothing_has_ended_for_two_slots_and_0_when_a_cycle_ends(
    problem: Problem, capsys: pytest.CaptureFixture[str]
) -> None:
    age(problem, 3)
    code, document = looked(problem, capsys)
    assert (code, document["late"]) == (1, 1)
    assert "no retrain has ended for 2 slots" in document["problems"][0]["late"]
    store = store_of(problem)
    assert [a.kind for a in open_alerts(store, "parcels")] == ["late"]
    midnight = now().replace(hour=0, minute=0, second=0, microsecond=0)
    cycle = store.open_cycle("parcels", "retrain", midnight, 1, problem.digest)
    store.end_cycle(cycle, "kept", "it was kept")
    code, document = looked(problem, capsys)
    assert (code, document["late"], open_alerts(store, "parcels")) == (0, 0, [])


def test_exit_code_1_while_an_alert_is_open(
    problem: Problem, capsys: pytest.CaptureFixture[str]
) -> None:
    store = store_of(problem)
    open_alert(store, "parcels", "drift", "parcels: inputs have moved", "text")
    code, document = looked(problem, capsys)
    assert (code, document["late"], document["alerts"]) == (1, 0, 1)
    assert document["problems"][0]["alerts"] == ["parcels: inputs have moved"]
    close_alert(store, "parcels", "drift")
    assert looked(problem, capsys)[0] == 0


def test_looking_at_a_folder_opens_no_alert(
    problem: Problem, capsys: pytest.CaptureFixture[str]
) -> None:
    age(problem, 3)
    assert looked(problem, capsys, alerting=False)[0] == 1
    assert open_alerts(store_of(problem), "parcels") == []


def test_a_problem_that_cannot_be_read_is_a_line_of_its_own(
    problem: Problem, capsys: pytest.CaptureFixture[str]
) -> None:
    (problem.file.parent / "broken.toml").write_text("[history]\n[metric]\nname = 1", "utf-8")
    code, document = looked(problem, capsys)
    assert code == 1
    assert [p["problem"] for p in document["problems"]] == ["broken.toml", "parcels"]


def test_a_folder_without_a_problem_is_wrong_usage(tmp_path: Path) -> None:
    with pytest.raises(ProblemError, match="found no problem file") as caught:
        status_of_all([tmp_path], as_json=False, alerting=False)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("typed", "shown"),
    [([], "champion"), (["problem.toml"], "champion"), (["."], "ok"), (["--all"], "ok")],
    ids=lambda typed: " ".join(typed) if isinstance(typed, list) else "",
)
def test_a_folder_or_nothing_names_the_problems_in_it(
    problem: Problem,
    typed: list[str],
    shown: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(problem.file.parent)
    assert app(["status", *typed], result_action="return_value") == 0
    out = capsys.readouterr().out
    assert out.split()[0 if shown == "ok" else 1] == shown
    assert "parcels" in out
