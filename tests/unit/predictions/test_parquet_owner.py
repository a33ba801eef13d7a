"""A parquet folder has one owner; a new or restored store continues it, and readers see what is published last."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from automl.errors import PredictError, ProblemError
from automl.predictions import check_folder, check_owner, export, read_predictions
from automl.predictions.parquet_owner import OWNER, claim_folder
from automl.store import Store
from tests.support.sites import Site, folder_of
from tests.support.sites import make_site as make_site


@pytest.fixture
def copied(make_site: Callable[..., Site]) -> Site:
    return make_site(publish='parquet = "copies"\nkeep = 3')


def published(site: Site, rows: int, *, week: int = 0) -> int:
    generation = site.publish(rows, week=week)
    export(site.store, site.problem)
    return generation


def backup_of(site: Site, folder: Path) -> Path:
    site.store.engine.dispose()
    return Path(shutil.copytree(site.store.workspace.home, folder))


def with_store(site: Site, home: Path | None = None) -> Site:
    """The site with a new store, or one restored from a backup."""
    site.store.engine.dispose()
    shutil.rmtree(site.store.workspace.home)
    if home is not None:
        shutil.copytree(home, site.store.workspace.home)
    return Site(Store(site.store.workspace), site.problem)


def test_a_store_created_in_place_of_a_lost_one_continues_the_folder(
    copied: Site, caplog: pytest.LogCaptureFixture
) -> None:
    for week in range(3):
        published(copied, 5, week=week)
    before = read_predictions(folder_of(copied))

    renewed = with_store(copied)
    check_folder(renewed.problem, renewed.store.workspace, renewed.store)
    generation = renewed.publish(5, week=3)
    staged = read_predictions(folder_of(copied))
    export(renewed.store, renewed.problem)

    assert before["sent_at"].equals(staged["sent_at"]), "until the commit, readers see the old one"
    shown = read_predictions(folder_of(copied))
    assert set(shown["generation"]) == {generation} == {1}
    assert set(shown["as_of"]) == {renewed.store.live("parcels").as_of.replace(tzinfo=None)}
    assert "[parquet_continued]" in caplog.text
    for week in range(4, 7):
        newest = published(renewed, 5, week=week)
        assert set(read_predictions(folder_of(copied))["generation"]) == {newest}
    assert len(list(folder_of(copied).glob("generation=*"))) == 3


def test_a_restored_store_never_leaves_a_later_generation_in_place(
    copied: Site, tmp_path: Path
) -> None:
    published(copied, 5)
    backup = backup_of(copied, tmp_path / "backup")
    lost = published(copied, 6, week=1)
    restored = with_store(copied, backup)

    again = published(restored, 6, week=1)

    assert again == lost, "the ids collide"
    shown = read_predictions(folder_of(copied))
    assert set(shown["scored_at"]) == {
        restored.store.live("parcels").scored_at.replace(tzinfo=None)
    }


@pytest.mark.parametrize("spelling", ["copies", "./sub/../copies/", "link"])
def test_the_folder_of_another_problem_is_refused_however_it_is_spelled(
    copied: Site, make_site: Callable[..., Site], spelling: str
) -> None:
    published(copied, 5)
    (folder_of(copied).parent / "link").symlink_to(folder_of(copied))
    other = make_site(name="letters", publish=f'parquet = "{spelling}"')

    with pytest.raises(ProblemError, match="belongs to problem 'parcels'") as caught:
        check_owner(other.store, other.problem)
    assert caught.value.code == "parquet_owner"
    with pytest.raises(ProblemError, match="belongs to problem 'parcels'"):
        other.publish(3)
    with pytest.raises(PredictError, match="no generation") as nothing:
        read_predictions(folder_of(copied).parent / "letters")
    assert nothing.value.code == "no_predictions"
    assert len(read_predictions(folder_of(copied))) == 5


@pytest.mark.parametrize(("first", "second"), [("copies", "copies/sub"), ("copies/a/b", "copies")])
def test_a_folder_in_or_around_another_copy_is_refused(
    make_site: Callable[..., Site], first: str, second: str
) -> None:
    published(make_site(publish=f'parquet = "{first}"'), 5)
    other = make_site(name="letters", publish=f'parquet = "{second}"')

    with pytest.raises(ProblemError, match="the folder of another copy"):
        check_owner(other.store, other.problem)


def test_another_store_is_refused_until_its_owner_file_is_deleted(
    copied: Site, tmp_path: Path
) -> None:
    published(copied, 5)
    moved = replace(copied.store.workspace, database_url=f"sqlite:///{tmp_path / 'other.db'}")
    other = Site(Store(moved), copied.problem)

    with pytest.raises(ProblemError, match="of another store") as caught:
        check_owner(other.store, other.problem)
    assert str(folder_of(copied) / OWNER) in caught.value.next_step
    (folder_of(copied) / OWNER).unlink()
    published(other, 7)

    assert len(read_predictions(folder_of(copied))) == 7
    with pytest.raises(ProblemError, match="of another store"):
        check_owner(copied.store, copied.problem)


def test_a_store_whose_password_changed_stays_the_owner(copied: Site) -> None:
    workspace = copied.store.workspace
    first, changed, elsewhere = (
        replace(workspace, database_url=f"postgresql://{login}/predictions")
        for login in ("jo:one@db", "jo:two@db", "jo:one@elsewhere")
    )
    copied.store.workspace = first
    claim_folder(copied.store, copied.problem)

    check_folder(copied.problem, changed, None)
    with pytest.raises(ProblemError, match="of another store"):
        check_folder(copied.problem, elsewhere, None)


def test_a_store_that_moved_with_its_content_stays_the_owner(copied: Site, tmp_path: Path) -> None:
    published(copied, 5)
    copied.store.engine.dispose()
    shutil.copy(copied.store.workspace.home / "automl.db", tmp_path / "moved.db")
    moved = replace(copied.store.workspace, database_url=f"sqlite:///{tmp_path / 'moved.db'}")

    published(Site(Store(moved), copied.problem), 6, week=1)

    assert len(read_predictions(folder_of(copied))) == 6


def test_a_problem_that_claims_the_folder_first_keeps_it(
    copied: Site, make_site: Callable[..., Site]
) -> None:
    other = make_site(name="letters", publish='table = "letters"\nparquet = "copies"')
    check_owner(other.store, other.problem)  # nothing is there yet
    published(copied, 5)

    with pytest.raises(ProblemError, match="belongs to problem 'parcels'"):
        other.publish(3)
    assert other.store.live("letters") is None


def test_an_owner_file_that_cannot_be_read_is_named(copied: Site) -> None:
    published(copied, 5)
    (folder_of(copied) / OWNER).write_text("{")

    with pytest.raises(ProblemError, match="does not name an owner") as caught:
        check_owner(copied.store, copied.problem)
    assert OWNER in caught.value.next_step


@pytest.mark.parametrize("parquet", [".", ".automl", ".automl/copies", "link/copies"])
def test_folders_in_or_around_the_workspace_are_refused(
    make_site: Callable[..., Site], parquet: str
) -> None:
    site = make_site(publish=f'parquet = "{parquet}"')
    (site.store.workspace.root / "link").symlink_to(site.store.workspace.home)

    with pytest.raises(ProblemError, match="in or around the workspace") as caught:
        check_owner(site.store, site.problem)
    assert caught.value.code == "parquet_place"


@pytest.mark.parametrize(
    ("files", "parquet", "refused"),
    [
        ("data/*.parquet", "data", True),
        ("data/**/*.parquet", "data/out", True),
        ("data", "data/out", True),
        ("*", "out", True),
        ("out/rows/*.csv", "out", True),
        ("*.csv", "out", False),
        ("rows.parquet", "out", False),
        ("data/*.parquet", "data/out", False),
        ("data/**/*.parquet", "out", False),
    ],
)
def test_a_folder_that_the_history_is_read_from_is_refused(
    make_site: Callable[..., Site], files: str, parquet: str, *, refused: bool
) -> None:
    site = make_site(publish=f'parquet = "{parquet}"')
    history = site.problem.history.model_copy(update={"files": files, "source": ""})
    problem = site.problem.model_copy(update={"history": history})

    if not refused:
        check_folder(problem, site.store.workspace, None)
        return
    with pytest.raises(ProblemError, match=r"is read by history\.files"):
        check_folder(problem, site.store.workspace, None)


@pytest.mark.parametrize("parquet", ["s3://bucket/out", "gs:/b", "file:///out", "~/out", "${OUT}"])
def test_addresses_and_unresolved_paths_are_refused(
    make_site: Callable[..., Site], parquet: str
) -> None:
    with pytest.raises(
        ProblemError, match=r"publish\.parquet: found .*wanted the path of a folder"
    ):
        make_site(publish=f'parquet = "{parquet}"')
