"""What stderr shows while a command works: a live line that leaves nothing behind, or lines at growing intervals."""

from __future__ import annotations

import io
import json
import logging
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from automl import progress
from automl.cli import live
from automl.progress import Progress

ROOT = Path(__file__).parents[3]
COLUMNS = 80
# a command that works for two seconds, logs, prints its document; or is stopped, or fails, in between
SCRIPT = """
import logging, sys, time
from automl import progress
from automl.cli import console, live
live.PATIENCE = 0.1
from automl.cli.live import LogLines, showing
logging.basicConfig(handlers=[LogLines(sys.stderr)], level=logging.INFO, format="%(message)s")
from automl.cli.signals import stopping_on_signals
how = sys.argv[1]
def work():
    with progress.step("sweep"):
        for i in range(7):
            progress.show("best roc_auc 0.7 by lightgbm; 3 trials " + "x" * 90, until=time.monotonic() + 9)
            time.sleep(0.15)
            if i == 4:
                logging.info("a line of the log")
                if how == "fails":
                    raise SystemExit(3)
    console.print_document({"a": 1}, str, as_json=True)
try:
    with stopping_on_signals(), showing(quiet=how == "quiet"):
        work()
except KeyboardInterrupt:
    sys.exit(130)
"""


def on_terminal(how: str, *, stop: bool = False) -> tuple[int, str, str]:
    """Exit code, stdout and what an 80-column terminal was sent through stderr."""
    parent, child = pty.openpty()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm", "COLUMNS": str(COLUMNS)}
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, how],
        stdout=subprocess.PIPE,
        stderr=child,
        text=True,
        env=environment,
    )
    os.close(child)
    sent, stopped = b"", False
    while select.select([parent], [], [], 20)[0]:
        try:
            sent += os.read(parent, 65536)
        except OSError:  # the terminal is closed
            break
        if stop and not stopped and b"left" in sent:
            stopped = True
            process.send_signal(signal.SIGINT)
    os.close(parent)
    out, _ = process.communicate(timeout=20)
    return process.returncode, out, sent.decode()


def screen(sent: str) -> list[str]:
    """The lines that stay on a terminal which knows carriage return, erasing a line and going up."""
    lines, row, column = [""], 0, 0
    for token in re.findall(r"\x1b\[[0-9;?]*[A-Za-z]|\r|\n|[^\r\n\x1b]+", sent):
        if token == "\r":
            column = 0
        elif token == "\n":
            row, column = row + 1, 0
            lines += [""] * (row + 1 - len(lines))
        elif token.endswith("A") and token.startswith("\x1b"):
            row = max(0, row - int(token[2:-1] or 1))
        elif token == "\x1b[2K":
            lines[row] = ""
        elif not token.startswith("\x1b"):
            line = lines[row].ljust(column)
            lines[row] = line[:column] + token + line[column + len(token) :]
            column += len(token)
            assert column <= COLUMNS, "a longer line would wrap, and could not be erased"
    return [line.rstrip() for line in lines if line.strip()]


@pytest.mark.parametrize(("how", "code"), [("ends", 0), ("fails", 3)])
def test_a_live_line_is_erased_at_the_end_and_leaves_log_and_document_alone(
    how: str, code: int
) -> None:
    ended, out, sent = on_terminal(how)
    assert ended == code
    assert re.search(
        r"sweep .*0:0\d left .*best roc_auc 0\.7 by lightgbm", re.sub(r"\x1b\[[\d;]*m", "", sent)
    )
    assert screen(sent) == ["a line of the log"]
    assert [json.loads(line) for line in out.splitlines()] == (
        [{"schema": 1, "a": 1}] * (code == 0)
    )
    assert "\x1b[?25l" not in sent, "the cursor is never hidden: a killed command could not show it"


def test_ctrl_c_erases_the_line() -> None:
    ended, out, sent = on_terminal("ends", stop=True)
    assert (ended, out) == (130, "")
    assert "sweep" not in "\n".join(screen(sent))


def test_quiet_sends_no_progress_to_a_terminal() -> None:
    ended, _, sent = on_terminal("quiet")
    assert ended == 0
    assert screen(sent) == ["a line of the log"]


# ---------------------------------------------------------------- without a terminal


class Clock:
    """Seconds that a test winds."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr(live.time, "monotonic", lambda: self.now)


def test_plain_lines_come_at_growing_intervals(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    frame = live.Frame("sweep", began=100.0)
    due = []
    for second in range(400):
        clock.now = 100.0 + second
        due += [second] if frame.due() else []
    assert due == [2, 10, 30, 60, 120, 180, 240, 300, 360]


def test_a_plain_line_names_step_time_left_and_what_was_done(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(live, "PLAIN", (0.0, 1e9))
    monkeypatch.setattr(live, "on_terminal", lambda: False)
    with caplog.at_level(logging.INFO), live.showing(quiet=False), progress.step("backfill"):
        progress.show("cycle of 2026-03-02", done=2, of=5)
        with progress.step("sweep"):
            progress.show("4 trials", until=time.monotonic() + 62.4)
            wanted = "2 of 5, sweep: 1:02 left; 4 trials"
            deadline = time.monotonic() + 10
            while wanted not in caplog.messages and time.monotonic() < deadline:
                time.sleep(0.02)
    assert wanted in caplog.messages


@pytest.mark.parametrize(
    ("shown", "share", "clock"),
    [
        (Progress(), None, "0:10"),
        (Progress(done=1, of=4), 0.25, "0:10"),
        (Progress(until=140.0), 0.25, "0:30 left"),
        (Progress(until=105.0), 1.0, "0:00 left"),
        (Progress(done=3, of=0), None, "0:10"),
    ],
)
def test_the_share_done_is_of_items_or_of_time(
    monkeypatch: pytest.MonkeyPatch, shown: Progress, share: float | None, clock: str
) -> None:
    wound = Clock(monkeypatch)
    frame = live.Frame("step", began=100.0, progress=shown)
    wound.now = 110.0
    assert (frame.share, frame.clock) == (share, clock)


def test_work_without_a_display_says_nothing_and_fails_at_nothing() -> None:
    with progress.step("sweep"):
        assert progress.show("x", done=1, of=2) is None


def test_a_step_ends_also_when_it_fails() -> None:
    shown = live.PlainLines()
    with progress.displayed_by(shown), pytest.raises(KeyError, match="x"), progress.step("sweep"):
        raise KeyError("x")
    assert shown.frames == []


def test_a_live_line_costs_less_than_a_hundredth_of_a_core(monkeypatch: pytest.MonkeyPatch) -> None:
    line = live.LiveLine()
    line.begin("sweep")
    line.show(Progress(text="best roc_auc 0.7 by lightgbm; 14 trials", until=time.monotonic() + 60))
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    drawn = live._live(line)
    drawn.start()
    drawn.refresh()
    began = time.thread_time()
    for _ in range(20):
        drawn.refresh()
    spent = (time.thread_time() - began) / 20
    drawn.stop()
    assert spent * live.PER_SECOND < 0.01


@pytest.mark.parametrize("terminal", [True, False])
def test_lines_of_the_log_wrap_between_words_on_a_terminal_alone(
    terminal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "on_terminal", lambda: terminal)
    monkeypatch.setattr(live, "columns", lambda: 40)
    stream = io.StringIO()
    record = logging.makeLogRecord({"msg": "plan: " + "word " * 12, "levelno": logging.INFO})
    live.LogLines(stream).emit(record)
    lines = stream.getvalue().rstrip().splitlines()
    assert (len(lines) > 1, max(map(len, lines)) <= 40) == (terminal, terminal)
    assert stream.getvalue().split() == ["plan:", *["word"] * 12]
