"""A history pulled bit by bit equals the history of a single pull, whatever happened."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from automl.history import Snapshot, read, sources
from automl.history.sources import base
from automl.history.storage import writer as part_writer
from automl.problem import Problem, load_problem
from tests.support.changing_source import (
    DAY,
    HOUR,
    NONE,
    START,
    Life,
    Memory,
    differences,
    newest,
    pulled,
    truth,
    write_problem,
)


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many parts, many chunks, and rows that spill."""
    monkeypatch.setattr(part_writer, "PART_ROWS", 50)
    monkeypatch.setattr(part_writer, "SPILL_ROWS", 200)
    monkeypatch.setattr(base, "CHUNK_ROWS", 37)


class Variant(NamedTuple):
    """A kind of source: the lines of its history, and the changes to its rows."""

    lines: dict[str, str]
    acts: tuple[str, ...]
    versions: bool = False


CHANGED = {"updated_at": '"changed"', "ignore": '["known_at"]'}
LABELLED = {"label_time": '"known_at"', "ignore": '["changed"]'}
VARIANTS = {
    "updated": Variant(CHANGED, ("update", "late", "take back", "move", "twin", "delete")),
    "updated, a day's delay": Variant(
        {**CHANGED, "label_delay": '"1d"'}, ("update", "late", "take back", "move")
    ),
    "versions": Variant(CHANGED, ("update", "late", "take back", "twin"), versions=True),
    "versions that move": Variant(CHANGED, ("update", "late", "move", "twin"), versions=True),
    "append-only": Variant({}, ("twin", "delete")),
    "append-only, a day's delay": Variant({"label_delay": '"1d"'}, ("twin",)),
    "append-only, late rows": Variant({}, ("late", "delete")),
    "label time": Variant(LABELLED, ("insert",)),
    "label time, updated": Variant(
        {**CHANGED, **LABELLED, "ignore": ""}, ("update", "late", "take back", "move")
    ),
    "composite key": Variant(
        {**CHANGED, "key": '["code", "at"]'}, ("update", "late", "take back", "twin")
    ),
    "text key": Variant({**CHANGED, "key": '["code"]'}, ("update", "late", "move", "delete")),
    "keep slides": Variant(
        {**CHANGED, "keep": '"8d"'}, ("update", "late", "take back", "move", "delete")
    ),
    "keep slides, append-only": Variant({"keep": '"5d"'}, ("twin",)),
}


def served(monkeypatch: pytest.MonkeyPatch, life: Life, seed: int) -> None:
    """Pulls read the table of `life` instead of opening a database."""

    def open_source(problem: Problem, *_: Any, **__: Any) -> Memory:
        h = problem.history
        rows = list(life.rows)
        return Memory(rows, seed, updated_at=h.updated_at, label_time=h.label_time)

    monkeypatch.setattr(sources, "open_source", open_source)


def fresh(folder: Path, problem: Problem, as_of: Any, monkeypatch: pytest.MonkeyPatch) -> Snapshot:
    """One pull of everything, in a workspace of its own, into parts of another size."""
    folder.mkdir()
    for name in ("rows.db", "problem.toml"):
        if (problem.file.parent / name).exists():
            (folder / name).write_bytes((problem.file.parent / name).read_bytes())
    with monkeypatch.context() as patch:
        patch.setattr(part_writer, "PART_ROWS", 333)
        return pulled(load_problem(folder / "problem.toml"), as_of)


def moments(rng: random.Random, count: int) -> Iterator[tuple[Any, Any]]:
    """Wall clock and as_of of pulls, unevenly apart; as_of is often behind the clock."""
    clock = START
    for _ in range(count):
        clock += rng.choice([2, 7, 24, 24, 60]) * HOUR
        yield clock, clock - rng.choice([0, 0, 1, 3]) * HOUR


@pytest.mark.parametrize(
    "seed", [0, *(pytest.param(s, marks=pytest.mark.slow) for s in range(1, 12))]
)
@pytest.mark.parametrize("name", VARIANTS)
def test_pulls_in_any_commit_order_end_at_the_truth(
    name: str, seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    variant, rng = VARIANTS[name], random.Random(f"{name} {seed}")
    problem = write_problem(tmp_path, **variant.lines)
    life = Life(rng, variant.acts, versions=variant.versions)
    served(monkeypatch, life, seed)
    life.go_on(START - 12 * DAY, START, 250)
    clock, last = START, START
    for clock, as_of in moments(rng, 7):
        life.go_on(clock - (clock - last), clock, 40)
        last = clock
        snapshot = pulled(problem, as_of)
        assert differences(snapshot, read(snapshot), problem.history.key) == NONE
    life.commit()
    end = clock + 2 * DAY
    # what leaves no trace in the source, deleted rows and rows later than the overlap, needs a comparison of all windows
    verify = "delete" in variant.acts or ("late" in variant.acts and not problem.history.updated_at)
    snapshot = pulled(problem, end, verify=verify)
    assert newest(problem).full == ""
    wanted = truth(life.rows, problem, end)
    assert len(wanted) > 20
    assert differences(snapshot, wanted, problem.history.key) == NONE
    assert snapshot.digest == fresh(tmp_path / "fresh", problem, end, monkeypatch).digest
    if not verify:
        pulled(problem, end + HOUR, verify=True)
        assert newest(problem).late == newest(problem).deleted == 0
