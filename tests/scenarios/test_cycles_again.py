"""Cycles run again: with the same seed, after a kill, and on the fit cache of the last cycle."""

from __future__ import annotations

import json
import sqlite3
import textwrap
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

from automl.store import Store
from automl.workspace import open_workspace
from tests.support.commands import Launcher
from tests.support.parcels import AS_OF, make_world, write_problem
from tests.support.workspaces import rows, run_cycle

WEEK = timedelta(days=7)
SLOW_FAMILY = '''
"""Slow: a logistic regression that takes its time and keeps a diary."""
import os, time
from automl import Family


def space(trial, shape):
    return {"C": trial.suggest_float("C", 1e-3, 1e2, log=True)}


def build(params, shape, seed):
    from sklearn.linear_model import LogisticRegression

    with open(os.environ["DIARY"], "a") as diary:
        diary.write(f"{params['C']}\\n")
    time.sleep(0.4)
    return LogisticRegression(C=params["C"])


family = Family(name="slow", short="slow", tasks={"binary"}, encoding="dense", start=[(1, {"C": 1.0})],
                space=space, build=build)
'''


def test_two_runs_of_n_trials_agree_to_the_last_bit(tmp_path: Path) -> None:
    outcomes = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        file = write_problem(
            tmp_path / name,
            replace={
                "trials   = 4": "trials   = 14",
                '["baseline", "linear"]': '["baseline", "linear", "lightgbm"]',
            },
        )
        result = run_cycle(file, AS_OF)
        assert result.leaderboard is not None
        outcomes.append([(t.recipe.id, t.status, t.losses) for t in result.leaderboard.trials])
        outcomes.append(rows(file, "select fingerprint from automl_release"))
        outcomes.append(rows(file, "select parcel, probability from parcels"))
    assert outcomes[:3] == outcomes[3:]


def test_a_killed_sweep_resumes_with_its_finished_trials(
    tmp_path: Path, launcher: Launcher
) -> None:
    (tmp_path / "slow.py").write_text(textwrap.dedent(SLOW_FAMILY), encoding="utf-8")
    file = write_problem(
        tmp_path,
        replace={
            '["baseline", "linear"]': '["baseline", "slow.py"]',
            "trials   = 4": "trials   = 10",
        },
    )
    diary = tmp_path / "diary.txt"
    diary.touch()
    command = ("cycle", str(file), "--as-of", f"{AS_OF:%Y-%m-%d}", "--json")
    environment: Any = {"at": tmp_path, "DIARY": str(diary), "AUTOML_WORKERS": "1"}
    running = launcher.start(*command, **environment)
    database = tmp_path / ".automl/automl.db"
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline and not (database.exists() and _finished(database) >= 4):
        time.sleep(0.1)
    running.kill()
    running.wait()
    finished = _finished(database)
    assert 4 <= finished < 10
    before = len(diary.read_text(encoding="utf-8").splitlines())
    again = launcher.run(*command, **environment)
    assert again.code == 0, again.err
    document = again.document
    assert document["status"] == "published"
    assert len(document["leaderboard"]["trials"]) == 10
    built = [float(line) for line in diary.read_text(encoding="utf-8").splitlines()[before:]]
    done = {
        json.loads(content)["recipe"]["params"].get("C")
        for (content,) in rows(file, "select content from automl_trial")
    }
    assert len([c for c in built if c in done]) <= 2 * (10 - finished) + 3, (
        "finished trials were fitted again"
    )
    assert rows(file, "select count(*), count(distinct generation) from parcels") == [
        (document["rows"], 1)
    ]
    assert rows(file, "select count(*) from automl_generation where state = 'published'") == [(1,)]


def _finished(database: Path) -> int:
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as connection:
        try:
            return int(connection.execute("select count(*) from automl_trial").fetchone()[0])
        except sqlite3.OperationalError:
            return 0


def test_a_champion_whose_family_is_no_longer_offered_is_replaced_even_in_a_refit(
    tmp_path: Path,
) -> None:
    file = write_problem(tmp_path, frame=make_world())
    assert run_cycle(file, AS_OF - WEEK).status == "published"
    write_problem(tmp_path, replace={'["baseline", "linear"]': '["baseline", "lightgbm"]'})
    done = run_cycle(file, AS_OF, plan="refit")
    assert done.status == "published"
    assert done.leaderboard is not None
    assert {t.recipe.family for t in done.leaderboard.trials} == {"baseline", "lightgbm"}
    assert "instead of a champion whose family is no longer offered" in done.reason
    assert rows(file, "select outcome from automl_decision order by id") == [
        ("first",),
        ("promote",),
    ]


def test_a_mere_refit_is_compared_with_the_constant_baseline_in_the_units_of_its_metric(
    tmp_path: Path,
) -> None:
    edits = {'label_delay = "1d"\n': ""}
    file = write_problem(tmp_path, "regression", replace=edits, frame=make_world())
    run_cycle(file, AS_OF - WEEK)
    done = run_cycle(file, AS_OF, plan="refit")
    assert done.status == "published"
    assert done.leaderboard is not None
    assert not done.leaderboard.trials
    ((loss, baseline),) = rows(
        file,
        f"select loss, baseline_loss from automl_evidence where cycle >= '{AS_OF:%Y-%m-%d}' limit 1",
    )
    assert 1 < loss < baseline


def test_a_mere_refit_estimates_its_weights_from_predictions_of_cached_fits(tmp_path: Path) -> None:
    edits = {"trials   = 4": "trials   = 8", 'label_delay = "1d"\n': ""}
    file = write_problem(tmp_path, replace=edits, frame=make_world())
    run_cycle(file, AS_OF - WEEK)
    run_cycle(file, AS_OF, plan="refit")
    before, after = (r.blend for r in Store(open_workspace(file)).releases("parcels"))
    assert before.id == after.id
    assert len(before.members) > 1
    assert [m.weight for m in before.members] != [m.weight for m in after.members]


def test_the_next_cycle_scores_cached_fits_before_it_fits_anything(tmp_path: Path) -> None:
    edits = {"trials   = 4": "trials   = 8", 'label_delay = "1d"\n': ""}
    file = write_problem(tmp_path, replace=edits, frame=make_world())
    first = run_cycle(file, AS_OF - WEEK)
    fit_cache = tmp_path / ".automl" / "fit_cache" / "parcels"
    cached = {f.stem for f in fit_cache.glob("*.pickle")}
    assert first.leaderboard is not None
    assert cached
    second = run_cycle(file, AS_OF)
    assert second.leaderboard is not None
    carried = [t for t in second.leaderboard.trials if t.source == "carried"]
    assert carried
    assert all(
        t.seconds == 0 for t in carried
    )  # the newest block by the cached fit, the other by its cached prediction
    assert {t.recipe.id for t in carried} <= cached
    store = Store(open_workspace(file))
    losses = [e for e in store.evidence("parcels") if e.cycle == AS_OF]
    assert any(e.kind == "out_of_sample" for e in losses)
