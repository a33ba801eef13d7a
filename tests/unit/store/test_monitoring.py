"""Tables of monitoring, on SQLite and PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from automl.errors import ProblemError
from automl.modeling.losses import BlockLoss
from automl.store import (
    Profile,
    Store,
    alert_sent,
    check_watched_tables,
    close_alert,
    newest_watch,
    open_alert,
    open_alerts,
    profiles,
    recent_since,
    rows_of,
    write_profiles,
    write_watch,
)
from automl.store import losses as losses_module
from automl.store import monitoring as module
from automl.workspace import open_workspace

AT = datetime(2026, 3, 2, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    workspace = open_workspace(tmp_path / "problem.toml")
    if request.param == "postgresql":
        server = request.getfixturevalue("postgres")
        workspace = replace(workspace, database_url=server.new_database())
    made = Store(workspace)
    yield made
    made.engine.dispose()


def performance(generation: int, value: float) -> dict[str, Any]:
    return {
        "generation": generation,
        "slice_column": "",
        "slice_value": "",
        "metric": "roc_auc",
        "model_version": 1,
        "as_of": AT,
        "until": AT + DAY,
        "rows": 10,
        "labelled_rows": 5,
        "value": value,
        "state": "as promised",
        "cause": "",
    }


def drift(effect: float) -> dict[str, Any]:
    return {
        "window_start": AT,
        "basis": "history",
        "source": "inputs",
        "column_name": "weight",
        "statistic": "mean",
        "window_end": AT + DAY,
        "as_of": AT,
        "rows": 10,
        "effect": effect,
        "state": "quiet",
    }


def test_rows_of_equal_keys_are_replaced_and_others_added(store: Store) -> None:
    check_watched_tables(store, "t")
    with store.hold("p") as hold:
        for value in (0.5, 0.7):
            rows = {
                "performance": [performance(1, value), performance(2, float("nan"))],
                "drift": [drift(float("inf"))],
            }
            write_watch(store, hold, "t", as_of=AT, document={"value": value}, rows=rows)
    found = sorted(rows_of(store, "t", "performance", [1, 2]), key=lambda r: r["generation"])
    assert [r["value"] for r in found] == [0.7, None]
    assert found[0]["as_of"] == AT.replace(tzinfo=None)
    with store.engine.connect() as connection:
        assert connection.execute(sa.text("select effect, state from t_drift")).all() == [
            (None, "quiet")
        ]
    assert newest_watch(store, "p") == (AT, {"value": 0.7})
    check_watched_tables(store, "t")  # they are ours
    assert rows_of(store, "other", "performance", [1]) == []


@pytest.mark.parametrize(
    "kind", ["table t_drift (x integer)", "view t_performance as select 1 as x"]
)
def test_tables_and_views_of_others_are_refused(store: Store, kind: str) -> None:
    with store.writer.begin() as connection:
        connection.execute(sa.text(f"create {kind}"))
    with pytest.raises(ProblemError, match="exists and was not created by automl"):
        check_watched_tables(store, "t")


def test_one_alert_of_a_kind_is_open_at_a_time(store: Store) -> None:
    alert, new = open_alert(store, "p", "drift", "first", "text")
    same, again = open_alert(store, "p", "drift", "second", "text")
    assert (new, again, same.title, same.sent_at) == (True, False, "first", None)
    open_alert(store, "other", "drift", "of another problem", "text")
    alert_sent(store, alert)
    closed = close_alert(store, "p", "drift")
    assert closed is not None
    assert closed.sent_at is not None
    assert close_alert(store, "p", "drift") is None
    assert open_alerts(store, "p") == []
    assert open_alert(store, "p", "drift", "third", "text")[1]


def test_recovered_alerts_and_old_profiles_are_forgotten(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "KEPT_ALERTS", 3)
    monkeypatch.setattr(module, "KEPT_PROFILES", 4)
    for number in range(8):
        open_alert(store, "p", "drift", str(number), "")
        close_alert(store, "p", "drift")
    with store.engine.connect() as connection:
        assert connection.scalar(sa.text("select count(*) from automl_alert")) <= 4
    with store.hold("p") as hold:
        for number in range(8):
            start = AT + number * DAY
            made = Profile(
                start=start, end=start + DAY, generation=number, rows=1, content={"a": number}
            )
            write_profiles(store, hold, "p", [made, made])
    kept = profiles(store, "p")
    assert [p.content["a"] for p in kept] == [4, 5, 6, 7]
    assert [p.content["a"] for p in profiles(store, "p", before=AT + 6 * DAY)] == [4, 5]


def test_evidence_can_be_narrowed_to_recent_cycles_and_to_blends_on_present_blocks(
    store: Store,
) -> None:
    losses = [
        BlockLoss(
            cycle=AT + number * DAY,
            blend=blend,
            start=AT + (number - 2) * DAY,
            end=AT + (number - 1) * DAY,
            rows=10,
            loss=0.5,
            baseline_loss=1.0,
            kind="out_of_sample",
            metric="log_loss",
        )
        for number in range(6)
        for blend in ("a", "b")
    ]
    with store.writer.begin() as connection:
        store.add_evidence(connection, "p", losses)
    recent = store.evidence("p", since=AT + 4 * DAY)
    assert {x.cycle for x in recent} == {AT + 4 * DAY, AT + 5 * DAY}
    assert {x.blend for x in store.evidence("p", blends=["a"])} == {"a"}
    both = store.evidence("p", blends=["a"], starting=AT, since=AT + 5 * DAY)
    found = sorted((x.blend, (x.cycle - AT).days) for x in both)
    assert found == [("a", 2), ("a", 3), ("a", 4), ("a", 5), ("b", 5)]


def test_the_two_hundredth_newest_retraining_begins_what_is_recent(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(losses_module, "RECENT", 3)
    for number in range(5):
        assert recent_since(store, "p", AT + number * DAY) == (
            AT + (number - 3) * DAY if number >= 3 else None
        )
        store.open_cycle("p", "retrain", AT + number * DAY, 1, "digest")


def test_snapshots_that_a_decision_refers_to_are_found_without_reading_every_receipt(
    store: Store,
) -> None:
    for number, (status, digest) in enumerate(
        [("kept", "a"), ("failed", "b"), ("published", "c"), ("dry-run", "d"), ("kept", None)]
    ):
        cycle = store.open_cycle("p", "retrain", AT + number * DAY, 1, "digest")
        if digest:
            store.note(cycle, snapshot={"digest": digest, "rows": 1})
        store.end_cycle(cycle, status, "")
    assert store.referred("p") == {"a", "c"}
