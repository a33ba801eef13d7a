"""One flow run in a process of its own: `python -m flows.run ID FILE`, started by `flows.serving`.

A fresh process reads the settings of its problem file again, so credentials may change while a schedule is served.
It ends with the process that started it.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import warnings
from pathlib import Path
from uuid import UUID

from automl.api.settings import quiet_loggers
from automl.workspace import export_settings

__all__ = ["main"]

HEARTBEAT = "PREFECT_FLOWS_HEARTBEAT_FREQUENCY"
LOOK_SECONDS = 0.5  # between two looks at the parent


def main() -> None:
    """Run the flow run, and exit with 0 if Prefect knows how it ended."""
    run_id, file, owner = UUID(sys.argv[1]), Path(sys.argv[2]), os.getppid()
    threading.Thread(target=_end_with, args=(owner,), name="owner", daemon=True).start()
    export_settings(
        file.resolve().parent
    )  # before libraries are imported: they read the environment
    quiet_loggers()
    warnings.simplefilter("ignore")  # libraries' own; ours go through logging

    from prefect.client.orchestration import get_client  # noqa: PLC0415  after the settings
    from prefect.engine import handle_engine_signals  # noqa: PLC0415
    from prefect.flow_engine import run_flow  # noqa: PLC0415
    from prefect.settings import (  # noqa: PLC0415
        PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
        temporary_settings,
    )

    from flows.pipelines import FLOWS  # noqa: PLC0415

    with get_client(sync_client=True) as client:
        run = client.read_flow_run(run_id)
        name = client.read_flow(run.flow_id).name
    # heartbeats would hold each run for a second at its end, and who serves it sees its process
    quiet = {} if HEARTBEAT in os.environ else {PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}
    with temporary_settings(quiet), handle_engine_signals(run_id):
        run_flow(FLOWS[name], flow_run=run, return_type="state")


def _end_with(owner: int) -> None:
    """End this process and its group when the process that started it has gone."""
    while os.getppid() == owner:
        time.sleep(LOOK_SECONDS)
    os.killpg(os.getpgid(0), signal.SIGKILL)


if __name__ == "__main__":
    main()
