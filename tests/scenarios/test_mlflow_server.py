"""A real MLflow server that goes away in the middle of a cycle: exit 5 soon, or on without it, and nothing is lost."""

from __future__ import annotations

import time
from pathlib import Path

import mlflow
import pandas as pd
import pytest

from automl.tracking import registry
from tests.support.commands import Done, Launcher
from tests.support.mlflow_server import mlflow_behind_proxy
from tests.support.parcels import write_problem

EDIT = {
    "trials   = 4": "trials   = 2",
    "[validation]": '[publish]\nparquet = "out"\n\n[validation]',
}
LAG = "MLflow is not up to date; the next command updates it"
DAY = "2026-03-02"
TRANSFER = 20.0
BOUND = 15 + TRANSFER  # seconds that a failure may add to a cycle


def short_transfers() -> None:
    """In this process."""
    registry.TRANSFER_SECONDS = TRANSFER


@pytest.mark.slow  # a server starts, ten commands run
def test_a_server_that_goes_away_ends_a_cycle_soon_and_after_the_commit_delays_only_mlflow(
    tmp_path: Path, launcher: Launcher
) -> None:
    file = write_problem(tmp_path, replace=EDIT)

    def cycle() -> Done:
        return launcher.run(
            "cycle", str(file), "--as-of", DAY, "--json", before=f"{__name__}:short_transfers",
            MLFLOW_TRACKING_URI=address,
        )  # fmt: skip

    with mlflow_behind_proxy(tmp_path) as (proxy, address):
        for pattern, how, down in (
            ("runs/log-batch", "cut", True),
            ("mlflow-artifacts", "500", False),
            ("mlflow-artifacts", "cut", False),
            ("mlflow-artifacts", "drip", False),
            ("model-versions/create", "drip", False),
        ):
            proxy.fail(pattern, how, down=down)
            began = time.monotonic()
            done = cycle()
            seconds = time.monotonic() - began
            assert done.code == 5, done.err
            assert proxy.failed, done.err
            assert done.document["error"]["code"] == "mlflow_unreachable"
            assert seconds < 60 + BOUND, (pattern, how)  # a cycle itself takes a few
        proxy.fail("registered-models/alias", "drip", down=True)
        done = cycle()
        assert (done.code, done.document["status"]) == (0, "published"), done.err
        assert LAG in " ".join(done.document["warnings"])
        copy = list((tmp_path / "out").rglob("*.parquet"))
        assert sum(len(pd.read_parquet(f)) for f in copy) == done.document["rows"]
        again = cycle()
        assert (again.code, again.document["already"]) == (0, True)
        assert LAG in " ".join(again.document["warnings"])
        proxy.fail("")
        last = cycle()
        assert (last.code, last.document["warnings"]) == (0, [])
        client = mlflow.MlflowClient(address, address)
        assert client.get_model_version_by_alias("parcels", "champion").version == "1"
        # runs whose id the store never learned, because their request failed, are ended as killed
        runs = client.search_runs(["1"], "tags.kind = 'cycle'")
        assert "RUNNING" not in {run.info.status for run in runs}
        (run,) = [r for r in runs if r.info.status == "FINISHED"]
        assert run.data.tags["decision"] == "promoted (first)"
