"""Pictures of Prefect's pages for docs/operations.md: `python docs/photograph.py URL PROBLEM REFUSED`.

Needs headless Chromium, and a Prefect server at URL on which a run of PROBLEM has been published and one of REFUSED
has failed. Pages of a server with a login are not reached.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import httpx

PICTURES = Path(__file__).parent / "pictures"
PATIENCE = 60_000  # milliseconds of the page's own time, in which it loads what it shows
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def browser() -> str | None:
    """The path of a Chromium, if there is one."""
    return next((found for name in BROWSERS if (found := shutil.which(name))), None)


def look(url: str, *arguments: str) -> str:
    """Open a page in headless Chromium; returns what it prints."""
    command = browser()
    if command is None:
        raise FileNotFoundError("no Chromium was found")
    with tempfile.TemporaryDirectory() as profile:
        done = subprocess.run(
            [
                command, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
                f"--user-data-dir={profile}", f"--virtual-time-budget={PATIENCE}",
                "--force-prefers-reduced-motion", *arguments, url,
            ],
            capture_output=True, text=True, check=True, timeout=600,
        )  # fmt: skip
    return done.stdout


def pages(url: str, problem: str, refused: str) -> dict[str, str]:
    """Name of each picture -> address of its page."""

    def found(kind: str, body: dict[str, Any]) -> Any:
        response = httpx.post(f"{url}/api/{kind}/filter", json=body, timeout=60)
        response.raise_for_status()
        return response.json()

    newest = {"sort": "EXPECTED_START_TIME_DESC"}
    runs = found("flow_runs", newest)
    run = next(r for r in runs if r["name"].startswith(problem) and r["state_name"] == "Completed")
    failed = next(r for r in runs if r["name"].startswith(refused) and r["state_type"] == "FAILED")
    deployment = run["deployment_id"]
    [table] = found(
        "artifacts",
        {
            "artifacts": {
                "flow_run_id": {"any_": [run["id"]]},
                "type": {"any_": ["table"]},
                "key": {"any_": [f"leaderboard-{problem}"]},
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


def main() -> None:
    """Take every picture."""
    for name, page in pages(*sys.argv[1:4]).items():
        file = PICTURES / f"{name}.png"
        look(page, "--window-size=1400,1000", f"--screenshot={file}")


if __name__ == "__main__":
    main()
