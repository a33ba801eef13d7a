"""Takes the pictures of README and docs: `python docs/photograph.py [mlflow] [prefect] [report]`.

Runs cycles of made-up parcels in a folder of its own, serves MLflow and Prefect, and opens their pages in headless
Chromium. Names of pages are names of files in `docs/pictures`.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from automl.workspace import DEFAULTS  # noqa: E402

for _name, _value in DEFAULTS.items():  # before numpy reads the environment
    os.environ.setdefault(_name, _value)

import httpx  # noqa: E402

from automl import open_project  # noqa: E402
from tests.support.browser import Browser, open_browser  # noqa: E402
from tests.support.shown_cycles import MlflowPlaces, make_cycles, places, serving  # noqa: E402
from tests.support.shown_flows import PUBLISHED, REFUSED, shown_flows  # noqa: E402

PICTURES = ROOT / "docs" / "pictures"
LOGS = {"prefect-run": "pull history", "prefect-failure": "lost"}  # among the first lines
SETTLE = 2.5  # seconds in which a page that shows its text draws its lines


def take(browser: Browser, name: str) -> None:
    """A picture of what the window shows."""
    time.sleep(SETTLE)
    browser.picture(PICTURES / f"{name}.png")


def photograph_mlflow(folder: Path) -> None:
    """The views, a cycle's run, trials compared, the registered model."""
    file = make_cycles(folder / "cycles")
    with serving(file) as (base, first_page), open_browser() as browser:
        there: MlflowPlaces = places(file, base)
        browser.open(first_page, there.newest)
        browser.wait("p_better")
        take(browser, "decisions")
        for name, address, until in (
            ("live-loss", there.chart, "over_cycles/live_loss vs"),
            ("leaderboard", there.view("leaderboard"), "cv_roc_auc"),
            ("failed-trials", there.view("failed"), "not today"),
            ("decision-note", there.run, "undo:"),
            ("compare", there.compare, "cv_roc_auc"),
            ("registered-model", there.model, "champion"),
        ):
            browser.open(address, until)
            take(browser, name)


def photograph_prefect(folder: Path) -> None:
    """A deployment, its form, a run, its leaderboard, a run that was refused."""
    with shown_flows(folder) as server, open_browser() as browser:
        for name, address in prefect_pages(server.api.removesuffix("/api")).items():
            browser.open(address, "js:document.body.innerText.length > 300")
            if name in LOGS:
                browser.wait(LOGS[name])
                time.sleep(4 * SETTLE)  # the steps are drawn one by one
            take(browser, name)


def prefect_pages(url: str) -> dict[str, str]:
    """Name of each picture -> address of its page."""

    def found(kind: str, body: dict[str, Any]) -> Any:
        response = httpx.post(f"{url}/api/{kind}/filter", json=body, timeout=60)
        response.raise_for_status()
        return response.json()

    runs = found("flow_runs", {"sort": "EXPECTED_START_TIME_DESC"})
    run = next(
        r for r in runs if r["name"].startswith(PUBLISHED) and r["state_name"] == "Completed"
    )
    failed = next(r for r in runs if r["name"].startswith(REFUSED) and r["state_type"] == "FAILED")
    deployment = run["deployment_id"]
    [table] = found(
        "artifacts",
        {
            "artifacts": {
                "flow_run_id": {"any_": [run["id"]]},
                "type": {"any_": ["table"]},
                "key": {"any_": [f"leaderboard-{PUBLISHED}"]},
            }
        },
    )
    return {
        "prefect-deployment": f"{url}/deployments/deployment/{deployment}",
        "prefect-form": f"{url}/deployments/deployment/{deployment}/run",
        "prefect-run": f"{url}/runs/flow-run/{run['id']}",
        "prefect-leaderboard": f"{url}/artifacts/artifact/{table['id']}",
        "prefect-failure": f"{url}/runs/flow-run/{failed['id']}",
    }


def photograph_report(folder: Path) -> None:
    """The first screen of a cycle's report."""
    page = open_project(make_cycles(folder / "cycles", cycles=4)).report().path
    with open_browser(1180, 1480) as browser:
        browser.open(page.as_uri(), "Written by automl")
        take(browser, "report")


PARTS = {"mlflow": photograph_mlflow, "prefect": photograph_prefect, "report": photograph_report}


def main() -> None:
    """Take every picture, or those of the named parts."""
    for name in sys.argv[1:] or PARTS:
        with tempfile.TemporaryDirectory() as folder:
            PARTS[name](Path(folder))


if __name__ == "__main__":
    main()
