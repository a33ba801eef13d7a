"""Every command and every Python block of the pages runs, in the order of the site's menus, in one workspace.

The workspace holds the flights of the example, one in twelve, searched in three trials of two families; its clock stands at
12 November 2013. Pages build on each other: run the whole file.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import pytest

from tests.support import prefect_server
from tests.support.documented import PAGES, ROOT, Block, blocks, in_workspace
from tests.support.postgres import PostgresServer

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not all(map(shutil.which, ("bash", "sqlite3", "flock", "curl"))),
        reason="the pages' commands need bash, sqlite3, flock and curl",
    ),
]
BLOCKS = [b for b in blocks() if b.runs or b.said("file")]
LONGEST = 1800  # seconds of one block
KEPT = 12  # one flight in so many
SEARCH = """
families    = ["baseline", "linear"]
trials      = 3
"""
# in every Python process of the workspace: the time that workspaces read begins at NOW
CLOCK = """
import os, time
from datetime import UTC, datetime, timedelta
import automl.workspace
_begin = datetime(2013, 11, 12, 8, tzinfo=UTC) - timedelta(seconds=float(os.environ["BEGAN"]))
automl.workspace.now = lambda: _begin + timedelta(seconds=time.time())
"""
# runs blocks in turn; a block that fails is written as its traceback
READER = """
import json, os, sys, traceback
import pandas
out = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
names = {"__name__": "page", "frame": pandas.read_parquet("frame.parquet")}
for line in sys.stdin:
    failed = ""
    try:
        exec(json.loads(line), names)
    except BaseException:
        failed = traceback.format_exc()
    print(json.dumps(failed), file=out, flush=True)
"""


@dataclass(slots=True)
class Shown:
    """The workspace, and what still runs in it."""

    folder: Path
    environment: dict[str, str]
    replaced: dict[str, str]
    pages: dict[Path, subprocess.Popen[str]] = field(default_factory=dict)  # Python of each page
    running: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def run(self, block: Block) -> None:
        """Run a block as its kind and its note say."""
        if name := block.said("file"):
            file = self.folder / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(self._placed(block.text), encoding="utf-8")
            return
        if block.kind == "python":
            self._run_python(block)
            return
        text = "\n".join(block.commands()) if block.kind == "crontab" else block.text
        text = self._placed(in_workspace(text))
        for template in re.findall(r"init --template ([\w-]+)", text):
            # a reader of one page has not followed another one
            shutil.rmtree(self.folder / template, ignore_errors=True)
        for word, stays in (("stays once it prints", True), ("stopped once it prints", False)):
            if sign := block.said(word):
                self._start(text, sign, stays=stays)
                return
        self._expect(["bash", "-e", "-c", text], block, int(block.said("exit") or 0))

    def _placed(self, text: str) -> str:
        for word, place in self.replaced.items():
            text = text.replace(word, place)
        return text

    def _run_python(self, block: Block) -> None:
        """In the process of its page, where names of earlier blocks are known."""
        if block.page not in self.pages:
            self.pages[block.page] = subprocess.Popen(
                [sys.executable, "-c", READER],
                cwd=self.folder,
                env=self.environment,
                text=True,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
        process = self.pages[block.page]
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(block.text) + "\n")
        process.stdin.flush()
        found = json.loads(process.stdout.readline())
        assert found == "", f"{block.place}\n{block.text}\n{found}"

    def close(self) -> None:
        """End what still runs."""
        for reader in self.pages.values():
            reader.communicate()
        for process in self.running:
            if process.poll() is None:
                prefect_server.stop(process)

    def _expect(self, command: list[str], block: Block, code: int) -> None:
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=LONGEST,
            check=False,
        )
        assert done.returncode == code, f"{block.place}\n{command[-1]}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"  # fmt: skip

    def _start(self, text: str, sign: str, *, stays: bool) -> None:
        log = self.folder.parent / f"log{len(self.running)}"
        process = prefect_server.start(["bash", "-e", "-c", f"cd '{self.folder}'\n{text}"], self.environment | {"PYTHONUNBUFFERED": "1"}, log)  # fmt: skip
        self.running.append(process)
        prefect_server.until(lambda: sign in log.read_text(), 180, lambda: log.read_text()[-2000:])
        if stays:
            # from now on commands find the server
            self.environment["PREFECT_API_URL"] = f"http://127.0.0.1:{self.replaced['4200']}/api"
        else:
            prefect_server.stop(process)


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory, postgres: PostgresServer) -> Iterator[Shown]:
    parent = tmp_path_factory.mktemp("shown")
    folder = parent / "workspace"
    shutil.copytree(ROOT / "examples", folder / "examples", ignore=shutil.ignore_patterns("*.db", ".automl", "predictions"))  # fmt: skip
    tools = parent / "tools"
    tools.mkdir()
    (tools / "automl").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m automl.cli "$@"\n')
    (tools / "automl").chmod(0o755)
    (tools / "sitecustomize.py").write_text(CLOCK)
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("AUTOML_", "MLFLOW_", "PREFECT_"))}  # fmt: skip
    port, pages = prefect_server.free_port(), prefect_server.free_port()
    environment = clean | {
        "PATH": os.pathsep.join([str(tools), str(Path(sys.executable).parent), clean["PATH"]]),
        "PYTHONPATH": os.pathsep.join([str(tools), str(ROOT)]),
        "BEGAN": str(time.time()),
        "PREFECT_HOME": str(parent / "prefect"),
        "WAREHOUSE_PASSWORD": "unused",
    }
    warehouse, store = postgres.new_database(), postgres.new_database()
    address = "postgresql://reader:${WAREHOUSE_PASSWORD}@db.example.org/warehouse"
    replaced = {
        "4200": str(port),
        "--port 5000": f"--port {pages}",
        address: warehouse.replace("+psycopg", ""),
        '"postgresql+psycopg://reader:$WAREHOUSE_PASSWORD@db.example.org/warehouse"': f'"{warehouse}"',
        '"postgresql://owner:$WAREHOUSE_PASSWORD@db.example.org/predictions"': f'"{store.replace("+psycopg", "")}"',
        "--from 2013-08-05": "--from 2013-12-02",  # four weeks instead of twenty
    }
    _fill(folder, environment)
    made = Shown(folder, environment, replaced)
    yield made
    made.close()


def _fill(folder: Path, environment: dict[str, str]) -> None:
    """One in twelve of the flights, as database and as files; two problem files on them, quickly searched."""
    example = folder / "examples" / "flights"
    subprocess.run([sys.executable, "examples/flights/warehouse.py"], cwd=folder, env=environment, check=True, capture_output=True)  # fmt: skip
    with sqlite3.connect(example / "warehouse.db") as database:
        database.execute(f"delete from flights where rowid % {KEPT}")
        database.commit()
        database.execute("vacuum")
        frame = pd.read_sql("select * from flights", database)
    text = (example / "problem.toml").read_text(encoding="utf-8")
    begin = text.index("families ")
    end = text.index("seed ")
    quick = text[:begin] + SEARCH.lstrip() + text[end:]
    (example / "problem.toml").write_text(quick, encoding="utf-8")
    (folder / "problem.toml").write_text(quick, encoding="utf-8")
    shutil.copy(example / "warehouse.db", folder / "warehouse.db")
    frame["scheduled"] = pd.to_datetime(frame["scheduled"])
    (folder / "data").mkdir()
    frame.to_parquet(folder / "data" / "flights.parquet", index=False)
    known = frame.drop(columns=["arr_delay", "dep_delay", "flight"]).dropna(subset=["late"])
    known.to_parquet(folder / "frame.parquet", index=False)


@pytest.mark.parametrize(
    "page",
    [p for p in PAGES if any(b.page == p for b in BLOCKS)],
    ids=lambda p: str(p.relative_to(ROOT)),
)
def test_everything_that_a_page_shows_runs(page: Path, shown: Shown) -> None:
    mine = [b for b in BLOCKS if b.page == page]
    failed = []
    for block in mine:
        try:
            shown.run(block)
        except (AssertionError, subprocess.TimeoutExpired) as error:
            failed.append(str(error))
    assert failed == [], "\n\n".join(failed)
