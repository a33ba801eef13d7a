"""Items of work on this machine: each ends once, whatever it does, and with the process that gave it out."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from automl.engines import Item, LocalEngine, Outcome
from automl.errors import HistoryError


def square(number: int) -> int:
    return number * number


def refuse() -> None:
    raise HistoryError("no row", code="no_rows")


def fail() -> None:
    raise ValueError("it cannot be")


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def wait_long(folder: Path) -> None:
    (folder / "pid").write_text(str(os.getpid()), encoding="utf-8")
    time.sleep(60)


@pytest.fixture(scope="module")
def engine() -> Iterator[LocalEngine]:
    with LocalEngine(2) as engine:
        yield engine


def outcomes(engine: LocalEngine) -> dict[str, Outcome]:
    return {outcome.key: outcome for outcome in iter(engine.collect, None)}


def test_every_item_ends_once_with_its_own_value(engine: LocalEngine) -> None:
    for number in range(5):
        engine.submit(Item(key=f"{number}", function=square, arguments=(number,)))
    found = outcomes(engine)
    assert {key: o.value for key, o in found.items()} == {f"{n}": n * n for n in range(5)}
    assert {o.status for o in found.values()} == {"done"}
    assert engine.collect() is None


def test_an_item_that_raises_dies_or_hangs_harms_no_other(
    engine: LocalEngine, tmp_path: Path
) -> None:
    engine.submit(Item(key="refused", function=refuse))
    engine.submit(Item(key="raised", function=fail))
    engine.submit(Item(key="died", function=die))
    engine.submit(Item(key="hung", function=wait_long, arguments=(tmp_path,), seconds=0.3))
    engine.submit(Item(key="good", function=square, arguments=(3,)))
    found = outcomes(engine)
    assert {key: o.status for key, o in found.items()} == {
        "refused": "failed",
        "raised": "failed",
        "died": "lost",
        "hung": "late",
        "good": "done",
    }
    assert isinstance(found["refused"].error, HistoryError)
    assert "it cannot be" in str(found["raised"].error)
    assert "SIGKILL" in str(found["died"].error)


def test_a_cancelled_item_is_killed_or_never_starts(tmp_path: Path) -> None:
    with LocalEngine(1) as engine:
        engine.submit(Item(key="runs", function=wait_long, arguments=(tmp_path,)))
        engine.submit(Item(key="waits", function=wait_long, arguments=(tmp_path / "no",)))
        wait_for(tmp_path / "pid")
        # first, or it starts as soon as the other one has ended
        engine.cancel("waits")
        engine.cancel("runs")
        assert {o.status for o in outcomes(engine).values()} == {"cancelled"}


def test_an_item_whose_process_is_just_starting_is_killed_too(tmp_path: Path) -> None:
    with LocalEngine(1) as engine:
        engine.submit(Item(key="starts", function=wait_long, arguments=(tmp_path,)))
        engine.cancel("starts")
        assert [o.status for o in outcomes(engine).values()] == ["cancelled"]
    began = time.monotonic()
    with LocalEngine(1) as engine:
        engine.submit(Item(key="starts", function=wait_long, arguments=(tmp_path,)))
    assert time.monotonic() - began < 50, "it would wait for a minute"


def test_items_end_with_the_process_that_gave_them_out(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from automl.engines import Item, LocalEngine;"
        "from tests.unit.engines.test_local import wait_long;"
        "engine = LocalEngine(1);"
        "engine.submit(Item(key='a', function=wait_long, arguments=(Path(sys.argv[1]),)));"
        "engine.collect()"
    )
    parent = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)])
    wait_for(tmp_path / "pid")
    worker = int((tmp_path / "pid").read_text())
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 10
    while lives(worker) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not lives(worker)


def wait_for(file: Path) -> None:
    deadline = time.monotonic() + 60
    while not (file.exists() and file.read_text()) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert file.exists()


def lives(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"
