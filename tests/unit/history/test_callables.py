"""A Python source may exit, crash, hang or return anything: the pull is refused with a reason."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from automl.errors import AutomlError
from automl.history.sources import callables
from automl.history.sources.callables import CallableSource, try_function
from automl.workspace import open_workspace
from tests.support.changing_source import write_problem

TEXT = """
import ctypes, os, sys, time, threading
import pandas as pd
{top}
def rows(as_of, until):
    {body}
    return pd.DataFrame({{"id": [1], "at": [as_of]}})
"""
BODIES = {
    "exit 0": ("sys.exit(0)", "SystemExit: 0", 3),
    "exit text": ("sys.exit('no')", "SystemExit: no", 3),
    "os._exit": ("os._exit(0)", "its process ended without a result: exit code 0", 3),
    "crash": ("ctypes.string_at(0)", "SIGSEGV", 3),
    "interrupt": ("raise KeyboardInterrupt", "KeyboardInterrupt", 3),
    "raise": ("raise KeyError('x')", "raised KeyError: 'x'", 3),
    "no network": ("raise ConnectionError('down')", "down", 5),
    "none": ("return None", "returned NoneType; wanted a DataFrame", 3),
    "list": ("return [1]", "returned list; wanted a DataFrame", 3),
    "recursion": ("return rows(as_of, until)", "RecursionError", 3),
    "iterator": ("return iter([1])", "returned list_iterator", 3),
    "odd cells": ("return pd.DataFrame({'id': [lambda: 1]})", "pickle", 3),
}  # fmt: skip
TOPS = {
    "exit": ("sys.exit(0)", "SystemExit: 0", 3),
    "os._exit": ("os._exit(0)", "exit code 0", 3),
    "raise": ("1 / 0", "ZeroDivisionError", 3),
    "missing": ("import no_such_module_at_all", "no_such_module_at_all", 2),
    "hang": ("time.sleep(60)", "no result after", 3),
}
OF = {"as_of": datetime(2026, 1, 5, tzinfo=UTC), "until": datetime(2026, 1, 12, tzinfo=UTC)}


def source(folder: Path, *, top: str = "", body: str = "pass") -> CallableSource:
    name = f"source_{abs(hash((top, body)))}"
    (folder / f"{name}.py").write_text(TEXT.format(top=top, body=body), encoding="utf-8")
    problem = write_problem(folder, f'python = "{name}:rows"')
    return CallableSource(problem=problem, workspace=open_workspace(problem.file), bound=OF)


@pytest.mark.parametrize("how", BODIES)
def test_a_source_that_goes_wrong_is_refused_with_its_reason(
    server: None, tmp_path: Path, how: str
) -> None:
    body, text, code = BODIES[how]
    with contextlib.closing(source(tmp_path, body=body)) as opened:
        with pytest.raises(AutomlError, match=re.escape(text)) as caught:
            opened.names()
        assert caught.value.exit_code == code


@pytest.mark.parametrize("how", TOPS)
def test_a_check_finds_a_module_that_goes_wrong(
    server: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    top, text, code = TOPS[how]
    good = source(tmp_path)
    good.close()
    module = good.problem.history.python.partition(":")[0]
    (tmp_path / f"{module}.py").write_text(TEXT.format(top=top, body="pass"), encoding="utf-8")
    monkeypatch.setattr(callables, "IMPORT_SECONDS", 0.5 if how == "hang" else 60)
    with pytest.raises(AutomlError, match=re.escape(text)) as caught:
        try_function(good.problem, good.workspace)
    assert caught.value.exit_code == code


def test_prints_threads_and_changes_of_the_process_stay_with_the_source(
    server: None, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    body = (
        "print('on stdout'); os.write(1, b'on 1'); os.chdir('/'); os.environ['HOME'] = 'x'; "
        "threading.Thread(target=time.sleep, args=[60]).start()"
    )
    folder, home = Path.cwd(), os.environ.get("HOME")
    with contextlib.closing(source(tmp_path, body=body)) as opened:
        assert opened.names() == ["id", "at"]
    assert (Path.cwd(), os.environ.get("HOME")) == (folder, home)
    assert capfd.readouterr().out == ""


def test_ctrl_c_ends_a_source_that_hangs(
    server: None, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    body = "signal = __import__('signal'); signal.signal(2, signal.SIG_IGN); time.sleep(60)"
    # pytest-xdist's workers ignore Ctrl-C
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, handler))
    with contextlib.closing(source(tmp_path, body=body)) as opened:
        started = time.monotonic()
        threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
        with pytest.raises(KeyboardInterrupt):
            opened.names()
        assert time.monotonic() - started < 10
        assert opened._process._process is None
