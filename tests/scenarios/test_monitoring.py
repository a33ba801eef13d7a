"""Monitoring of a workspace with two published generations: tables, alerts, refusals."""

from __future__ import annotations

import io
import json
import shutil
import sqlite3
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from automl import report
from automl.cycles.options import RunOptions
from automl.errors import NoModelError, ProblemError
from automl.monitoring.pipeline import MonitorResult, monitor, send_alerts
from automl.problem import load_problem
from automl.store import open_alerts
from automl.tracking import Registry
from automl.workspace import open_workspace
from tests.support.alert_receiver import Receiver
from tests.support.parcels import AS_OF, write_problem
from tests.support.workspaces import file as file  # a fixture: a copy of the released workspace
from tests.support.workspaces import opened, rows

LATER = AS_OF + timedelta(days=5)
# Mann and Whitney's statistic: share of (late, not late) pairs in which the late parcel has the higher probability
BY_HAND = """
with labelled as (
  select p.probability as score, w.late
    from parcels_history p join world.parcels w on w.parcel = p.parcel
   where p.generation = ? and w.sent_at < ?
)
select avg(case when a.score > b.score then 1.0 when a.score = b.score then 0.5 else 0.0 end),
       (select count(*) from labelled)
  from labelled a join labelled b on a.late = 1 and b.late = 0
"""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.close()


def add(file: Path, section: str) -> None:
    file.write_text(file.read_text() + section)


def run(file: Path, as_of: Any = LATER) -> MonitorResult:
    return monitor(load_problem(file), open_workspace(file), RunOptions(as_of=as_of))


def performance(file: Path, generation: int) -> dict[str, Any]:
    with sqlite3.connect(file.parent / ".automl" / "automl.db") as database:
        database.row_factory = sqlite3.Row
        query = "select * from parcels_performance where generation = ? and slice_column = ''"
        return dict(database.execute(query, (generation,)).fetchone())


def text_of(renderable: Any) -> str:
    shown = io.StringIO()
    Console(width=80, file=shown).print(renderable)
    return shown.getvalue()


def test_what_monitoring_writes_shows_and_logs(file: Path) -> None:
    add(file, "\n")
    file.write_text(
        file.read_text().replace('name = "roc_auc"', 'name = "roc_auc"\nslices = ["carrier"]')
    )
    before = rows(file, "select * from parcels")
    first = run(file)
    json.dumps(first.document, allow_nan=False)
    # realised performance equals a join by hand
    generations = [
        r[0]
        for r in rows(
            file, "select id from automl_generation where state = 'published' order by id"
        )
    ]
    with sqlite3.connect(file.parent / ".automl" / "automl.db") as database:
        database.execute(f"attach '{file.parent / 'world.db'}' as world")
        cut = f"{LATER - timedelta(days=1):%Y-%m-%d %H:%M:%S}"
        for generation in generations:
            by_hand, labelled = database.execute(BY_HAND, (generation, cut)).fetchone()
            found = performance(file, generation)
            assert found["value"] == pytest.approx(by_hand, abs=1e-9)
            assert found["labelled_rows"] == labelled > 100
            assert found["low"] < found["value"] < found["high"]
            assert found["promised_low"] < found["promised"] < found["promised_high"]
    assert performance(file, generations[0])["expected"] is None  # nothing earlier to learn from
    assert 0.5 < performance(file, generations[1])["expected"] < 1
    # every slice has its row
    slices = rows(
        file,
        "select slice_value, labelled_rows from parcels_performance where slice_column = 'carrier' and metric = 'roc_auc' and generation = 1",
    )
    assert {value for value, _ in slices} == {"ant", "bee", "cat"}
    assert sum(count for _, count in slices) == performance(file, 1)["labelled_rows"]
    # drift of every column, uncalibrated with so few blocks
    drift = rows(file, "select distinct source, column_name, state, basis from parcels_drift")
    assert ("inputs", "weight", "uncalibrated", "history") in drift
    assert ("labels", "late", "uncalibrated", "history") in drift
    # again: the same rows, and no prediction was touched
    counts = (
        "select (select count(*) from parcels_performance), (select count(*) from parcels_drift)"
    )
    wrote = rows(file, counts)
    again = run(file)
    assert rows(file, counts) == wrote
    assert again.document["performance"]["value"] == pytest.approx(
        first.document["performance"]["value"]
    )
    assert rows(file, "select * from parcels") == before
    # shown in status, why and --json, in 80 columns
    problem, workspace, store = opened(file)
    status = report.status(problem, workspace)
    json.dumps(status)
    shown = text_of(report.status_text(status))
    assert "live loss as promised: roc_auc" in " ".join(shown.split())
    assert "uncalibrated" in shown
    assert max(map(len, shown.splitlines())) <= 80
    assert report.why(problem, workspace, None)["monitoring"]["found"]["metric"] == "roc_auc"
    assert "realised" in text_of(report.monitor_text(first.document))
    # metrics over time in MLflow, on the run of the live version
    release = store.champion(problem.name)
    assert release is not None
    registry = Registry(problem, workspace, reading=True)
    logged = registry.client.get_run(release.run_id).data.metrics
    assert logged["monitor/rows"] == first.document["rows"]["newest"]
    assert {"live_roc_auc", "monitor/expected_roc_auc", "monitor/history_age_hours"} <= set(logged)


def test_a_changed_concept_is_named_alerted_once_and_recovers(
    file: Path, receiver: Receiver
) -> None:
    add(file, f'\n[monitoring]\nalerts = ["{receiver.address}"]\n')
    with sqlite3.connect(file.parent / "world.db") as world:  # before any of these labels is pulled
        world.execute(
            "update parcels set late = 1 - late where sent_at >= ?", (f"{AS_OF:%Y-%m-%d}",)
        )
    found = [run(file), run(file)]
    assert all(f.degraded for f in found)
    newest = performance(file, found[0].document["performance"]["generation"])
    assert (newest["state"], newest["cause"]) == ("worse", "changed concept")
    [message] = receiver.messages
    assert message["title"] == "parcels: worse than promised"
    for part in ("times the promised loss", "changed concept", "What still works", "automl cycle"):
        assert part in message["message"]
    problem, workspace, store = opened(file)
    shown = " ".join(text_of(report.status_text(report.status(problem, workspace))).split())
    assert "live loss WORSE than promised" in shown
    assert "alert parcels: worse than promised" in shown
    better = {**found[0].document, "degraded": False}
    for _ in range(2):
        send_alerts(problem, workspace, better)
    assert [m["title"] for m in receiver.messages[1:]] == ["parcels: as good as promised again"]
    assert open_alerts(store, problem.name) == []


def test_a_table_of_another_program_is_never_written(file: Path) -> None:
    with sqlite3.connect(file.parent / ".automl" / "automl.db") as database:
        database.execute("create table parcels_drift (mine integer)")
    with pytest.raises(ProblemError, match="'parcels_drift' exists and was not created by automl"):
        run(file)
    assert rows(file, "select * from parcels_drift") == []
    assert rows(file, "select count(*) from automl_watch") == [(0,)]


def test_there_is_nothing_to_monitor_before_the_first_release(tmp_path: Path) -> None:
    file = write_problem(tmp_path)
    with pytest.raises(NoModelError, match="nothing to monitor") as caught:
        run(file)
    assert caught.value.next_step == "automl cycle problem.toml"
    shutil.rmtree(tmp_path / ".automl")
