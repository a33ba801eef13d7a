"""Personal columns: every cell holds a marker, which is searched for in everything that is written."""

from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from automl.history import KEY_SECRET
from automl.predictions import read_predictions
from tests.support.parcels import AS_OF
from tests.support.personal_markers import (
    BROKEN,
    COLUMNS,
    DAY,
    MARKER,
    PLAIN,
    SECRET,
    WEEK,
    Life,
    found,
    people,
)

TASK = {"sqlite": "multiclass", "parquet": "binary"}


@pytest.fixture(scope="module", params=["sqlite", pytest.param("parquet", marks=pytest.mark.slow)])
def life(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Life:
    """Two cycles, the second with rows that do not fit, then everything that may be refused or shown."""
    lived = Life(tmp_path_factory.mktemp("life") / "here", request.param)
    lived.folder.mkdir()
    task = TASK[lived.kind]
    world = people()
    edge = pd.Timestamp(AS_OF.replace(tzinfo=None))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(KEY_SECRET, SECRET)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)  # left by MLflow in this process
        lived.write(world[world["sent_at"] < edge] if lived.kind == "parquet" else world, task)
        lived.problem(task)
        if lived.kind == "parquet":
            lived.write(world[world["sent_at"] >= edge], task, part="part-1")
        lived.run("first", "cycle", str(lived.file), "--as-of", f"{AS_OF - WEEK:%Y-%m-%d}")
        if lived.kind == "parquet":
            lived.write(misfits(world, typed=True), task, part="part-2")
        else:
            lived.write(pd.concat([world, misfits(world, typed=False)], ignore_index=True), task)
        lived.run("second", "cycle", str(lived.file), "--as-of", f"{AS_OF:%Y-%m-%d}", "--debug")
        _refuse_to_publish(lived)
        if lived.kind == "sqlite":
            _refuse_to_pull(lived, task)
        for verb in ("status", "why", "leaderboard", "history", "contract"):
            lived.run(verb, verb, str(lived.file))
            lived.run(f"{verb} --json", verb, str(lived.file), "--json")
        lived.run("verify", "history", str(lived.file), "--verify", "--debug")
    return lived


def misfits(world: pd.DataFrame, *, typed: bool) -> pd.DataFrame:
    """Rows of the last week before AS_OF that cannot be used, all with markers."""
    old = world[world["sent_at"] < pd.Timestamp(AS_OF.replace(tzinfo=None)) - 2 * DAY].tail(6)
    twins = old.head(2).assign(weight=99.0)  # the same key with another content
    keyless = old.iloc[2:4].assign(badge=None)
    rows = [twins, keyless]
    if not typed:
        fresh = old.iloc[4:6].assign(badge=[f"{MARKER}-x", f"{MARKER}-y"])
        rows += [fresh.head(1).assign(weight="heavy"), fresh.tail(1).assign(sent_at="one day")]
    return pd.concat([r.astype("object") for r in rows], ignore_index=True).astype(
        {"sent_at": "datetime64[us]"}
        | {c: world[c].dtype for c in ("weight", "late", "hours", "arrived_after")}
        if typed
        else {}
    )


def _refuse_to_publish(lived: Life) -> None:
    """The store refuses every row, as a full disk would; SQLAlchemy would quote them."""
    with closing(sqlite3.connect(lived.home / "automl.db")) as store:
        store.execute(
            "create trigger full before insert on parcels_generations begin select raise(abort, 'full'); end"
        )
        store.commit()
    lived.run("full", "score", str(lived.file), "--as-of", f"{AS_OF + DAY:%Y-%m-%d}", "--debug")
    with closing(sqlite3.connect(lived.home / "automl.db")) as store:
        store.execute("drop trigger full")
        store.commit()


def _refuse_to_pull(lived: Life, task: str) -> None:
    later = ("--as-of", f"{AS_OF + DAY:%Y-%m-%d}", "--debug")
    for name, query in {
        "query": BROKEN,
        "column": "select badge, email, sent_at, carrier, arrived_after, fate from parcels",
        "twins": f"select {COLUMNS} from parcels union all "
        f"select {COLUMNS.replace('weight', 'weight + 1')} from parcels",
        "kind": f"select {COLUMNS.replace('weight', 'badge as weight')} from parcels",
    }.items():
        lived.problem(task, f'source = "sqlite:///world.db"\nquery = "{query}"')
        lived.run(name, "retrain", str(lived.file), *later)
    lived.problem(task)


# ---------------------------------------------------------------- what two cycles leave


def test_every_step_ended_as_expected(life: Life) -> None:
    wanted = {"first": 0, "second": 0, "full": 1}
    if life.kind == "sqlite":
        wanted |= {"query": 3, "column": 3, "twins": 3, "kind": 3}
    looks = ("status", "why", "leaderboard", "history", "contract")
    wanted |= {name: 0 for look in looks for name in (look, f"{look} --json")} | {"verify": 0}
    assert life.codes == wanted


def test_the_marker_is_in_the_published_keys_and_nowhere_else(life: Life) -> None:
    workspace = found(life.home, MARKER)
    copy = found(life.folder / "out", MARKER)

    tables = {tuple(place.split(".")) for _, place in workspace}
    assert {file for file, _ in workspace} == {"automl.db"}
    assert tables == PLAIN[TASK[life.kind]]
    assert {column for _, column in copy} == {"badge"}
    assert MARKER not in (life.folder / "problem.contract.json").read_text(encoding="utf-8")
    left = {p.name for p in life.folder.iterdir()}
    assert left <= {"problem.toml", "problem.contract.json", "world.db", "data", "out", ".automl"}


def test_the_search_finds_a_marker_that_exists(life: Life, tmp_path: Path) -> None:
    source = life.folder / ("world.db" if life.kind == "sqlite" else "data/part-0.parquet")
    shutil.copy(source, tmp_path)
    (tmp_path / "pickle").write_bytes(b"\x00" + MARKER.encode())

    places = found(tmp_path, MARKER)

    assert {place for _, place in places} >= {
        "",
        *(["parcels.badge", "parcels.email"] if life.kind == "sqlite" else ["badge", "email"]),
    }


def test_the_marker_was_never_printed(life: Life) -> None:
    assert "pulled" in life.output, "the log was captured"
    assert "Traceback" in life.output, "and the tracebacks"
    assert MARKER not in life.output


def test_the_secret_is_nowhere(life: Life) -> None:
    assert SECRET not in life.output
    assert found(life.folder, SECRET) == set()


def test_analysts_find_every_row_of_the_batch_under_its_plain_key(life: Life) -> None:
    start, world = pd.Timestamp(AS_OF.replace(tzinfo=None)), people()
    batch = world[(world["sent_at"] >= start) & (world["sent_at"] < start + WEEK)]

    assert {row[0] for row in life.rows("select badge from parcels")} == set(batch["badge"])
    assert set(read_predictions(life.folder / "out")["badge"]) == set(batch["badge"])
    if TASK[life.kind] == "multiclass":
        found = life.rows(
            "select badge, count(*), sum(probability) from parcels_classes group by badge"
        )
        assert {row[0] for row in found} == set(batch["badge"])
        assert [row[1] for row in found] == [3] * len(batch)
        assert [row[2] for row in found] == pytest.approx([1.0] * len(batch))


def test_published_predictions_are_scored_across_the_hash(life: Life) -> None:
    [(generation, rows, labelled_rows, scores)] = life.rows(
        "select id, rows, labelled_rows, realised from automl_generation order by id limit 1"
    )
    world = people().set_index("badge")
    start = pd.Timestamp((AS_OF - WEEK).replace(tzinfo=None))
    known = world[(world["sent_at"] >= start) & (world["sent_at"] < start + WEEK - DAY)]
    clashing = set(misfits(people(), typed=True)["badge"].dropna())

    assert rows == 7 * 18
    assert labelled_rows == len(known) - len(clashing & set(known.index))
    published = dict(
        life.rows(
            f"select badge, probability from parcels_generations where generation = {generation}"
        )
    )
    labelled = known.drop(index=sorted(clashing & set(known.index)))
    if TASK[life.kind] == "binary":
        late, fine = (labelled.index[labelled["late"] == c].map(published) for c in (1, 0))
        better = [(p > q) + 0.5 * (p == q) for p in late for q in fine]
        assert json.loads(str(scores))["roc_auc"] == pytest.approx(np.mean(better))
    else:
        classes = pd.DataFrame(
            life.rows(f"select * from parcels_classes_generations where generation = {generation}"),
            columns=[c[1] for c in life.rows("pragma table_info(parcels_classes_generations)")],
        ).set_index(["badge", "class"])["probability"]
        loss = -np.log([classes[key, fate] for key, fate in labelled["fate"].items()])
        assert json.loads(str(scores))["log_loss"] == pytest.approx(loss.mean())


def test_rows_set_aside_are_kept_under_the_hash(life: Life) -> None:
    newest = max((life.home / "history" / "parcels" / "quarantine").glob("*.parquet"))
    aside = pq.read_table(newest).to_pandas()

    wanted = {"duplicate_key", "null_key"} | (
        {"kind_changed", "bad_time"} if life.kind == "sqlite" else set()
    )
    assert set(aside["reason"]) == wanted
    keys = [json.loads(k)["badge"] for k in aside["key"]]
    assert {len(k) for k in keys if k is not None} == {32}
