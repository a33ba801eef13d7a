"""Whole cycles on a real store, a real MLflow and real processes."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
import zlib
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest

from automl.cycles.options import RunOptions
from automl.cycles.result import CycleResult
from automl.errors import DigestError, HistoryError, NoModelError, ProblemError
from automl.predictions import read_predictions
from automl.problem import load_problem
from automl.retrain import retrain
from automl.score import score
from automl.store import Store
from automl.workspace import open_workspace
from tests.support.parcels import AS_OF, make_world, write_problem
from tests.support.workspaces import rows, run_cycle

WEEK = timedelta(days=7)
ROOT = Path(__file__).parents[2]

WITHOUT_AUTOML = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("automl", "flows", "search_spaces"):
            raise ImportError(name + " is not installed here")
sys.meta_path.insert(0, Blocked())
import mlflow, pandas as pd, numpy as np, os
mlflow.set_tracking_uri(sys.argv[1])
model = mlflow.sklearn.load_model("models:/parcels@champion")
batch = pd.read_parquet(sys.argv[2])
np.save(sys.argv[3], model.predict_proba(batch) if hasattr(model, "predict_proba") else model.predict(batch))
assert "automl" not in sys.modules
"""


@pytest.fixture(scope="module")
def two_cycles(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[CycleResult]]:
    """A folder in which two weekly cycles have run."""
    folder = tmp_path_factory.mktemp("cycles")
    file = write_problem(
        folder,
        replace={
            "trials   = 4": 'trials   = 6\nbudget = "60s"',
            "[validation]": '[publish]\nparquet = "out"\n\n[validation]',
        },
        frame=make_world(),
    )
    return file, [run_cycle(file, AS_OF - WEEK), run_cycle(file, AS_OF)]


def test_the_table_is_one_complete_stamped_generation(
    two_cycles: tuple[Path, list[CycleResult]],
) -> None:
    file, results = two_cycles
    batch = make_world().query(
        "sent_at >= @start and sent_at < @end",
        local_dict={
            "start": AS_OF.replace(tzinfo=None),
            "end": (AS_OF + WEEK).replace(tzinfo=None),
        },
    )
    assert rows(file, "select count(*), count(distinct generation) from parcels") == [
        (len(batch), 1)
    ]
    stamps = ["generation", "model_version", "run_id", "as_of", "scored_at"]
    empty = " or ".join(f"{name} is null" for name in stamps)
    assert rows(file, f"select count(*) from parcels where {empty}") == [(0,)]
    assert rows(file, "select distinct generation, model_version, run_id from parcels") == [
        (results[1].generation, results[1].model_version, results[1].run_id)
    ]
    copy = read_predictions(file.parent / "out")
    table = pd.DataFrame(
        rows(file, "select parcel, probability from parcels"), columns=["parcel", "probability"]
    )
    assert (
        copy.set_index("parcel")["probability"].to_dict()
        == table.set_index("parcel")["probability"].to_dict()
    )


def test_the_same_command_again_changes_nothing(two_cycles: tuple[Path, list[CycleResult]]) -> None:
    file, results = two_cycles
    before = (
        rows(file, "select * from automl_generation"),
        rows(file, "select * from automl_release"),
    )
    again = run_cycle(file, AS_OF)
    assert again.already
    assert (again.model_version, again.generation) == (
        results[1].model_version,
        results[1].generation,
    )
    assert score(load_problem(file), open_workspace(file), RunOptions(as_of=AS_OF)).already
    assert (
        rows(file, "select * from automl_generation"),
        rows(file, "select * from automl_release"),
    ) == before


@pytest.mark.parametrize(("module", "command"), [("retrain", retrain), ("score", score)])
def test_a_cycle_that_another_run_ends_before_the_lock_is_reported_as_ended(
    two_cycles: tuple[Path, list[CycleResult]],
    module: str,
    command: Callable[..., CycleResult],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file, results = two_cycles
    before = rows(file, "select count(*) from automl_cycle")
    monkeypatch.setattr(f"automl.{module}.pipeline.finished", lambda *_: None)
    again = command(load_problem(file), open_workspace(file), RunOptions(as_of=AS_OF))
    assert (again.already, again.status) == (True, "published")
    assert again.generation == results[1].generation
    assert rows(file, "select count(*) from automl_cycle") == before


def test_a_process_without_automl_reproduces_the_published_probabilities(
    two_cycles: tuple[Path, list[CycleResult]], tmp_path: Path
) -> None:
    file, _ = two_cycles
    manifests = sorted(
        (file.parent / ".automl/history/parcels/batches").glob("*.json"), key=os.path.getmtime
    )
    part = json.loads(manifests[-1].read_text(encoding="utf-8"))["parts"][0]["name"]
    batch_file = file.parent / f".automl/history/parcels/parts/{part}.parquet"
    out = tmp_path / "out.npy"
    uri = f"sqlite:///{file.parent / '.automl/mlflow.db'}"
    subprocess.run(
        [sys.executable, "-c", WITHOUT_AUTOML, uri, str(batch_file), str(out)],
        check=True,
        cwd=tmp_path,
        capture_output=True,
    )
    published = dict(rows(file, "select parcel, probability from parcels"))
    batch = pd.read_parquet(batch_file)
    assert np.load(out)[:, 1].tolist() == [published[key] for key in batch["parcel"]]


def test_published_predictions_are_scored_on_the_labels_that_arrived(
    two_cycles: tuple[Path, list[CycleResult]],
) -> None:
    file, _ = two_cycles
    first, second = rows(
        file,
        "select id, rows, labelled_rows, realised from automl_generation "
        "where state = 'published' order by id",
    )
    assert second[2] == 0
    predicted = pd.DataFrame(
        rows(
            file,
            f"select parcel, probability from parcels_generations where generation = {first[0]}",
        ),
        columns=["parcel", "probability"],
    )
    known = make_world().query(
        "sent_at < @end", local_dict={"end": (AS_OF - timedelta(days=1)).replace(tzinfo=None)}
    )
    joined = predicted.merge(known)
    assert (
        first[2] == len(joined) == 6 * 36
    )  # six of the batch's seven days, a parcel every 40 minutes
    better = [
        (p > q) + 0.5 * (p == q)
        for p in joined.query("late == 1")["probability"]
        for q in joined.query("late == 0")["probability"]
    ]
    assert json.loads(first[3])["roc_auc"] == pytest.approx(np.mean(better))


def first_live(file: Path) -> float:
    """The realised score of the first generation."""
    [(scores,)] = rows(file, "select realised from automl_generation where labelled_rows > 0")
    return float(json.loads(scores)["roc_auc"])


def test_mlflow_shows_the_run_tree_the_aliases_and_the_views(
    two_cycles: tuple[Path, list[CycleResult]],
) -> None:
    file, results = two_cycles
    uri = f"sqlite:///{file.parent / '.automl/mlflow.db'}"
    client = mlflow.MlflowClient(uri, registry_uri=uri)
    experiment = client.get_experiment_by_name("parcels")
    assert experiment is not None
    parents = client.search_runs([experiment.experiment_id], "tags.kind = 'cycle'")
    assert [p.info.status for p in parents] == ["FINISHED"] * 2
    newest = client.get_run(results[1].run_id)
    children = client.search_runs(
        [experiment.experiment_id], f"tags.`mlflow.parentRunId` = '{results[1].run_id}'"
    )
    assert results[1].leaderboard is not None
    assert len(children) == len(results[1].leaderboard.trials) == newest.data.metrics["n_trials"]
    assert not {k for c in children for k in c.data.metrics} & set(newest.data.metrics)
    note = newest.data.tags["mlflow.note.content"].splitlines()
    assert note[0].startswith(("**✔", "**–"))
    assert note[-1].startswith("undo: `automl rollback")
    assert len(note) == 4, "MLflow folds what is longer"
    assert all(len(line) < 115 for line in (note[0], note[1], note[3])), (
        "one line each at 1440 pixels"
    )
    assert {"mlflow.sharedViewState.decisions", "mlflow.sharedViewState.leaderboard"} <= set(
        experiment.tags
    )
    packed = json.loads(experiment.tags["mlflow.sharedViewState.decisions"])["state"]
    view = json.loads(zlib.decompress(base64.b64decode(packed.partition(";")[2])))
    assert set(view["columnWidths"]) == set(view["selectedColumns"]), "MLflow's 100 cut the names"
    shown = {name.split("`")[1] for name in view["selectedColumns"] if name.startswith("metrics")}
    assert results[1].decision is not None
    of_challengers = set() if results[1].decision.verdicts else {"gain_pct", "p_better"}
    assert shown - {"live_roc_auc"} - of_challengers <= set(newest.data.metrics), (
        "the newest cycle has no labels yet"
    )
    roles = [c.data.tags.get("role") for c in children]
    assert roles.count("chosen") >= 1
    shares = [int(x) for x in re.findall(r"(\d+)%", newest.data.tags["winner"])]
    assert sum(shares) == 100 or newest.data.tags["winner"] in {"linear", "baseline"}
    assert newest.data.tags["winner"] in note[0]
    logged_digest = newest.inputs.dataset_inputs[0].dataset.digest
    receipts = rows(
        file,
        "select json_extract(receipts, '$.snapshot.digest') from automl_cycle where verb = 'retrain'",
    )
    assert logged_digest in {digest[:36] for (digest,) in receipts}
    model = client.get_registered_model("parcels")
    assert {k: int(v) for k, v in model.aliases.items()} == {
        "champion": results[1].model_version,
        "previous": results[0].model_version,
    }
    version = client.get_model_version("parcels", str(results[0].model_version))
    logged = client.get_logged_model(version.tags["model_id"])
    assert "live_roc_auc" in {m.key for m in logged.metrics}
    days = client.get_metric_history(results[1].run_id, "over_cycles/live_loss")
    assert [(m.step, m.value) for m in days] == [
        (int((AS_OF - WEEK).timestamp() // 86400), pytest.approx(1 - first_live(file), abs=1e-4))
    ]
    live = client.get_model_version("parcels", str(results[1].model_version))
    assert 0.5 < float(live.tags["cv_roc_auc"]) < 1
    assert re.fullmatch(r"\d blocks(, \d out-of-sample)?", live.tags["evidence"])
    assert f"/runs/{results[1].run_id})" in live.description
    for path in (file.parent / ".automl/mlartifacts").rglob("*"):
        assert path.suffix not in (".parquet", ".csv"), "no row of data is an artifact"


def test_a_poisoned_future_changes_no_byte(
    two_cycles: tuple[Path, list[CycleResult]], tmp_path: Path
) -> None:
    clean_file, _ = two_cycles
    world = make_world()
    at = AS_OF.replace(tzinfo=None)
    unknown = world["sent_at"] >= at - timedelta(days=1)  # the label delay
    poisoned = world.assign(
        late=world["late"].astype("object").mask(unknown, "POISON"),
        arrived_after=world["arrived_after"].astype("object").mask(world.index % 3 == 0, "POISON"),
    )
    later = poisoned["sent_at"] >= at + WEEK
    poisoned = poisoned.assign(
        weight=poisoned["weight"].astype("object").mask(later, "POISON"),
        carrier=poisoned["carrier"].mask(later, None),
    )
    file = write_problem(
        tmp_path,
        replace={
            "trials   = 4": 'trials   = 6\nbudget = "60s"',
            "[validation]": '[publish]\nparquet = "out"\n\n[validation]',
        },
        frame=poisoned,
    )
    run_cycle(file, AS_OF - WEEK)
    run_cycle(file, AS_OF)
    for query in (
        "select json_extract(receipts, '$.snapshot.digest') from automl_cycle where verb = 'retrain'",
        "select outcome, reason, json_remove(content, '$.sweep') from automl_decision",
        "select fingerprint, blend from automl_release",
        "select batch, rows from automl_generation",
        "select parcel, prediction, probability, model_version, as_of from parcels_generations",
    ):
        assert rows(file, query) == rows(clean_file, query)


@pytest.mark.parametrize("task", ["multiclass", pytest.param("regression", marks=pytest.mark.slow)])
def test_other_tasks_publish_predictions_of_their_kind(task: str, tmp_path: Path) -> None:
    file = write_problem(
        tmp_path, task, replace={'["baseline", "linear"]': '["baseline", "linear", "lightgbm"]'}
    )
    result = run_cycle(file, AS_OF)
    columns = [c[1] for c in rows(file, "pragma table_info(parcels)")]
    assert rows(file, "select count(*) from parcels") == [(result.rows,)]
    if task == "multiclass":
        assert rows(file, "select count(*), count(distinct class) from parcels_classes") == [
            (3 * result.rows, 3)
        ]
        sums = [
            s for (s,) in rows(file, "select sum(probability) from parcels_classes group by parcel")
        ]
        assert np.allclose(sums, 1)
        best = dict(
            rows(file, "select parcel, max(probability) from parcels_classes group by parcel")
        )
        assert best == dict(rows(file, "select parcel, probability from parcels"))
    else:
        assert "probability" not in columns
        assert result.decision is not None
    outside = rows(file, "select count(*) from automl_generation where state = 'published'")
    assert outside == [(1,)]


def test_retrain_alone_releases_and_score_publishes_later(tmp_path: Path) -> None:
    file = write_problem(tmp_path)
    problem, workspace = load_problem(file), open_workspace(file)
    with pytest.raises(NoModelError, match="no model was released"):
        score(problem, workspace, RunOptions(as_of=AS_OF))
    released = retrain(problem, workspace, RunOptions(as_of=AS_OF))
    assert (released.status, released.generation) == ("released", None)
    assert Store(workspace).live("parcels") is None
    published = run_cycle(file, AS_OF)  # `cycle` after `retrain`: only the scoring is missing
    assert (published.status, published.model_version) == ("published", released.model_version)
    later = score(problem, workspace, RunOptions(as_of=AS_OF + timedelta(days=1)))
    assert later.model_version == released.model_version
    assert rows(file, "select count(distinct generation), max(generation) from parcels") == [
        (1, later.generation)
    ]


def test_a_changed_problem_file_needs_again_and_a_reason(tmp_path: Path) -> None:
    file = write_problem(tmp_path)
    first = run_cycle(file, AS_OF)
    file.write_text(
        file.read_text(encoding="utf-8").replace("seed     = 3", "seed     = 4"), encoding="utf-8"
    )
    with pytest.raises(ProblemError, match="has changed since"):
        run_cycle(file, AS_OF)
    with pytest.raises(ProblemError, match="--again needs --reason"):
        run_cycle(file, AS_OF, again=True)
    second = run_cycle(file, AS_OF, again=True, reason="another seed")
    assert second.generation != first.generation
    assert rows(file, "select attempt from automl_decision order by id") == [(1,), (2,)]
    assert rows(file, "select distinct generation from parcels") == [(second.generation,)]
    with pytest.raises(ProblemError, match="earlier than the newest cycle"):
        run_cycle(file, AS_OF - WEEK)
    run_cycle(file, AS_OF - WEEK, backfill=True)
    assert rows(file, "select distinct generation from parcels") == [(second.generation,)], (
        "a backfill is never live"
    )


def test_a_cycle_after_an_older_retraining_scores_it_if_asked_to_fill_in(tmp_path: Path) -> None:
    file = write_problem(tmp_path, replace={"trials   = 4": "trials   = 2"})
    problem, workspace = load_problem(file), open_workspace(file)
    retrain(problem, workspace, RunOptions(as_of=AS_OF - WEEK))
    generations = "select as_of from automl_generation where state <> 'staged' order by as_of"
    assert run_cycle(file, AS_OF - WEEK, dry_run=True).status == "released"
    assert rows(file, generations) == [], "a dry run publishes nothing"
    newest = score(problem, workspace, RunOptions(as_of=AS_OF))
    with pytest.raises(ProblemError, match="earlier than the newest cycle"):
        run_cycle(file, AS_OF - WEEK)
    older = run_cycle(file, AS_OF - WEEK, backfill=True)
    assert (older.status, older.as_of) == ("published", AS_OF - WEEK)
    assert len(rows(file, generations)) == 2
    assert rows(file, "select distinct generation from parcels") == [(newest.generation,)]


def test_a_dry_run_decides_and_changes_nothing(tmp_path: Path) -> None:
    file = write_problem(tmp_path)
    result = run_cycle(file, AS_OF, dry_run=True)
    assert result.status == "dry-run"
    assert result.leaderboard is not None
    assert Store(open_workspace(file)).champion("parcels") is None
    assert run_cycle(file, AS_OF).status == "published"


def test_refused_data_leave_champion_and_predictions(
    two_cycles: tuple[Path, list[CycleResult]], tmp_path: Path
) -> None:
    file = write_problem(tmp_path, frame=make_world())
    first = run_cycle(file, AS_OF - WEEK)
    before = rows(file, "select * from parcels order by parcel")
    write_problem(tmp_path, frame=make_world().drop(columns="weight"))
    with pytest.raises(HistoryError, match="'weight' is missing"):
        run_cycle(file, AS_OF)
    assert rows(file, "select * from parcels order by parcel") == before
    champion = Store(open_workspace(file)).champion("parcels")
    assert champion is not None
    assert champion.model_version == first.model_version
    assert rows(file, "select status from automl_cycle where verb = 'retrain' order by id") == [
        ("published",),
        ("refused",),
    ]
    write_problem(tmp_path, frame=make_world())
    assert run_cycle(file, AS_OF).status == "published", "a refused cycle may run again"


def test_one_flipped_byte_in_the_model_stops_scoring(tmp_path: Path) -> None:
    file = write_problem(tmp_path)
    run_cycle(file, AS_OF)
    before = rows(file, "select * from parcels order by parcel")
    model = next((tmp_path / ".automl/mlartifacts").rglob("model.skops"))
    content = bytearray(model.read_bytes())
    content[len(content) // 2] ^= 1
    model.write_bytes(content)
    with pytest.raises(DigestError, match="differs from the one recorded"):
        score(load_problem(file), open_workspace(file), RunOptions(as_of=AS_OF + timedelta(days=1)))
    assert rows(file, "select * from parcels order by parcel") == before
