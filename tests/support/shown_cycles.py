"""A workspace with cycles to look at: four weeks of parcels, with trials that were pruned and one that failed."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from urllib.parse import quote

import mlflow

from automl.api.reporting import report_of_cycle
from automl.problem import load_problem
from automl.report import mlflow_pages
from automl.tracking import LIVE, view_link
from automl.workspace import open_workspace
from tests.support.failing_family import write_failing_family
from tests.support.parcels import AS_OF, make_world, write_problem
from tests.support.prefect_server import free_port, start, stop, wait_for
from tests.support.workspaces import run_cycle

__all__ = ["MlflowPlaces", "make_cycles", "places", "serving"]

CYCLES = 4


def make_cycles(folder: Path, cycles: int = CYCLES) -> Path:
    """Weekly cycles in a folder, the last one at `AS_OF` with its report; returns their problem file."""
    folder.mkdir(exist_ok=True)
    entry = write_failing_family(folder, "raises")
    edits = {
        '"linear"]': f'"linear", "{entry}"]',
        "trials   = 4": "trials   = 8",
        'name = "roc_auc"': 'name = "roc_auc"\nalso = ["log_loss"]\nslices = ["carrier"]',
    }
    file = write_problem(folder, replace=edits, frame=make_world())
    for week in reversed(range(cycles)):
        run_cycle(file, AS_OF - timedelta(days=7 * week))
    warning = report_of_cycle(
        load_problem(file), replace(open_workspace(file), reports=True), AS_OF
    )
    assert not warning, warning
    return file


@contextmanager
def serving(file: Path) -> Iterator[tuple[str, str]]:
    """MLflow's server as `automl ui` starts it; its address, and that of the page to open."""
    pages = mlflow_pages(load_problem(file), open_workspace(file), free_port())
    base, log = pages.health.removesuffix("/health"), file.parent / "ui.log"
    environment = {**os.environ, **pages.environment}
    server = start(list(pages.command), environment, log)
    try:
        wait_for(pages.health, log)
        yield base, pages.link
    finally:
        stop(server)


@dataclass(frozen=True, slots=True, kw_only=True)
class MlflowPlaces:
    """Addresses of the pages that a reviewer opens."""

    base: str
    experiment: str
    newest: str  # name of the newest cycle's run
    run: str
    compare: str  # the three best trials
    model: str

    def view(self, name: str) -> str:
        """A saved view."""
        return view_link(self.base, self.experiment, name)

    @property
    def chart(self) -> str:
        """Live and promised losses as lines."""
        return f"{self.view(LIVE)}&compareRunsMode=CHART"


def places(file: Path, base: str) -> MlflowPlaces:
    """The pages of the newest cycle of a problem."""
    problem, workspace = load_problem(file), open_workspace(file)
    client = mlflow.MlflowClient(workspace.tracking_uri, workspace.tracking_uri)
    experiment = client.get_experiment_by_name(problem.name).experiment_id
    cycle = client.search_runs([experiment], "tags.kind = 'cycle'", max_results=1)[0]
    trials = client.search_runs(
        [experiment],
        f"tags.cycle = '{cycle.data.tags['cycle']}' and tags.state = 'complete'",
        order_by=[f"metrics.cv_{problem.metric.name} DESC"],
        max_results=3,
    )
    runs = json.dumps([t.info.run_id for t in trials])
    return MlflowPlaces(
        base=base,
        experiment=experiment,
        newest=cycle.info.run_name,
        run=f"{base}/#/experiments/{experiment}/runs/{cycle.info.run_id}",
        compare=f"{base}/#/compare-runs?runs={quote(runs)}&experiments={quote(json.dumps([experiment]))}",
        model=f"{base}/#/models/{problem.name}",
    )


if __name__ == "__main__":
    make_cycles(Path(sys.argv[1]))
