"""Commands as processes that a test kills, halts or races; each is forked from one that has the libraries.

Most of a command's seconds go into importing. `Launcher` starts one process that has imported and done
nothing else; every command is a fork of it, runs `automl.cli.main` and may be killed like any other. So
is the server that the command's own children are forked from. Run as `python -m tests.support.commands` it is
that process: orders come in as lines of JSON.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import multiprocessing.util
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from multiprocessing import forkserver, resource_tracker
from pathlib import Path
from typing import Any, NoReturn

from automl.processes import children
from automl.workspace import DEFAULTS

ROOT = Path(__file__).parents[2]
PATIENCE = 300  # seconds; a command takes a few, a machine at its limit may need many
IMPORTED = (
    "automl.cli", "automl.score.pipeline", "automl.review", "automl.report", "mlflow.sklearn", "psycopg",
    "mlflow.store.tracking.sqlalchemy_store", "mlflow.store.model_registry.sqlalchemy_store",
    "sklearn.linear_model", "sklearn.compose", "mlflow.pyfunc", "git", "hypothesis.extra.pandas",
    "automl.promotion.guards.worker", "sqlalchemy.dialects.sqlite", "sqlalchemy.dialects.postgresql",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Done:
    """How a command ended; a negative code is the signal that killed it."""

    code: int
    out: str
    err: str
    passed: frozenset[str]  # fault points, of a command that ended by itself

    @property
    def document(self) -> dict[str, Any]:
        """The document that `--json` puts on stdout."""
        document: dict[str, Any] = json.loads(self.out)
        return document


@dataclass(slots=True, eq=False)
class Command:
    """A running command."""

    folder: Path
    _news: Any = field(init=False)
    pid: int = field(init=False)

    def __post_init__(self) -> None:
        self._news = (self.folder / "news").open(encoding="utf-8")
        self.pid = int(self._news.readline())

    def stopped(self) -> None:
        """Wait until it halts."""
        line = self._news.readline().strip()
        assert line == "stopped", f"it ended with {line}: {self._text('err')}"

    def resume(self) -> None:
        """Let it go on."""
        os.kill(self.pid, signal.SIGCONT)

    def kill(self, after: float = 0.0) -> None:
        """SIGKILL, after some seconds; a command that has ended is left in peace."""
        time.sleep(after)
        if not (self.folder / "ended").exists():
            os.kill(self.pid, signal.SIGKILL)

    def wait(self) -> Done:
        """Wait for its end, and let it go on wherever it halts."""
        while (line := self._news.readline().strip()) == "stopped":
            self.resume()
        code = int(line)
        self._news.close()
        passed = self._text("passed")
        return Done(code, self._text("out"), self._text("err"), frozenset(passed.split()))

    def _text(self, name: str) -> str:
        path = self.folder / name
        return path.read_text(encoding="utf-8") if path.exists() else ""


class Launcher:
    """Starts commands; a context that ends with all of them gone."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("AUTOML_", "MLFLOW_"))}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.commands"],
            stdin=subprocess.PIPE,
            env={
                **DEFAULTS,
                **clean,
                "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]),
                "AUTOML_REPORT": "off",
            },
            cwd=ROOT,
            text=True,
        )
        self._running: list[Command] = []

    def start(
        self, *arguments: str, before: str = "", at: Path = ROOT, **environment: str
    ) -> Command:
        """Start a command in a folder.

        `before` is the `module:function` that the process calls first, to bend what the command meets.
        """
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        os.mkfifo(folder / "news")
        order = {
            "arguments": arguments,
            "folder": str(folder),
            "at": str(at),
            "environment": environment,
            "before": before,
        }
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        command = Command(folder)
        self._running.append(command)
        return command

    def run(self, *arguments: str, **more: Any) -> Done:
        """Start a command and wait for its end."""
        return self.start(*arguments, **more).wait()

    def close(self) -> None:
        """Kill what still runs."""
        for command in self._running:
            if not (command.folder / "ended").exists():
                os.kill(command.pid, signal.SIGKILL)
        self._process.communicate(timeout=PATIENCE)


@contextmanager
def launching(folder: Path) -> Iterator[Launcher]:
    """A launcher until the end of the block."""
    launcher = Launcher(folder)
    try:
        yield launcher
    finally:
        launcher.close()


# ---------------------------------------------------------------- inside the process of `Launcher`


def _serve() -> None:
    for name in IMPORTED:
        importlib.import_module(name)
    gc.freeze()  # what is never looked at is never copied
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # watchers vanish by themselves
    # not by `for`: what Python has read ahead would be in the child, too
    while line := sys.stdin.readline():
        order = json.loads(line)
        if os.fork() == 0:
            _watch(order)
    os._exit(0)


def _watch(order: dict[str, Any]) -> None:
    """Fork the command, tell its number, when it halts and how it ended."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    folder = Path(order["folder"])
    news = os.open(folder / "news", os.O_WRONLY)
    command = os.fork()
    if command == 0:
        os.close(news)
        _become(order, folder)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)  # the test may have gone
    os.write(news, f"{command}\n".encode())
    while True:
        _, status = os.waitpid(command, os.WUNTRACED)
        if not os.WIFSTOPPED(status):
            break
        os.write(news, b"stopped\n")
    (folder / "ended").touch()
    os.write(news, f"{os.waitstatus_to_exitcode(status)}\n".encode())
    os._exit(0)


def _become(order: dict[str, Any], folder: Path) -> NoReturn:
    """Be the command, from its first line to its last."""
    nothing = os.open(os.devnull, os.O_RDONLY)
    out, err = (os.open(folder / n, os.O_WRONLY | os.O_CREAT) for n in ("out", "err"))
    for number, handle in enumerate((nothing, out, err)):
        os.dup2(handle, number)
    os.environ.update(order["environment"])
    os.chdir(order["at"])
    from automl import testing  # noqa: PLC0415  imported long ago
    from automl.cli import main  # noqa: PLC0415

    testing._ARMED = os.environ.get("AUTOML_FAULT", "")
    _lend_server()
    if order["before"]:
        module, _, name = order["before"].partition(":")
        getattr(importlib.import_module(module), name)()
    sys.argv = ["automl", *order["arguments"]]
    code: object = 1
    try:
        main()
    except SystemExit as ended:
        code = ended.code
    (folder / "passed").write_text("\n".join(testing.POINTS), encoding="utf-8")
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else 1)  # taking the libraries down would cost a second


def _lend_server() -> None:
    """Let the server that the command's children are forked from be a fork of this process, as it is now."""

    def fork(_: str, command: list[str], passed: list[int]) -> int:
        pid = os.fork()
        if pid == 0:
            keep = [0, 1, 2, *sorted(passed)]
            for low, high in pairwise([*keep, os.sysconf("SC_OPEN_MAX")]):
                os.closerange(low + 1, high)
            try:
                exec(command[-1])
            finally:
                os._exit(0)  # the server ends by SystemExit
        return pid

    started = multiprocessing.util.spawnv_passfds
    resource_tracker.ensure_running()
    multiprocessing.util.spawnv_passfds = fork
    children.context()
    forkserver.ensure_running()
    multiprocessing.util.spawnv_passfds = started


if __name__ == "__main__":
    _serve()
