"""Published keys read back: of every kind, in both databases, also after a key has become text."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import psycopg
import pytest
import sqlalchemy as sa

from automl.errors import ProblemError
from automl.history.contract import Contract, as_kind_of
from automl.modeling.metrics import get_metric
from automl.monitoring.realised import score_published
from automl.predictions import check_table, clean
from automl.problem import Problem
from automl.store import Store
from automl.workspace import Workspace
from tests.support.postgres import PostgresServer
from tests.support.sites import CLASSES, Site, frame_of

MakeSite = Callable[..., Site]


@pytest.fixture(params=["sqlite", "postgresql"])
def make_site(
    request: pytest.FixtureRequest, make_problem: Callable[..., Problem], workspace: Workspace
) -> MakeSite:
    """Sites whose store is in either database."""

    def make(task: str = "multiclass", key: str = '["parcel"]', name: str = "parcels") -> Site:
        edits = {
            'key         = ["parcel"]': f"key = {key}",
            "origins = 2": "origins = 2\n\n[publish]\nkeep = 2",
        }
        problem, store = make_problem(task, name=name, replace=edits), workspace
        if request.param == "postgresql":
            server: PostgresServer = request.getfixturevalue("postgres")
            url = server.new_database().replace("postgresql+psycopg:", "postgres:")
            store = replace(workspace, database_url=url)
        return Site(Store(store), problem)

    return make


def publish(site: Site, frame: pd.DataFrame, *, week: int = 0) -> int:
    classes = None
    if site.problem.task == "multiclass":
        keys = list(site.problem.history.key)
        repeated = frame[keys].loc[frame.index.repeat(3)].reset_index(drop=True)
        shares = np.tile([0.5, 0.3, 0.2], len(frame))
        classes = repeated.assign(**{"class": CLASSES * len(frame), "probability": shares})
    with site.store.hold(site.problem.name) as hold:
        generation = site.stage(hold, frame, week=week, classes=classes)
        site.point(hold, generation)
    return generation


def shown(site: Site, query: str) -> list[tuple]:
    with site.store.engine.connect() as connection:
        return [tuple(row) for row in connection.execute(sa.text(query))]


@pytest.mark.parametrize(
    ("task", "key", "change"),
    [
        ("binary", '["sent_at"]', {}),
        ("binary", '["parcel"]', {"parcel": lambda c: c.astype("str")}),
        ("regression", '["sent_at", "parcel"]', {"parcel": lambda c: c.astype("str")}),
        ("multiclass", '["sent_at"]', {}),
        ("multiclass", '["parcel", "sent_at"]', {"parcel": lambda c: c.astype("str")}),
    ],
)
def test_published_rows_find_their_labels(
    task: str, key: str, change: dict, make_site: MakeSite
) -> None:
    site = make_site(task, key)
    problem = site.problem
    frame = frame_of(30, task=task)
    if task == "regression":
        frame["prediction"] = np.arange(30) / 7
    generation = publish(site, frame)
    classes = {"binary": (0, 1), "multiclass": tuple(CLASSES), "regression": ()}[task]
    labels = {"binary": [0, 1, 1], "multiclass": CLASSES, "regression": [1.0, 2.0, 4.0]}[task]
    history = frame[["parcel", "sent_at"]].assign(
        sent_at=frame["sent_at"].astype("datetime64[us]"), **{problem.history.target: labels * 10}
    )
    history = history.assign(**{name: edit(history[name]) for name, edit in change.items()})

    record = next(g for g in site.store.generations(problem.name) if g.id == generation)
    contract = Contract(features={}, classes=classes)
    scores, rows = score_published(site.store, problem, contract, record, history)

    assert rows == 30
    if task == "multiclass":
        wanted = -np.log([0.5, 0.3, 0.2]).mean()
    elif task == "binary":
        truth, positive = np.array(labels * 10, float), frame["probability"].to_numpy()
        output = np.column_stack([1 - positive, positive])
        wanted = get_metric("roc_auc").score(truth, output)
    else:
        wanted = np.sqrt(np.mean((np.array(labels * 10) - frame["prediction"]) ** 2))
    assert scores[problem.metric.name] == pytest.approx(wanted)


def test_keys_that_become_text_stay_in_one_table(make_site: MakeSite) -> None:
    site = make_site()
    for week in range(4):
        site.store.record_realised(publish(site, frame_of(3, week=week, task="multiclass")), 3, {})
    with site.store.hold("parcels") as hold:
        clean(site.store, hold, site.problem)
    before = shown(site, "select generation, parcel, prediction from parcels_history order by 1, 2")
    frame = frame_of(2, week=4, task="multiclass").assign(parcel=["W1", "11"])

    publish(site, frame, week=4)

    history = shown(
        site, "select generation, parcel, prediction from parcels_history order by 1, 2"
    )
    assert history[:-2] == [(g, str(parcel), prediction) for g, parcel, prediction in before]
    assert [row[1] for row in history[-2:]] == ["11", "W1"]
    assert shown(site, "select count(*) from parcels_classes") == [(6,)]
    assert shown(site, "select count(*) from parcels_classes_history") == [(3 * (12 + 2),)]
    assert {type(p) for (p,) in shown(site, "select parcel from parcels_generations")} == {str}
    with pytest.raises(
        ProblemError, match="column 'parcel' is text; this problem publishes number"
    ):
        publish(site, frame_of(2, week=5, task="multiclass"), week=5)
    with pytest.raises(ProblemError, match="column 'parcel' is text"):
        check_table(site.store, site.problem, (frame_of(2, task="multiclass"), None))
    assert shown(site, "select count(*) from parcels") == [(2,)]


def test_a_table_may_be_called_by_a_word_of_sql(make_site: MakeSite) -> None:
    site = make_site(name="Order")
    for week in range(4):
        site.store.record_realised(publish(site, frame_of(3, week=week, task="multiclass")), 3, {})
    with site.store.hold("Order") as hold:
        clean(site.store, hold, site.problem)
    publish(site, frame_of(2, week=4, task="multiclass").assign(parcel=["W1", "W2"]), week=4)
    assert shown(site, 'select parcel from "order" order by 1') == [("W1",), ("W2",)]
    assert shown(site, "select count(*) from order_history") == [(14,)]


def test_a_class_that_the_contract_did_not_list_then_had_no_probability(
    make_site: MakeSite,
) -> None:
    site = make_site()
    frame = frame_of(3, task="multiclass")
    generation = publish(site, frame)
    history = frame[["parcel", "sent_at"]].assign(fate=["fine", "late", "eaten"])
    contract = Contract(features={}, classes=("eaten", *CLASSES))
    record = next(g for g in site.store.generations("parcels") if g.id == generation)
    scores, rows = score_published(site.store, site.problem, contract, record, history)
    assert rows == 3
    assert np.isfinite(scores["log_loss"])


def test_rights_on_the_views_stay_and_views_of_others_are_not_dropped(
    postgres: PostgresServer, make_problem: Callable[..., Problem], workspace: Workspace
) -> None:
    url = postgres.new_database()
    site = Site(Store(replace(workspace, database_url=url)), make_problem())
    publish(site, frame_of(3))
    text = frame_of(2, week=1).assign(parcel=["a", "b"])
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute("grant select on parcels to public")
        connection.execute("create view mine as select parcel from parcels")
        with pytest.raises(ProblemError, match=r"view 'parcels' must be created again.*mine"):
            publish(site, text, week=1)
        with pytest.raises(ProblemError, match=r"view 'parcels' must be created again.*mine"):
            check_table(site.store, site.problem, (text, None))
        check_table(site.store, site.problem, (frame_of(3), None))
        assert shown(site, "select count(*) from mine") == [(3,)]
        connection.execute("drop view mine")
        publish(site, text, week=1)
        granted = connection.execute(
            "select privilege_type from information_schema.role_table_grants "
            "where table_name = 'parcels' and grantee = 'PUBLIC'"
        ).fetchall()
    assert granted == [("SELECT",)]
    assert shown(site, "select parcel from parcels order by 1") == [("a",), ("b",)]


def test_a_key_in_another_kind_is_spelled_as_people_spell_it() -> None:
    texts = pd.Series(["x"])
    days = pd.Series(pd.to_datetime(["2026-03-02", "2026-03-03"]))
    assert as_kind_of(pd.Series([7, 2**60]), texts).tolist() == ["7", str(2**60)]
    assert as_kind_of(days, texts).tolist() == ["2026-03-02", "2026-03-03"]
    assert as_kind_of(days + pd.Timedelta("1h"), texts)[0] == "2026-03-02 01:00:00"
    assert as_kind_of(pd.Series(["7", "8"]), pd.Series([1])).tolist() == [7, 8]
