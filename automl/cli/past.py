"""Commands about past cycles: backfill, reproduce."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from automl import progress
from automl.cli.app import INSPECT, RUN, Debug, File, Json, Quiet, app
from automl.cli.console import print_document, stdout_to_stderr
from automl.cli.inputs import open_problem

__all__ = ["backfill", "reproduce"]

From = Annotated[str, Parameter(name="--from", help="First slot, such as 2013-09-02.")]
To = Annotated[str, Parameter(name="--to", help="The slots end before this time.")]
Past = Annotated[str, Parameter(name="--cycle", help="as_of of the cycle, UTC without an offset.")]


@app.command(group=RUN)
def backfill(
    file: File,
    /,
    *,
    start: From,
    end: To,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> int:
    """Run the missed cycles of a window, oldest first. Readers keep the newest predictions."""
    problem, workspace = open_problem(file)
    with stdout_to_stderr(), progress.step("backfill"):
        from automl import backfill as filling
        from automl import report
        from automl.api.arguments import required_moment

        done = filling.backfill(
            problem, workspace, required_moment(start, "--from"), required_moment(end, "--to")
        )
    print_document(done.document, report.backfill_text, as_json=json)
    return done.exit_code


@app.command(group=INSPECT)
def reproduce(
    file: File,
    /,
    *,
    cycle: Past,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> int:
    """Rebuild a past cycle from its snapshot; exit 0 if it is equal, 1 with the first difference."""
    problem, workspace = open_problem(file)
    with stdout_to_stderr(), progress.step("reproduce"):
        from automl import report
        from automl.api.arguments import required_moment
        from automl.reproduction import reproduce as rebuild

        found = rebuild(problem, workspace, required_moment(cycle, "--cycle"))
    print_document(found.document, report.reproduction_text, as_json=json)
    return 0 if found.equal else 1
