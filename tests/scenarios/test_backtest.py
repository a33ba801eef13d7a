"""A backtest replays whole cycles, equals them, and touches nothing but its own folder."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from automl.backtest import Options, backtest
from automl.cycles.options import RunOptions
from automl.errors import HistoryError
from automl.problem import load_problem
from automl.score import cycle
from automl.store import Store
from automl.workspace import Workspace, open_workspace
from tests.support.commands import Launcher
from tests.support.turning import monday, write_world


def replay(file: Path, first: int, last: int, *policies: str, **more: Any) -> dict[str, Any]:
    options = Options(start=monday(first), end=monday(last), policies=policies, **more)
    return backtest(load_problem(file), open_workspace(file), options)


def scratch(document: dict[str, Any], folder: str) -> Path:
    return Path(document["folder"]) / folder


@dataclass(frozen=True, slots=True)
class Replayed:
    """A problem file, and the document of a backtest of it."""

    file: Path
    document: dict[str, Any]


@pytest.fixture(scope="module")
def replayed(tmp_path_factory: pytest.TempPathFactory) -> Replayed:
    file = write_world(tmp_path_factory.mktemp("backtest"), weeks=10)
    return Replayed(file, replay(file, 5, 8, "refit", "never"))


def test_every_policy_published_every_batch_and_was_measured_on_its_labels(
    replayed: Replayed,
) -> None:
    found = replayed.document
    assert (found["cycles"], found["batches"], found["not_run"]) == (3, 3, "")
    refit, never = found["policies"]
    assert refit["actions"] == {"full": 1, "warm": 0, "refit": 2, "skip": 0, "refused": 0}
    assert never["actions"]["skip"] == 2
    assert never["core_seconds"] == 0.0 < refit["core_seconds"] < found["first_core_seconds"]
    assert (refit["moved"], never["moved"]) == (pytest.approx(0.0, abs=0.2), 0.0)
    for name, events in found["events"].items():
        assert [e["labelled_rows"] for e in events] == [e["rows"] for e in events], name
        assert [e["loss"] for e in events] == pytest.approx(
            [rmse(replayed, name, e) for e in events]
        )


def test_the_first_cycle_runs_once_and_is_shared(replayed: Replayed) -> None:
    refit, never = replayed.document["events"].values()
    assert refit[0] == never[0]
    assert refit[1]["loss"] != never[1]["loss"]


def test_nothing_but_the_folder_of_the_backtest_and_the_run_in_mlflow_was_written(
    replayed: Replayed,
) -> None:
    home = replayed.file.parent / ".automl"
    assert {p.name for p in home.iterdir()} <= {"backtests", "mlflow.db", "mlartifacts", "locks"}
    assert {p.name for p in replayed.file.parent.iterdir()} == {
        "problem.toml",
        "rows.parquet",
        ".automl",
    }
    client = MlflowClient(f"sqlite:///{home / 'mlflow.db'}")
    run = client.get_run(replayed.document["run_id"])
    assert run.data.tags["kind"] == "backtest"
    assert run.data.metrics["refit_loss"] == pytest.approx(
        replayed.document["policies"][0]["loss"], rel=1e-4
    )
    assert not client.search_registered_models()


def test_the_same_backtest_again_runs_nothing(replayed: Replayed) -> None:
    again = replay(replayed.file, 5, 8, "refit", "never")
    for key in ("policies", "events", "recommendation"):
        assert again[key] == replayed.document[key]
    kept = json.loads((Path(again["folder"]) / "backtest.json").read_text(encoding="utf-8"))
    assert kept["policies"] == again["policies"]


def test_a_budget_that_ends_early_says_what_was_not_run(replayed: Replayed) -> None:
    from automl.problem import Span  # noqa: PLC0415  only here

    found = replay(replayed.file, 5, 8, "refit", "never", "full", budget=Span(1, "s"))
    assert "2 of full" in found["not_run"]
    assert found["batches"] == 1


def test_a_window_without_labels_is_refused(replayed: Replayed) -> None:
    with pytest.raises(
        HistoryError, match="from 2026-05-25 to 2026-06-29 no row has a label"
    ) as raised:
        replay(replayed.file, 20, 25, "refit")
    assert raised.value.exit_code == 3


def test_a_window_that_begins_before_there_is_history_is_refused(replayed: Replayed) -> None:
    with pytest.raises(HistoryError, match="the first cycle of the window, 2026-01-05") as raised:
        replay(replayed.file, 0, 3, "refit")
    assert raised.value.exit_code == 3
    assert "--from" in raised.value.next_step


def rmse(replayed: Replayed, policy: str, event: dict[str, Any]) -> float:
    """By SQL and hand, from what was published and the rows of the world."""
    import numpy as np  # noqa: PLC0415
    import pandas as pd  # noqa: PLC0415

    with closing(sqlite3.connect(scratch(replayed.document, policy) / "automl.db")) as store:
        published = pd.read_sql(
            "select row, prediction from turning_predictions_history where as_of = ?",
            store,
            params=[f"{datetime.fromisoformat(event['as_of']):%Y-%m-%d %H:%M:%S.%f}"],
        )
    rows = pd.read_parquet(replayed.file.parent / "rows.parquet")
    joined = published.merge(rows, on="row")
    assert len(joined) == event["rows"]
    return float(np.sqrt(np.mean((joined["prediction"] - joined["y"]) ** 2)))


# ------------------------------------------------------------ long proofs


@pytest.mark.slow
def test_four_cycles_by_command_and_the_same_four_replayed_are_equal(
    tmp_path: Path, launcher: Launcher
) -> None:
    file = write_world(tmp_path, weeks=11)
    weeks = range(5, 9)
    for week in weeks:
        done = launcher.run("cycle", str(file), "--as-of", f"{monday(week):%Y-%m-%d}", "--json")
        assert done.code == 0, done.err
    real = open_workspace(file)
    before = state(real)
    found = replay(file, 5, 9, "schedule")
    assert state(real) == before
    place = scratch(found, "schedule")
    replayed = Workspace(
        root=tmp_path,
        home=place,
        database_url=f"sqlite:///{place / 'automl.db'}",
        tracking_uri="",
        workers=real.workers,
    )
    assert decisions(replayed) == decisions(real)
    assert len(decisions(real)) == 4
    assert published(replayed) == published(real)
    assert len(published(real)) > 300


@pytest.mark.slow
def test_a_change_of_concept_turns_the_ranking_of_policies(tmp_path: Path) -> None:
    policies, found = ("full", "refit", "never", "on_degradation"), {}
    for name, turns in (("steady", None), ("turned", 8)):
        (tmp_path / name).mkdir()
        found[name] = replay(write_world(tmp_path / name, weeks=16, turns=turns), 6, 14, *policies)
    steady, turned = ({r["policy"]: r for r in d["policies"]} for d in found.values())
    # without a change training earns nothing, and waiting for a reason to train is as good and cheapest;
    # with one, the more a policy trains the lower its loss
    assert all(row["regret"] < 0.01 * row["loss"] for row in steady.values())
    assert cheapest(steady) == "on_degradation"
    losses = [turned[name]["loss"] for name in ("refit", "on_degradation", "never")]
    assert losses == sorted(losses)
    assert turned["never"]["regret"] > 0.15 * turned["full"]["loss"]
    assert cheapest(turned) == "refit"
    trained = [e["as_of"] for e in found["turned"]["events"]["on_degradation"][1:]]
    acted = [e["action"] for e in found["turned"]["events"]["on_degradation"][1:]]
    first = next(at for at, action in zip(trained, acted, strict=True) if action != "skip")
    assert monday(9).isoformat() <= first <= monday(10).isoformat(), "within two weeks of labels"


def cheapest(rows: dict[str, dict[str, Any]]) -> str:
    """The cheapest policy that trains at all, of those within 1 % of the best loss."""
    near = [r for r in rows.values() if r["regret"] <= 0.01 * r["loss"] and r["policy"] != "never"]
    return str(min(near, key=lambda r: r["core_seconds"])["policy"])


@pytest.mark.slow
def test_a_killed_backtest_continues_and_ends_as_if_it_had_not_been(tmp_path: Path) -> None:
    documents = []
    for name, kills in (("killed", (1, 3)), ("whole", ())):
        (tmp_path / name).mkdir()
        file = write_world(tmp_path / name, weeks=10)
        words = [sys.executable, "-m", "automl.cli", "backtest", str(file), "--json"]
        words += ["--from", f"{monday(5):%Y-%m-%d}", "--to", f"{monday(8):%Y-%m-%d}"]
        words += ["--policies", "full,refit"]
        for events in kills:
            started = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            while len(list(tmp_path.glob(f"{name}/.automl/backtests/*/*/events/*"))) < events:
                assert started.poll() is None
                time.sleep(0.05)
            started.kill()
            started.wait()
        done = subprocess.run(words, check=True, capture_output=True, text=True)
        documents.append(json.loads(done.stdout))
    killed, whole = documents
    for name, events in whole["events"].items():
        for one, other in zip(killed["events"][name], events, strict=True):
            assert one["loss"] == other["loss"]
            assert one["outcome"] == other["outcome"]
    assert killed["recommendation"]["policy"] == whole["recommendation"]["policy"]


@pytest.mark.slow
def test_policies_replayed_at_once_end_as_those_one_after_the_other(tmp_path: Path) -> None:
    found = []
    for workers in (1, 2):
        (tmp_path / str(workers)).mkdir()
        file = write_world(tmp_path / str(workers), weeks=10)
        found.append(replay(file, 5, 8, "refit", "never", workers=workers))
    one, two = ([[e["loss"] for e in events] for events in d["events"].values()] for d in found)
    assert one == two


@pytest.mark.slow
def test_rows_that_change_later_are_replayed_as_they_were_where_that_was_kept(
    tmp_path: Path,
) -> None:
    import pandas as pd  # noqa: PLC0415

    file = write_world(tmp_path, weeks=10)
    rows = pd.read_parquet(tmp_path / "rows.parquet")
    rows["changed"] = rows["at"] - pd.Timedelta(days=60)  # planned long before
    rows.to_parquet(tmp_path / "rows.parquet", index=False)
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace('target = "y"', 'target = "y"\nupdated_at = "changed"'), "utf-8")
    problem, real = load_problem(file), open_workspace(file)
    cycle(problem, real, RunOptions(as_of=monday(5)))
    first = Store(real).find_cycle(problem.name, "retrain", monday(5))
    assert first is not None
    # since then, the oldest rows were corrected
    old = rows["at"] < monday(2).replace(tzinfo=None)
    rows.loc[old, "y"] += 4.0
    rows.loc[old, "changed"] = monday(9).replace(tzinfo=None)
    rows.to_parquet(tmp_path / "rows.parquet", index=False)
    found = replay(file, 5, 7, "refit")
    events = found["events"]["refit"]
    assert [e["as_known_then"] for e in events] == [True, False]
    assert events[0]["loss"] < 1.2 < events[1]["loss"], "the second cycle learns what came later"
    assert "as known today" in found["as_known"]
    assert "the history of 1 of 2 cycles is as it was then" in found["as_known"]


def state(workspace: Workspace) -> list[Any]:
    with closing(sqlite3.connect(workspace.home / "automl.db")) as store:
        tables = [r[0] for r in store.execute("select name from sqlite_master where type='table'")]
        return [(t, store.execute(f'select * from "{t}"').fetchall()) for t in sorted(tables)]


def decisions(workspace: Workspace) -> list[Any]:
    found = reversed(Store(workspace).decisions("turning"))
    return [(d.as_of, d.outcome, d.reason, d.content.get("verdicts")) for d in found]


def published(workspace: Workspace) -> list[Any]:
    query = "select row, as_of, prediction from turning_predictions_history order by as_of, row"
    with closing(sqlite3.connect(workspace.home / "automl.db")) as store:
        return store.execute(query).fetchall()


@pytest.mark.slow
def test_policies_that_raise_or_hang_are_named_and_the_others_go_on(tmp_path: Path) -> None:
    file = write_world(tmp_path, weeks=8)
    raising, hanging = tmp_path / "raising.py", tmp_path / "hanging.py"
    raising.write_text("def policy(situation):\n    raise KeyError('no idea')\n", "utf-8")
    hanging.write_text("def policy(situation):\n    while True:\n        pass\n", "utf-8")
    found = replay(file, 4, 7, "refit", str(raising), str(hanging))
    failed = dict(zip(("raising", "hanging"), sorted(found["failed"], reverse=True), strict=True))
    assert "failed: KeyError: 'no idea'" in found["failed"][failed["raising"]]
    assert "failed: no result after 60" in found["failed"][failed["hanging"]]
    refit = next(row for row in found["policies"] if row["policy"] == "refit")
    assert refit["actions"] == {"full": 1, "warm": 0, "refit": 2, "skip": 0, "refused": 0}
    assert found["batches"] == 3
