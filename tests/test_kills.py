"""A power cut at any step boundary leaves what was before, or what comes after; never a mix."""

from __future__ import annotations

import os
import re
import sqlite3
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import mlflow
import pytest

from tests.conftest import AS_OF, write_problem

ROOT = Path(__file__).parents[1]
POINTS = sorted(
    {
        name
        for file in (ROOT / "automl").rglob("*.py")
        for name in re.findall(r'fault\("([a-z_.]+)"\)', file.read_text(encoding="utf-8"))
        # those of rollback, approve and reject are passed by no cycle: tests/test_undo.py kills there
        if not name.startswith(("rollback.", "approve.", "reject."))
    }
)
OF_SCORE_ALONE = {"publish.in_commit", "publish.committed"}
QUICK = {"release.committed"}  # the others run in `make test-all`


def _automl(file: Path, verb: str, as_of: str, fault: str = "") -> int:
    environment = {**os.environ, "AUTOML_FAULT": fault}
    command = [sys.executable, "-m", "automl.cli", verb, str(file), "--as-of", as_of, "--json"]
    return subprocess.run(command, env=environment, capture_output=True, check=False).returncode


def _standing(file: Path) -> dict[str, object]:
    """What readers and the registry see, through nothing of ours."""
    with sqlite3.connect(file.parent / ".automl" / "automl.db") as database:
        live = database.execute(
            "select generation, model_version, count(*) from parcels group by 1, 2"
        ).fetchall()
        releases = database.execute(
            "select model_version from automl_release order by id desc"
        ).fetchall()
        decisions = database.execute(
            "select count(*) from automl_decision group by as_of, attempt"
        ).fetchall()
    uri = f"sqlite:///{file.parent / '.automl' / 'mlflow.db'}"
    client = mlflow.MlflowClient(uri, registry_uri=uri)  # the process may have another by default
    champion = int(client.get_model_version_by_alias("parcels", "champion").version)
    running = client.search_runs(["1"], "attributes.status = 'RUNNING'")
    trials = client.search_runs(["1"], "tags.kind = 'trial'")
    names = [(t.data.tags["cycle"], t.info.run_name) for t in trials]
    return {"live": live, "releases": [v for (v,) in releases], "decisions": decisions, "champion": champion,
            "running": len(running), "twice": len(names) - len(set(names))}  # fmt: skip


@pytest.mark.parametrize(
    "point", [p if p in QUICK else pytest.param(p, marks=pytest.mark.slow) for p in POINTS]
)
def test_killed_at_a_boundary_then_run_again_twice(point: str, tmp_path: Path) -> None:
    file = write_problem(tmp_path)
    week, now = f"{AS_OF - timedelta(days=7):%Y-%m-%d}", f"{AS_OF:%Y-%m-%d}"
    verb = "score" if point in OF_SCORE_ALONE or point == "score.opened" else "cycle"
    assert _automl(file, "cycle", week) == 0
    before = _standing(file)
    if verb == "score":
        assert _automl(file, "retrain", now) == 0
    assert _automl(file, verb, now, fault=point) == -9, f"{point} was not passed"
    killed = _standing(file)
    assert len(killed["live"]) == 1, "readers see exactly one generation of one version"  # type: ignore[arg-type]
    committed = point.endswith(".committed") or point == "retrain.told"
    if not committed:
        assert killed["live"] == before["live"], "before the commit readers see what they saw"
    assert killed["champion"] in killed["releases"][:2], (
        "the alias is the newest release or the one before"
    )  # type: ignore[index]
    assert _automl(file, verb, now) == 0
    after = _standing(file)
    assert _automl(file, verb, now) == 0
    assert _standing(file) == after, "run again, it is a no-op"
    assert after["champion"] == after["releases"][0]  # type: ignore[index]
    assert after["live"][0][1] == after["releases"][0]  # type: ignore[index]
    assert after["live"] != before["live"]
    assert set(after["decisions"]) == {(1,)}, "one decision per cycle"  # type: ignore[call-overload]
    assert after["running"] == 0
    assert after["twice"] == 0, "no trial is logged twice"


def test_the_points_are_those_of_the_code() -> None:
    assert len(POINTS) >= 12
    assert set(POINTS) >= QUICK | OF_SCORE_ALONE
