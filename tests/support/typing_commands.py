"""A folder to type commands in, as users do: real processes, checked by what they leave."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.commands import Launcher

HEAVY = ("mlflow", "prefect", "optuna", "sklearn", "lightgbm")


@dataclass(frozen=True)
class Finished:
    """How a command ended and what it wrote."""

    code: int
    out: str
    err: str
    seconds: float

    @property
    def document(self) -> dict[str, Any]:
        """The one JSON document on stdout; fails if there is anything else."""
        assert self.out.count("\n") == 1
        document = json.loads(self.out)
        assert isinstance(document, dict)
        return document


@dataclass(frozen=True)
class Place:
    """A folder with a problem file, and another one to type commands in."""

    folder: Path
    elsewhere: Path
    launcher: Launcher | None = None

    @property
    def file(self) -> Path:
        return self.folder / "problem.toml"

    def run(self, *arguments: str, python: tuple[str, ...] = (), **environment: str) -> Finished:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("AUTOML_", "MLFLOW_"))}
        started = time.monotonic()
        done = subprocess.run(
            [sys.executable, *python, "-m", "automl.cli", *arguments],
            cwd=self.elsewhere,
            env={**kept, "COLUMNS": "120", "AUTOML_REPORT": "off", **environment},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        return Finished(done.returncode, done.stdout, done.stderr, time.monotonic() - started)

    def order(self, *arguments: str, **environment: str) -> Finished:
        """As `run`, but the process is forked from one that has the libraries."""
        assert self.launcher is not None
        started, more = time.monotonic(), {"COLUMNS": "120", **environment}
        done = self.launcher.run(*arguments, at=self.elsewhere, **more)
        return Finished(done.code, done.out, done.err, time.monotonic() - started)

    def variant(self, replace: dict[str, str], *, contract: bool = True) -> Path:
        """The same problem from another file, changed; with a copy of the contract unless `contract` is false."""
        text = self.file.read_text(encoding="utf-8")
        for old, new in replace.items():
            assert old in text
            text = text.replace(old, new)
        file = self.folder / "variant.toml"
        file.write_text(text, encoding="utf-8")
        (self.folder / "variant.contract.json").unlink(missing_ok=True)
        if contract:
            shutil.copy(
                self.folder / "problem.contract.json", self.folder / "variant.contract.json"
            )
        return file

    def standing(self) -> dict[str, object]:
        """Everything that readers of tables and users of the registry rely on, byte for byte."""
        store = sqlite3.connect(self.folder / ".automl" / "automl.db")
        models = sqlite3.connect(self.folder / ".automl" / "mlflow.db")
        try:
            return {
                "predictions": repr(
                    store.execute("select * from parcels order by parcel").fetchall()
                ),
                "pointer": store.execute(
                    "select table_name, problem, generation from automl_pointer"
                ).fetchall(),
                "releases": store.execute(
                    "select id, model_version, digests, fingerprint from automl_release"
                ).fetchall(),
                "aliases": models.execute(
                    "select name, alias, version from registered_model_aliases"
                ).fetchall(),
                "versions": models.execute(
                    "select name, version, current_stage from model_versions"
                ).fetchall(),
                "contract": (self.folder / "problem.contract.json").read_bytes(),
            }
        finally:
            store.close()
            models.close()
