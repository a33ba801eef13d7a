"""Bad inputs, rows 22 and 65 to 86: odd batches and models; a refused command changes nothing."""

from __future__ import annotations

import errno
import logging
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from automl.cycles.options import RunOptions
from automl.errors import AutomlError
from automl.history import Folders
from automl.problem import load_problem
from automl.score import cycle, score
from automl.tracking import Registry, models
from automl.workspace import open_workspace
from tests.support.catalogue import (
    WEEK,
    Case,
    Catalogue,
    Place,
    Refused,
    Seen,
    Warned,
    Works,
    coming,
    good,
)
from tests.support.parcels import AS_OF, make_world, write_problem, write_world
from tests.support.table_sources import DAY

CASES = Catalogue()
WEIGHT, CARRIER = 'weight, "kg": [a]', "Größe 🚚"  # any name must come through a whole cycle


# ---------------------------------------------------------------- a small published problem


@dataclass(frozen=True)
class Site:
    """A problem with a champion and predictions, made on AS_OF - WEEK."""

    file: Path

    @property
    def standing(self) -> tuple[object, ...]:
        """Champion, alias, pointer, and every cell of the predictions."""
        problem, workspace = load_problem(self.file), open_workspace(self.file)
        with closing(sqlite3.connect(self.file.parent / ".automl" / "automl.db")) as store:
            tables = [
                store.execute(f"select * from {table} order by 1, 2").fetchall()
                for table in ("parcels", "automl_pointer", "automl_release", "automl_generation")
            ]
        alias = Registry(problem, workspace).client.get_model_version_by_alias(
            problem.name, "champion"
        )
        return (*tables, alias.version, alias.run_id)

    def cycle(self, as_of: datetime = AS_OF, **options: Any) -> object:
        """`automl cycle` from this folder."""
        return cycle(
            load_problem(self.file), open_workspace(self.file), RunOptions(as_of=as_of, **options)
        )

    def score(self, as_of: datetime = AS_OF) -> object:
        """`automl score` from this folder."""
        return score(load_problem(self.file), open_workspace(self.file), RunOptions(as_of=as_of))

    def holds(self, change: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
        """Change the source."""
        write_world(change(world()), self.file.parent)

    def edit(self, old: str, new: str) -> None:
        """Change the problem file."""
        text = self.file.read_text(encoding="utf-8")
        assert old in text
        self.file.write_text(text.replace(old, new), encoding="utf-8")


def world() -> pd.DataFrame:
    """The generated world, its features under names that are hard for libraries."""
    named = make_world().rename(columns={"weight": WEIGHT, "carrier": CARRIER})
    return named.drop(columns=["fate", "hours"])


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """A site after its first cycle."""
    fewer = {"trials   = 4": "trials   = 3", '"linear"': '"lightgbm"', "origins = 2": "origins = 1"}
    site = Site(write_problem(tmp_path_factory.mktemp("site"), replace=fewer, frame=world()))
    site.cycle(AS_OF - WEEK)
    return site


@pytest.fixture
def site(published: Site, tmp_path: Path) -> Site:
    """A copy of the published site that a test may change; models stay where they were logged."""
    shutil.copytree(published.file.parent, tmp_path / "site")
    return Site(tmp_path / "site" / published.file.name)


# ---------------------------------------------------------------- a refusal changes nothing


@dataclass(frozen=True)
class Refusal:
    """Something that happens to a site, and how the next cycle refuses it."""

    name: str
    code: str
    exit_code: int
    harm: Callable[[Site], object]
    as_of: datetime = AS_OF

    def __str__(self) -> str:
        return self.name


def with_cells(column: str, value: object, rows: slice = slice(None)) -> Callable[[Site], object]:
    """The source with other cells in a column."""

    def change(frame: pd.DataFrame) -> pd.DataFrame:
        cells = frame[column].astype("object")
        cells.iloc[rows] = value
        return frame.assign(**{column: cells})

    return lambda site: site.holds(change)


NEW = 1872, 2124  # positions of the rows whose labels came in the week of the second cycle
LEAK = """'''select parcel, sent_at, late, arrived_after, "Größe 🚚", late * 2.5 as "weight, ""kg"": [a]"
from parcels'''"""
REFUSALS = [
    Refusal("column-removed", "missing_column", 3, lambda s: s.holds(lambda f: f.drop(columns=WEIGHT))),
    Refusal("single-class", "single_class", 3, with_cells("late", 1)),
    Refusal("new-class", "too_many_classes", 3, with_cells("late", 2, slice(*NEW))),
    Refusal("no-labels", "no_history", 3, with_cells("late", None)),
    Refusal("kind-changed", "kind_changed", 3, with_cells(WEIGHT, "heavy", slice(*NEW))),
    Refusal("feature-turns-empty", "feature_empty", 3, with_cells(CARRIER, None, slice(*NEW))),
    Refusal("null-keys", "null_key", 3, with_cells("parcel", None, slice(*NEW))),
    Refusal("same-keys", "duplicate_key", 3, with_cells("parcel", 7, slice(*NEW))),
    Refusal("leak", "leak", 3, lambda s: s.edit('"select * from parcels"', LEAK)),
    Refusal("source-behind", "source_behind", 3, lambda s: s.holds(lambda f: f.head(1000))),
    Refusal("empty-source", "no_history", 3, lambda s: s.holds(lambda f: f.head(0))),
    Refusal("source-gone", "source_unreachable", 5, lambda s: (s.file.parent / "world.db").unlink()),
    Refusal("query-fails", "query_failed", 3, lambda s: s.edit("from parcels", "from nowhere")),
    Refusal("published-name", "problem", 2, lambda s: s.edit('["parcel"]', '["parcel", "run_id"]')),
    Refusal("backwards", "backwards", 2, lambda _: None, AS_OF - 2 * WEEK),
]  # fmt: skip


@pytest.mark.parametrize("refusal", REFUSALS, ids=str)
def test_after_a_refused_cycle_champion_alias_and_predictions_are_the_same_to_the_byte(
    site: Site, refusal: Refusal
) -> None:
    before = site.standing
    problem_file = site.file.read_bytes()
    refusal.harm(site)
    with pytest.raises(AutomlError) as caught:
        site.cycle(refusal.as_of)
    assert (caught.value.code, caught.value.exit_code) == (refusal.code, refusal.exit_code)
    site.file.write_bytes(problem_file)
    assert site.standing == before


# ---------------------------------------------------------------- the rows of the catalogue


@pytest.mark.parametrize("case", CASES, ids=str)
def test_bad_batches_and_models_are_refused_or_reported(
    case: Case, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    case.outcome.proves(lambda: case.run(Place(tmp_path, request)))


def unchanged(place: Place, run: Callable[[Site], object], harm: Callable[[Site], Any]) -> object:
    """Run a command on a changed copy of the site; champion and predictions must be unchanged."""
    site: Site = place.request.getfixturevalue("site")
    before = site.standing
    harm(site)
    try:
        return run(site)
    finally:
        assert site.standing == before


@CASES(22, "as-of-backwards", Refused("backwards", "is earlier than the newest cycle", 2))
def _(place: Place) -> object:
    return unchanged(place, lambda site: site.cycle(AS_OF - 2 * WEEK), lambda _: None)


@CASES(65, "empty-batch", Refused("empty_batch", "wanted rows with 2026-03-02 00:00 <= sent_at"))
def _(place: Place) -> object:
    # an empty generation is never published: readers would see no rows
    before = AS_OF.replace(tzinfo=None)
    return unchanged(place, Site.score, lambda s: s.holds(lambda f: f[f["sent_at"] < before]))


@CASES(66, "batch-shrank", Refused("batch_size", r"found 72 rows, generation 1 has 252; wanted b"))
def _(place: Place) -> object:
    until = (AS_OF - 5 * DAY + WEEK).replace(tzinfo=None)
    return unchanged(place, Site.score, lambda s: s.holds(lambda f: f[f["sent_at"] < until]))


@CASES(66, "batch-grew", Refused("batch_size", r"found 960 rows, generation 1 has 252; wanted b"))
def _(place: Place) -> object:
    def fourfold(frame: pd.DataFrame) -> pd.DataFrame:
        after = frame[frame["sent_at"] >= AS_OF.replace(tzinfo=None)]
        copies = [after.assign(parcel=after["parcel"] + 10_000 * i) for i in range(1, 4)]
        return pd.concat([frame, *copies])

    return unchanged(place, Site.score, lambda s: s.holds(fourfold))


@CASES(66, "batch-may-grow", Works())
def _(place: Place) -> None:
    site: Site = place.request.getfixturevalue("site")
    until = (AS_OF - 5 * DAY + WEEK).replace(tzinfo=None)
    site.holds(lambda f: f[f["sent_at"] < until])
    site.edit("[metric]", '[batch]\nresize = "allow"\n\n[metric]')
    assert vars_of(site.score())["status"] == "published"


def vars_of(result: Any) -> dict[str, Any]:
    """The status and row count of a result."""
    return {"status": result.status, "rows": result.rows}


def agreed_with_batch(place: Place, **other: Any) -> Any:
    """A contract made from good rows, and rows to predict as well."""
    problem = place.problem()
    place.agree(problem, good())
    place.source().holds([*good(**other), *coming(**other)])
    return problem


@CASES(
    18, "keys-twice-in-batch", Refused("duplicate_key", "batch of parcels: .* 2 rows that share")
)
def _(place: Place) -> Seen:
    problem = place.problem()
    place.agree(problem, good())
    place.source().holds([*good(), *coming(), {**coming()[3], "weight": 1.25}])
    return place.batch(problem)


@CASES(67, "column-missing-in-batch", Refused("missing_column", "column 'weight' is missing"))
def _(place: Place) -> Seen:
    problem = place.problem()
    place.agree(problem, good())
    place.source().holds([{n: v for n, v in row.items() if n != "weight"} for row in coming()])
    return place.batch(problem)


@CASES(68, "extra-column-in-batch", Warned(r"column 'colour' is new and not used.*\[column_new\]"))
def _(place: Place) -> Seen:
    seen = place.batch(agreed_with_batch(place, colour="red"))
    assert "colour" not in seen.frame.columns
    return seen


@CASES(69, "columns-in-another-order", Works())
def _(place: Place) -> None:
    problem = agreed_with_batch(place)
    digest = place.batch(problem).snapshot.digest
    place.source().holds([dict(reversed(row.items())) for row in [*good(), *coming()]])
    assert place.batch(problem).snapshot.digest == digest


@CASES(
    70, "entities-never-seen", Warned(r"column 'carrier': 100% of the newest cells hold .*'yak'")
)
def _(place: Place) -> Seen:
    problem = place.problem()
    place.agree(problem, good())
    place.source().holds([*good(), *[{**row, "carrier": "yak"} for row in coming()]])
    seen = place.batch(problem)
    assert len(seen.frame) == 40
    return seen


class Constant:
    """A model that predicts the same for every row."""

    def __init__(self, probability: float) -> None:
        self.probability = probability

    def predict_proba(self, frame: pd.DataFrame) -> np.ndarray:
        """As scikit-learn's."""
        return np.tile([1 - self.probability, self.probability], (len(frame), 1))


def predicting(place: Place, probability: float) -> None:
    """Make every champion predict this probability."""
    patched: pytest.MonkeyPatch = place.request.getfixturevalue("monkeypatch")
    patched.setattr(Registry, "load", lambda *_: Constant(probability))


@CASES(71, "predictions-not-finite", Refused("predict_not_finite", "values that are not finite", 6))
def _(place: Place) -> object:
    predicting(place, float("nan"))
    return unchanged(place, Site.score, lambda _: None)


@CASES(71, "probabilities-out-of-range", Refused("predict_out_of_range", "wanted 0 to 1", 6))
def _(place: Place) -> object:
    predicting(place, 1.25)
    return unchanged(place, Site.score, lambda _: None)


# published nevertheless: a quiet week may have equal predictions, and the guards have checked that the model varies
@CASES(71, "constant-predictions", Works())
def _(place: Place) -> None:
    predicting(place, 0.25)
    caplog: pytest.LogCaptureFixture = place.request.getfixturevalue("caplog")
    site: Site = place.request.getfixturevalue("site")
    with caplog.at_level(logging.WARNING):
        result = vars_of(site.score())
    assert result["status"] == "published"
    assert "predictions are 0.25 [constant_predictions]" in caplog.text


# a pull for scoring fails like a pull for retraining: exit code 3
@CASES(82, "disk-full-while-scoring", Refused("disk_full", "No space left on device"))
def _(place: Place) -> object:
    def full(site: Site) -> None:
        patched: pytest.MonkeyPatch = place.request.getfixturevalue("monkeypatch")

        def write(_: object, where: Path, **__: Any) -> None:
            Path(where).write_bytes(b"half a file")
            raise OSError(28, "No space left on device")

        patched.setattr("pyarrow.parquet.write_table", write)
        folders = Folders(open_workspace(site.file).history("parcels"))
        assert list(folders.root.rglob("*.tmp")) == []

    return unchanged(place, Site.score, full)


@CASES(83, "copy-cannot-be-written", Refused("parquet", "publish.parquet .*: Read-only file", 6))
def _(place: Place) -> object:
    # the table is already published; the next command writes the copy
    site: Site = place.request.getfixturevalue("site")
    site.edit("[metric]", '[publish]\nparquet = "out"\n\n[metric]')
    patched: pytest.MonkeyPatch = place.request.getfixturevalue("monkeypatch")

    def closed(*_: Any, **__: Any) -> None:
        raise OSError(30, "Read-only file system")

    patched.setattr(pd.DataFrame, "to_parquet", closed)
    return site.score()


def artifacts(site: Site) -> Path:
    """Where MLflow keeps the models of a site."""
    return site.file.parent / ".automl" / "mlartifacts"


@CASES(85, "model-file-changed", Refused("digest_mismatch", "differs from the one recorded", 6))
def _(place: Place) -> object:
    model = next(artifacts(place.request.getfixturevalue("published")).rglob("model.skops"))
    content = model.read_bytes()
    model.write_bytes(content[:-9] + bytes([content[-9] ^ 1]) + content[-8:])
    try:
        return unchanged(place, Site.score, lambda _: None)
    finally:
        model.write_bytes(content)


@CASES(85, "model-gone", Refused("digest_mismatch", r"'MLmodel' differs from .* files differ", 6))
def _(place: Place) -> object:
    folder = artifacts(place.request.getfixturevalue("published"))
    moved = folder.rename(folder.with_name("moved"))
    try:
        return unchanged(place, Site.score, lambda _: None)
    finally:
        moved.rename(folder)


@CASES(
    86, "library-missing", Refused("library_missing", "needs lightgbm .* which is not installed", 6)
)
def _(place: Place) -> object:
    patched: pytest.MonkeyPatch = place.request.getfixturevalue("monkeypatch")
    installed = models.version

    def version(name: str) -> str:
        if name == "lightgbm":
            raise PackageNotFoundError(name)
        return installed(name)

    patched.setattr(models, "version", version)
    return unchanged(place, Site.score, lambda _: None)


@pytest.mark.slow
@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.EMFILE, errno.EIO])
@pytest.mark.parametrize(
    ("written", "exit_code"),
    [("pyarrow.parquet.write_table", 3), ("automl.predictions.staging._Writer.write", 6)],
)
def test_a_disk_that_fails_while_scoring_has_its_exit_code_and_changes_nothing(
    site: Site, monkeypatch: pytest.MonkeyPatch, written: str, exit_code: int, number: int
) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise OSError(number, "words of the system")

    before = site.standing
    monkeypatch.setattr(written, fails)

    with pytest.raises(AutomlError, match="words of the system") as caught:
        site.score()

    assert caught.value.exit_code == exit_code
    assert caught.value.next_step
    assert site.standing[:3] == before[:3], "predictions, pointer and releases"
