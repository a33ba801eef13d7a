"""Publishing: the parquet copy, for readers without a database."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import sqlalchemy as sa

from automl.errors import PredictError
from automl.predictions import export, read_generation, read_predictions, stage_pieces
from tests.support.sites import Site, folder_of, frame_of, pieces_of, provenance_of
from tests.support.sites import make_site as make_site
from tests.support.sites import site as site


@pytest.fixture
def copied(make_site: Callable[..., Site]) -> Site:
    return make_site(publish='parquet = "copies"\nkeep = 2')


def commits(site: Site) -> list[int]:
    return sorted(int(p.stem) for p in (folder_of(site) / "_commits").iterdir())


def test_the_copy_equals_the_table(copied: Site) -> None:
    generation = copied.publish(5)

    folder = export(copied.store, copied.problem)

    assert folder == folder_of(copied) / f"generation={generation}"
    pd.testing.assert_frame_equal(
        read_predictions(folder_of(copied)).drop(columns="scored_at"),
        read_generation(copied.store, copied.problem, generation).drop(columns="scored_at"),
        check_dtype=False,
    )
    live = copied.store.live("parcels")
    assert live is not None
    assert live.exported_at is not None


def test_readers_of_the_copy_get_the_newest_complete_generation(copied: Site) -> None:
    first = copied.publish(5)
    export(copied.store, copied.problem)
    second = copied.publish(7, week=1)
    half = folder_of(copied) / f"generation={second}"
    (half / "part-0.parquet").write_bytes(b"half a file")

    assert set(read_predictions(folder_of(copied))["generation"]) == {first}
    export(copied.store, copied.problem)  # the interrupted copy is made again

    shown = read_predictions(folder_of(copied))
    assert set(shown["generation"]) == {second}
    assert len(shown) == 7


def test_a_commit_file_is_never_overwritten(copied: Site) -> None:
    generation = copied.publish(5)
    export(copied.store, copied.problem)
    commit = folder_of(copied) / "_commits" / f"{generation:012d}.json"
    written = commit.read_bytes(), commit.stat().st_ino, commit.stat().st_mtime_ns
    data = folder_of(copied) / f"generation={generation}" / "part-0.parquet"
    file = data.stat().st_ino

    export(copied.store, copied.problem)

    assert (commit.read_bytes(), commit.stat().st_ino, commit.stat().st_mtime_ns) == written
    assert data.stat().st_ino == file
    assert json.loads(written[0]) == {
        "publication": generation,
        "generation": generation,
        "rows": 5,
        "files": [f"generation={generation}/part-0.parquet"],
    }
    assert sorted(p.name for p in folder_of(copied).iterdir()) == [
        "_commits",
        "_owner.json",
        f"generation={generation}",
    ]


def test_copies_beyond_keep_are_removed_and_the_newest_stays_readable(copied: Site) -> None:
    generations = []
    for week in range(4):
        generations.append(copied.publish(5 + week, week=week))
        export(copied.store, copied.problem)

    assert commits(copied) == generations[-2:]
    assert sorted(p.name for p in folder_of(copied).glob("generation=*")) == [
        f"generation={g}" for g in generations[-2:]
    ]
    assert len(read_predictions(folder_of(copied))) == 8


def test_a_pointer_moved_to_an_older_generation_moves_the_copy_too(
    copied: Site,
) -> None:
    first, second = copied.publish(5), copied.publish(7)  # the same as_of, decided again
    export(copied.store, copied.problem)
    with copied.store.hold("parcels") as hold:
        copied.point(hold, first)
    assert copied.shown() == {first}
    assert set(read_predictions(folder_of(copied))["generation"]) == {second}  # it may lag

    live = copied.store.live("parcels")
    assert live is not None
    assert live.exported_at is None  # so that the next command brings it up
    export(copied.store, copied.problem)

    assert set(read_predictions(folder_of(copied))["generation"]) == {first}
    assert commits(copied) == [second, second + 1]
    third = copied.publish(6, week=1)
    export(copied.store, copied.problem)
    assert set(read_predictions(folder_of(copied))["generation"]) == {third}
    assert commits(copied) == [second + 1, second + 2]


def test_a_copy_of_the_older_format_is_read_and_continued(copied: Site) -> None:
    first, second = copied.publish(5), copied.publish(7)
    export(copied.store, copied.problem)
    root = folder_of(copied)
    shutil.rmtree(root / "_commits")
    (root / "_commits").mkdir()
    for generation, rows in ((first, 5), (second, 7)):  # numbered by the generation
        folder = root / f"generation={generation}"
        folder.mkdir(exist_ok=True)
        frame = read_generation(copied.store, copied.problem, generation)
        frame.to_parquet(folder / "part-0.parquet", index=False)
        content = {
            "generation": generation,
            "rows": rows,
            "files": [f"{folder.name}/part-0.parquet"],
        }
        (root / "_commits" / f"{generation:012d}.json").write_text(json.dumps(content))
    with copied.store.writer.begin() as connection:
        connection.execute(sa.text("drop table automl_publication"))
    assert set(read_predictions(root)["generation"]) == {second}
    export(copied.store, copied.problem)
    assert commits(copied) == [first, second]

    with copied.store.hold("parcels") as hold:
        copied.point(hold, first)
    export(copied.store, copied.problem)

    assert set(read_predictions(root)["generation"]) == {first}
    assert commits(copied) == [second, second + 1]


def test_a_copy_in_several_files_is_one_generation(copied: Site) -> None:
    with copied.store.hold("parcels") as hold:
        pieces = pieces_of(frame_of(50), 4)
        generation = stage_pieces(copied.store, hold, copied.problem, provenance_of(), pieces)
        copied.point(hold, generation)

    export(copied.store, copied.problem)

    assert len(list(folder_of(copied).glob("generation=*/*.parquet"))) == 13
    pd.testing.assert_frame_equal(
        read_predictions(folder_of(copied)),
        read_generation(copied.store, copied.problem, generation),
        check_dtype=False,
    )


def test_a_reader_whose_files_are_removed_reads_the_newest_commit_again(
    copied: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied.publish(5)
    export(copied.store, copied.problem)
    read = pd.read_parquet

    def overtaken(path: Path, **more: Any) -> pd.DataFrame:
        monkeypatch.setattr(pd, "read_parquet", read)
        for week in range(1, 4):
            copied.publish(5 + week, week=week)
            export(copied.store, copied.problem)
        return read(path, **more)

    monkeypatch.setattr(pd, "read_parquet", overtaken)

    assert len(read_predictions(folder_of(copied))) == 8


def test_a_backfill_does_not_replace_the_copy_of_the_live_generation(copied: Site) -> None:
    live = copied.publish(5, week=5)
    export(copied.store, copied.problem)
    for week in range(3):  # more than are kept
        copied.publish(7, week=week)

        export(copied.store, copied.problem)

    assert set(read_predictions(folder_of(copied))["generation"]) == {live}


def test_without_a_parquet_setting_no_copy_is_made(
    make_site: Callable[..., Site], copied: Site
) -> None:
    assert export(copied.store, copied.problem) is None  # nothing is live yet
    with pytest.raises(PredictError, match="no generation has been published here"):
        read_predictions(folder_of(copied))

    plain = make_site()
    plain.publish(3)
    assert export(plain.store, plain.problem) is None
    assert not folder_of(plain).exists()


def test_a_read_only_folder_is_reported_and_written_by_the_next_export(
    copied: Site,
) -> None:
    folder_of(copied).write_text("a file where the folder should be")
    generation = copied.publish(5)

    with pytest.raises(PredictError, match=r"publish\.parquet .*copies"):
        export(copied.store, copied.problem)
    live = copied.store.live("parcels")
    assert live is not None
    assert live.exported_at is None
    assert copied.shown() == {generation}

    folder_of(copied).unlink()
    export(copied.store, copied.problem)
    assert len(read_predictions(folder_of(copied))) == 5
