"""Mode "new": rows are reused only if predicting them again gives the same values to the last bit."""

from __future__ import annotations

import logging
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa
from numpy.typing import NDArray

from automl.cycles.options import RunOptions
from automl.cycles.result import CycleResult
from automl.history import Folders, Snapshot
from automl.history.contract import Contract
from automl.modeling.recipes import Blend, Recipe
from automl.predictions import read_predictions, reuse
from automl.problem import load_problem
from automl.score import cycle, score
from automl.store import Release, Store
from automl.tracking import Registry
from automl.workspace import open_workspace
from tests.support.parcels import AS_OF, METRIC, make_world, write_problem, write_world
from tests.support.postgres import PostgresServer

WEEK, DAY = timedelta(days=7), timedelta(days=1)
FIRST = AS_OF - WEEK  # when the version was released and its first generation published
A_DAY = 36  # parcels
ROWS = 7 * A_DAY
# Rows of a batch in whole groups; the others are predicted
WHOLE = ROWS // reuse.GROUP * reuse.GROUP
AGAIN = WHOLE - A_DAY  # rows in whole groups of the first batch and of the one a day later
RELEASE = Release(
    id=1,
    as_of=FIRST,
    model_version=1,
    run_id="run1",
    digests={},
    fingerprint="f" * 64,
    blend=Blend.single(Recipe("linear", {})),
    labels_until=FIRST,
    projected=True,
)
OWN = ["generation", "scored_at"]  # what two generations never share
PUBLISH = '[publish]\nmode = "new"\nparquet = "out"\n\n[validation]'


@dataclass(frozen=True)
class Site:
    """A problem in mode "new" whose version has predicted the week from FIRST on."""

    file: Path

    def cycle(self, as_of: datetime) -> CycleResult:
        return cycle(load_problem(self.file), open_workspace(self.file), RunOptions(as_of=as_of))

    def score(self, as_of: datetime = FIRST + DAY, **options: Any) -> CycleResult:
        return score(
            load_problem(self.file), open_workspace(self.file), RunOptions(as_of=as_of, **options)
        )

    def edit(self, old: str, new: str) -> None:
        text = self.file.read_text(encoding="utf-8")
        assert old in text
        self.file.write_text(text.replace(old, new), encoding="utf-8")

    def score_fully(self, as_of: datetime = FIRST + DAY) -> CycleResult:
        """The same scoring in mode "full"."""
        self.edit('mode = "new"', 'mode = "full"')
        return self.score(as_of, again=True, reason="to compare")

    def rows(self, result: CycleResult, table: str = "parcels_generations") -> pd.DataFrame:
        """A generation as stored in the database."""
        with Store(open_workspace(self.file)).engine.connect() as connection:
            frame = pd.read_sql(
                sa.text(f"select * from {table} where generation = :it"),
                connection,
                params={"it": result.generation},
            )
        return frame.drop(columns=OWN).sort_values(list(frame.columns[1:3]), ignore_index=True)

    def copy(self) -> pd.DataFrame:
        """The parquet copy of what readers see."""
        rows = read_predictions(self.file.parent / "out")
        return rows.drop(columns=OWN).sort_values("parcel", ignore_index=True)

    @property
    def batches(self) -> Path:
        return Folders(open_workspace(self.file).history("parcels")).batches


class Counted:
    """A model that records the number of rows of each call."""

    def __init__(self, model: Any, predicted_rows: list[int]) -> None:
        self.model, self.predicted_rows = model, predicted_rows

    def predict_proba(self, columns: pd.DataFrame) -> NDArray[np.float64]:
        self.predicted_rows.append(len(columns))
        return np.asarray(self.model.predict_proba(columns))

    def predict(self, columns: pd.DataFrame) -> NDArray[np.float64]:
        self.predicted_rows.append(len(columns))
        return np.asarray(self.model.predict(columns))


@pytest.fixture
def predicted_rows(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of rows of all calls of models from now on."""
    counts: list[int] = []
    load = Registry.load

    def counted(self: Registry, *version: Any) -> Counted:
        return Counted(load(self, *version), counts)

    monkeypatch.setattr(Registry, "load", counted)
    return counts


def make_site(folder: Path, task: str) -> Site:
    fewer = {"trials   = 4": "trials   = 2", "origins = 2": "origins = 1"}
    site = Site(
        write_problem(folder, task, replace={**fewer, "[validation]": PUBLISH}, frame=make_world())
    )
    site.cycle(FIRST)
    return site


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Site]:
    """One site per task, made when it is first needed."""
    sites: dict[str, Site] = {}

    def of(task: str) -> Site:
        if task not in sites:
            sites[task] = make_site(tmp_path_factory.mktemp(task), task)
        return sites[task]

    return of


@pytest.fixture
def make(made: Callable[[str], Site], tmp_path: Path) -> Callable[..., Site]:
    """A copy of a site that a test may spoil; models stay where they were logged."""

    def copy(task: str = "binary") -> Site:
        shutil.copytree(made(task).file.parent, tmp_path / "site")
        return Site(tmp_path / "site" / "problem.toml")

    return copy


# ---------------------------------------------------------------- the same as predicting again


@pytest.mark.parametrize("task", METRIC)
def test_a_generation_is_to_the_last_bit_what_mode_full_publishes(
    make: Callable[..., Site], task: str
) -> None:
    site = make(task)
    new = site.score()
    copied = site.copy()
    full = site.score_fully()

    assert f", {AGAIN} of them reused" in new.reason
    assert "reused" not in full.reason
    assert len(site.rows(new)) == ROWS
    pd.testing.assert_frame_equal(site.rows(new), site.rows(full), check_exact=True)
    pd.testing.assert_frame_equal(copied, site.copy(), check_exact=True)


def test_every_class_of_every_row_is_published(make: Callable[..., Site]) -> None:
    site = make("multiclass")
    new, full = site.score(), site.score_fully()

    classes = [site.rows(result, "parcels_classes_generations") for result in (new, full)]
    assert len(classes[0]) == 3 * ROWS
    pd.testing.assert_frame_equal(*classes, check_exact=True)


def test_the_parquet_copy_has_files_of_one_schema(make: Callable[..., Site]) -> None:
    site = make("multiclass")
    result = site.score()

    files = list((site.file.parent / "out" / f"generation={result.generation}").iterdir())
    schemas = [pq.read_schema(file).remove_metadata() for file in files]
    assert len(files) == 2
    assert schemas[0] == schemas[1]


@pytest.mark.parametrize("task", [pytest.param("binary", marks=pytest.mark.slow), "multiclass"])
def test_postgresql_returns_rows_unchanged(
    postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, task: str
) -> None:
    monkeypatch.setenv("AUTOML_DATABASE_URL", postgres.new_database())
    site = make_site(tmp_path, task)
    new = site.score()
    copied = site.copy()
    full = site.score_fully()

    assert f", {AGAIN} of them reused" in new.reason
    tables = ["parcels_generations", *["parcels_classes_generations"] * (task == "multiclass")]
    for table in tables:
        pd.testing.assert_frame_equal(
            site.rows(new, table), site.rows(full, table), check_exact=True
        )
    pd.testing.assert_frame_equal(copied, site.copy(), check_exact=True)


def test_long_generations_are_read_in_slices(
    make: Callable[..., Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    site = make("multiclass")
    monkeypatch.setattr(reuse, "PIECE_ROWS", 30)
    new, full = site.score(), site.score_fully()

    assert f", {AGAIN} of them reused" in new.reason
    for table in ("parcels_generations", "parcels_classes_generations"):
        pd.testing.assert_frame_equal(
            site.rows(new, table), site.rows(full, table), check_exact=True
        )


def test_rows_without_a_key_are_identified_by_their_content(tmp_path: Path) -> None:
    file = write_problem(
        tmp_path,
        replace={
            'source      = "sqlite:///world.db"\nquery       = "select * from parcels"': (
                'files       = "parcels.parquet"'
            ),
            'key         = ["parcel"]\n': "",
            '["arrived_after"]': '["arrived_after", "parcel", "fate", "hours"]',
            "trials   = 4": "trials   = 2",
            "origins = 2": "origins = 1",
            "[validation]": PUBLISH,
        },
    )
    make_world().to_parquet(tmp_path / "parcels.parquet", index=False)
    site = Site(file)
    site.cycle(FIRST)
    new, full = site.score(), site.score_fully()

    assert "of them reused" in new.reason
    pd.testing.assert_frame_equal(site.rows(new), site.rows(full), check_exact=True)


# ---------------------------------------------------------------- what is predicted


def test_only_rows_that_fill_groups_are_predicted_although_reused(
    make: Callable[..., Site], predicted_rows: list[int]
) -> None:
    site = make()
    site.score()

    assert sum(predicted_rows) - (ROWS - AGAIN) in range(reuse.GROUP)
    predicted_rows.clear()
    site.score_fully()
    assert predicted_rows == [ROWS]


def test_the_same_batch_again_predicts_only_its_last_rows(
    make: Callable[..., Site], predicted_rows: list[int]
) -> None:
    site = make()

    result = site.score(FIRST, again=True, reason="to see")

    assert f", {WHOLE} of them reused" in result.reason
    assert predicted_rows == [reuse.GROUP + ROWS - WHOLE]


@pytest.mark.parametrize("value", ["bat", None])
def test_rows_with_another_value_are_predicted_again(
    make: Callable[..., Site], value: str | None
) -> None:
    site = make()
    world = make_world().drop(columns=["fate", "hours"])
    first = world.index[world["sent_at"] >= (FIRST + DAY).replace(tzinfo=None)][0]
    world.loc[first + 50 : first + 58, "carrier"] = value
    write_world(world, site.file.parent)
    new, full = site.score(), site.score_fully()

    assert f", {AGAIN - 9} of them reused" in new.reason
    pd.testing.assert_frame_equal(site.rows(new), site.rows(full), check_exact=True)


def test_columns_that_are_not_features_may_change(make: Callable[..., Site]) -> None:
    site = make()
    world = make_world().drop(columns=["fate", "hours"])
    write_world(world.assign(arrived_after=0.0), site.file.parent)

    assert f", {AGAIN} of them reused" in site.score().reason


@pytest.mark.parametrize(
    ("cell", "other"),
    [("nan", None), ("None", None), ("", None), (0.0, -0.0), (0.0, np.nan), ("1", "01")],
)
def test_values_that_a_model_can_distinguish_have_different_hashes(cell: Any, other: Any) -> None:
    kind = "str" if isinstance(cell, str) else "float64"
    frames = [pd.DataFrame({"it": pd.Series([c], dtype=kind)}) for c in (cell, other)]

    assert reuse._content(frames[0]) != reuse._content(frames[1])


def test_a_new_version_predicts_all_rows_and_its_standby_reuses_them(
    make: Callable[..., Site], caplog: pytest.LogCaptureFixture
) -> None:
    site = make()
    with caplog.at_level(logging.INFO, "automl"):
        site.cycle(FIRST + 3 * DAY)

    assert f"all {ROWS} rows are predicted: found no generation of version 2" in caplog.text
    both = WHOLE - 3 * A_DAY
    assert f"{both} of {ROWS} rows reused from generation 1" in caplog.text


@pytest.mark.parametrize("rows", [0, 1, 63, 64, 65, 1000])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 1.0])
def test_the_model_predicts_whole_groups_and_the_last_rows(rows: int, share: float) -> None:
    predicted_rows = np.random.default_rng(0).random(rows) < share

    filled = reuse._in_groups(predicted_rows)

    whole = rows // reuse.GROUP * reuse.GROUP
    assert filled[predicted_rows].all()
    assert filled[:whole].sum() % reuse.GROUP == 0
    assert filled[:whole].any() or not whole
    assert filled.sum() - predicted_rows.sum() <= reuse.GROUP


@pytest.mark.parametrize("columns", [3, 20, 60])
def test_whole_groups_are_rounded_as_in_the_whole(columns: int) -> None:
    rng = np.random.default_rng(columns)
    rows, layer = rng.normal(size=(5 * reuse.GROUP + 7, columns)), rng.normal(size=(columns, 32))
    for share in rng.random(20):
        filled = reuse._in_groups(rng.random(len(rows)) < share)
        filled[-7:] = True
        for weights in (layer, layer[:, 0]):
            assert np.array_equal(rows[filled] @ weights, (rows @ weights)[filled])


# ---------------------------------------------------------------- reuse never makes a scoring fail


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ('personal = ["parcel"]', "their keys are personal"),
        ('[features]\ntransformer = "mine.py"', "may look at several rows at once"),
    ],
)
def test_all_rows_are_predicted_where_rows_cannot_be_compared(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, line: str, why: str
) -> None:
    (tmp_path / "mine.py").touch()
    edits = {"[metric]": f"{line}\n\n[metric]", "[validation]": PUBLISH}
    problem = load_problem(write_problem(tmp_path, replace=edits))
    store, batch = (
        Store(open_workspace(problem.file)),
        Snapshot(path=tmp_path, digest="", rows=7, first=None, last=None),
    )
    with caplog.at_level(logging.INFO, "automl"):
        kept = reuse.find_reusable(
            store, problem, RELEASE, batch, Contract(features={}, classes=(0, 1))
        )

    assert kept is None
    assert re.search(f"all 7 rows are predicted: .*{why}", caplog.text)


def log_of(site: Site, caplog: pytest.LogCaptureFixture) -> str:
    """The log of a scoring that predicts every row and agrees with mode "full"."""
    with caplog.at_level(logging.INFO, "automl"):
        new = site.score()
    assert "reused" not in new.reason
    pd.testing.assert_frame_equal(site.rows(new), site.rows(site.score_fully()), check_exact=True)
    return caplog.text


def test_without_the_earlier_batch_all_rows_are_predicted(
    make: Callable[..., Site], caplog: pytest.LogCaptureFixture
) -> None:
    site = make()
    shutil.rmtree(site.batches)

    assert "are predicted: the frozen batch of generation 1 was removed" in log_of(site, caplog)


@pytest.mark.parametrize("harm", [Path.unlink, lambda file: file.write_bytes(b"no parquet")])
def test_without_the_rows_of_the_earlier_batch_all_rows_are_predicted(
    make: Callable[..., Site], caplog: pytest.LogCaptureFixture, harm: Callable[[Path], object]
) -> None:
    site = make()
    manifest = next(site.batches.glob("*.json"))
    for part in pd.read_json(manifest, typ="series")["parts"]:
        harm(site.batches.parent / "parts" / f"{part['name']}.parquet")

    assert "all 252 rows are predicted" in log_of(site, caplog)


def test_a_batch_of_other_columns_is_not_compared(
    make: Callable[..., Site], caplog: pytest.LogCaptureFixture
) -> None:
    site = make()
    manifest = next(site.batches.glob("*.json"))
    manifest.write_text(manifest.read_text().replace('"weight": "number"', '"weight": "text"'))

    assert "the batch of generation 1 has other columns" in log_of(site, caplog)


def test_rows_deleted_from_the_table_are_predicted(make: Callable[..., Site]) -> None:
    site = make("multiclass")
    with Store(open_workspace(site.file)).writer.begin() as connection:
        some = "(select parcel from parcels_generations order by parcel limit 60)"
        connection.execute(sa.text(f"delete from parcels_generations where parcel in {some}"))
        some = "(select parcel from parcels_generations order by parcel limit 30)"
        connection.execute(
            sa.text(
                f"delete from parcels_classes_generations where class = 'late' and parcel in {some}"
            )
        )
    new, full = site.score(), site.score_fully()

    assert f", {AGAIN - (60 - A_DAY) - 30} of them reused" in new.reason
    for table in ("parcels_generations", "parcels_classes_generations"):
        pd.testing.assert_frame_equal(
            site.rows(new, table), site.rows(full, table), check_exact=True
        )


def test_a_generation_without_a_passed_audit_is_not_reused(
    make: Callable[..., Site], caplog: pytest.LogCaptureFixture
) -> None:
    site = make()
    with Store(open_workspace(site.file)).writer.begin() as connection:
        connection.execute(sa.text("update automl_audit set found = null"))

    assert "found no generation of version 1" in log_of(site, caplog)


def test_an_unreadable_table_costs_only_predicting_again(
    make: Callable[..., Site], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: Any) -> Any:
        raise OSError("the disk has a hole")

    site = make()
    monkeypatch.setattr(reuse, "read_slices", broken)

    assert "generation 1 could only be read in part: the disk has a hole" in log_of(site, caplog)
