"""Commands that change which version is champion: rollback, approve, reject."""

from __future__ import annotations

from automl import progress
from automl.cli.app import REVIEW, Debug, File, Json, LedgerReason, Quiet, app
from automl.cli.console import print_result, stdout_to_stderr
from automl.cli.inputs import open_problem

__all__ = ["approve", "reject", "rollback"]


@app.command(group=REVIEW)
def rollback(
    file: File,
    /,
    *,
    to: int | None = None,
    reason: LedgerReason,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> int:
    """Make an earlier version champion again and publish its predictions, in one transaction.

    Parameters
    ----------
    to
        Version to return to. Default: the previous version; required if the champion is itself a rollback.
    """
    problem, workspace = open_problem(file)
    with stdout_to_stderr(), progress.step("rollback"):
        from automl import review

        result = review.rollback(problem, workspace, reason, to=to)
    return print_result(result, workspace, as_json=json)


@app.command(group=REVIEW, usage="automl approve --reason STR [OPTIONS] FILE [VERSION]")
def approve(
    file: File,
    /,
    version: int | None = None,
    *,
    reason: LedgerReason,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> int:
    """Release the challenger awaiting approval (promotion.mode = "review") with its predictions.

    Parameters
    ----------
    version
        Model version to approve. Default: the one awaiting approval.
    """
    problem, workspace = open_problem(file)
    with stdout_to_stderr(), progress.step("approve"):
        from automl import review

        result = review.approve(problem, workspace, reason, version=version)
    return print_result(result, workspace, as_json=json)


@app.command(group=REVIEW, usage="automl reject --reason STR [OPTIONS] FILE [VERSION]")
def reject(
    file: File,
    /,
    version: int | None = None,
    *,
    reason: LedgerReason,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> int:
    """Reject the challenger awaiting approval; for five cycles its blend needs stronger evidence.

    Parameters
    ----------
    version
        Model version to reject. Default: the one awaiting approval.
    """
    problem, workspace = open_problem(file)
    with stdout_to_stderr(), progress.step("reject"):
        from automl import review

        result = review.reject(problem, workspace, reason, version=version)
    return print_result(result, workspace, as_json=json)
