"""A call in another process ends as a result or as an error that says how, whatever the function does."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from automl.errors import HistoryError
from automl.processes import UserCodeError, UserProcess


def _act(how: str, *rest: object) -> object:
    if how == "holds the pipe open":
        if os.fork() == 0:
            time.sleep(60)
        os._exit(7)
    actions = {
        "returns": lambda: rest,
        "raises": lambda: 1 / 0,
        "refuses": lambda: (_ for _ in ()).throw(HistoryError("no rows", code="none")),
        "exits": lambda: sys.exit(0),
        "dies": lambda: os._exit(0),
        "crashes": lambda: ctypes.string_at(0),
        "hangs": lambda: time.sleep(60),
        "cannot be pickled": lambda: lambda: 1,
        "prints": lambda: (sys.stdout.write("on stdout"), os.write(1, b"on 1")),
    }
    return actions[how]()


@pytest.fixture(scope="module")
def process(server: None) -> UserProcess:
    return UserProcess()


@pytest.mark.parametrize(
    ("how", "text"),
    [
        ("raises", "ZeroDivisionError: division by zero"),
        ("exits", "SystemExit: 0"),
        ("dies", "its process ended without a result: exit code 0"),
        ("crashes", "its process ended without a result: SIGSEGV"),
        ("holds the pipe open", "its process ended without a result: exit code 7"),
        ("hangs", "no result after 0.3 s"),
        ("cannot be pickled", "pickle"),
    ],
)
def test_a_call_that_fails_says_how_and_the_next_one_succeeds(
    process: UserProcess, how: str, text: str
) -> None:
    until = time.monotonic() + (0.3 if how == "hangs" else 60)
    with pytest.raises(UserCodeError, match=text) as caught:
        process.call(_act, how, until=until)
    assert caught.value.late == (how == "hangs")
    assert process.call(_act, "returns", 1, "a") == (1, "a")


def test_errors_of_ours_keep_their_code_and_prints_stay_away(
    process: UserProcess, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(HistoryError, match="no rows") as caught:
        process.call(_act, "refuses")
    assert caught.value.code == "none"
    process.call(_act, "prints")
    assert capfd.readouterr().out == ""


def test_a_call_is_ended_from_another_thread(process: UserProcess) -> None:
    process.call(_act, "returns")
    threading.Timer(0.2, process.kill).start()
    started = time.monotonic()
    with pytest.raises(UserCodeError, match="SIGKILL"):
        process.call(_act, "hangs")
    assert time.monotonic() - started < 10


OWNER = """
import subprocess, sys, time
from automl.processes import children, UserProcess

def leave(folder):
    command = f"echo $$ > {folder}/$1; trap '' TERM INT HUP; sleep 300"
    for number, mine in enumerate((True, False)):
        subprocess.Popen(["sh", "-c", command, "sh", str(number)], start_new_session=not mine)
    subprocess.Popen(["sh", "-c", f"setsid sh -c '{command}' sh 2 & exit"])  # its parent ends
    time.sleep(300)

if __name__ == "__main__":
    children.PRELOADED[1:] = []
    sys.modules["owner"] = sys.modules["__main__"]
    leave.__module__ = "owner"
    UserProcess(path=sys.argv[1]).call(leave, sys.argv[1])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere orphans of orphans are not found")
def test_nothing_is_left_of_a_process_that_is_killed_nor_of_what_its_children_started(
    tmp_path: Path,
) -> None:
    (tmp_path / "owner.py").write_text(OWNER, encoding="utf-8")
    owner = subprocess.Popen(
        [sys.executable, str(tmp_path / "owner.py"), str(tmp_path)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])},
    )
    files = [tmp_path / str(number) for number in range(3)]
    _wait_until(lambda: all(f.exists() and f.read_text().strip() for f in files), 30)
    pids = [int(f.read_text()) for f in files]
    assert all(map(_alive, pids))

    owner.kill()
    owner.wait()

    _wait_until(lambda: not any(map(_alive, pids)), 5)


def _wait_until(condition: object, seconds: float) -> None:
    end = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < end
        time.sleep(0.05)


def _alive(pid: int) -> bool:
    try:
        return ") Z" not in Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return False
