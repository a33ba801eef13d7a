"""Trials as MLflow runs: logged while the sweep runs, with their final roles."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from mlflow.exceptions import MlflowException

from automl.modeling.families import load_families
from automl.modeling.recipes import Recipe
from automl.problem import load_problem
from automl.sweep import Trial
from automl.tracking import Registry, trials
from automl.workspace import open_workspace
from tests.support.parcels import write_problem

TRIALS = [
    Trial(
        number=number,
        recipe=Recipe("linear", {"C": c}, 0),
        source="search",
        status="complete",
        losses=(0.2, 0.3),
        scores=(0.8, 0.7),
    )
    for number, c in enumerate([0.1, 1.0, 10.0])
]


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    """One for all tests: each opens a cycle of its own."""
    file = write_problem(tmp_path_factory.mktemp("tracked"))
    return Registry(load_problem(file), open_workspace(file))


def runs_of(registry: Registry, parent: str) -> dict[str, dict[str, str]]:
    """Tags of a cycle's trials, by recipe."""
    found: list[Any] = registry.client.search_runs(
        [registry.experiment], f"tags.`mlflow.parentRunId` = '{parent}'"
    )
    tags = {run.data.tags["recipe"]: run.data.tags for run in found}
    assert len(tags) == len(found), "each trial is one run"
    return tags


def test_trials_logged_during_the_sweep_are_not_logged_again_and_have_their_last_role(
    registry: Registry,
) -> None:
    first, second, third = (t.recipe.id for t in TRIALS)
    families = load_families(("linear",), registry.problem.file.parent)
    parent = registry.open_cycle("2026-01-05", {}, {})
    with registry.logging_trials(parent, "2026-01-05", families) as log:
        for trial in TRIALS[:2]:
            log(trial)
        log.drain()
        assert set(runs_of(registry, parent)) == {first, second}, "no request is under way"
        log(TRIALS[0], "chosen")
        log(TRIALS[1], "waits")
    begun = runs_of(registry, parent)
    assert {r: tags["role"] for r, tags in begun.items()} == {first: "chosen", second: "waits"}
    registry.log_trials(parent, "2026-01-05", TRIALS, families, {first: "chosen", third: "chosen"})
    tags = runs_of(registry, parent)
    assert [tags[r].get("role") for r in (first, second, third)] == ["chosen", None, "chosen"]


def test_trials_that_could_not_be_logged_during_the_sweep_are_logged_after_it(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    families = load_families(("linear",), registry.problem.file.parent)
    parent = registry.open_cycle("2026-01-05", {}, {})

    def out_of_reach(*_: Any, **__: Any) -> None:
        raise MlflowException("the server does not answer")

    with monkeypatch.context() as broken:
        broken.setattr(registry.client, "create_run", out_of_reach)
        with registry.logging_trials(parent, "2026-01-05", families) as log:
            log(TRIALS[0])
            log(TRIALS[0], "chosen")
    assert not runs_of(registry, parent)
    registry.log_trials(parent, "2026-01-05", TRIALS, families, {TRIALS[0].recipe.id: "chosen"})
    assert runs_of(registry, parent)[TRIALS[0].recipe.id]["role"] == "chosen"


def test_an_unreachable_server_delays_the_end_of_a_sweep_only_shortly(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(trials, "DRAIN", 0.05)
    reachable, logged = threading.Event(), list[Trial]()

    def write(trial: Trial, _role: str) -> None:
        reachable.wait(60)
        logged.append(trial)

    with ThreadPoolExecutor(max_workers=1) as pool:
        log = trials.TrialLog(pool, write)
        log(TRIALS[0])
        log.drain()
        assert (logged, 0.04 < log.waited < 30) == ([], True)
        reachable.set()
    assert logged == [TRIALS[0]], "it is logged later"


def test_a_trial_that_did_not_predict_in_this_cycle_has_no_prediction_time(
    registry: Registry,
) -> None:
    families = load_families(("linear",), registry.problem.file.parent)
    parent = registry.open_cycle("2026-01-05", {}, {})
    runs = registry.log_trials(
        parent, "2026-01-05", [TRIALS[0], replace(TRIALS[1], seconds_predict=0.002)], families, {}
    )
    cached, fitted = (registry.client.get_run(run).data.metrics for run in runs.values())
    assert "pred_ms_1k" not in cached
    assert fitted["pred_ms_1k"] == 2


def test_a_score_of_fewer_blocks_has_another_name_than_one_of_all(registry: Registry) -> None:
    pruned = replace(TRIALS[0], status="pruned", losses=(0.1,), scores=(0.9,), reason="behind")
    families = load_families(("linear",), registry.problem.file.parent)
    parent = registry.open_cycle("2026-01-05", {}, {})

    runs = registry.log_trials(parent, "2026-01-05", [pruned, TRIALS[1]], families, {})

    few, all_of_them = (
        registry.client.get_run(runs[t.recipe.id]).data.metrics for t in (pruned, TRIALS[1])
    )
    assert (few["n_blocks"], few["partial_roc_auc"]) == (1, 0.9)
    assert not {name for name in few if name.startswith("cv_")}
    assert (all_of_them["n_blocks"], "partial_roc_auc" in all_of_them) == (2, False)
    assert all_of_them["cv_roc_auc"] == pytest.approx(0.75405)
