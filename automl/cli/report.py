"""The command that writes the report of a cycle."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from automl.cli.app import INSPECT, Cycle, CycleAsOf, Debug, File, Json, Quiet, app
from automl.cli.console import print_document, stdout_to_stderr
from automl.cli.inputs import chosen_cycle, open_problem

__all__ = ["report"]

To = Annotated[
    Path | None,
    Parameter(name="--to", help="File to write. Default: report.html in the workspace."),
]


@app.command(group=INSPECT)
def report(
    file: File,
    /,
    *,
    cycle: Cycle = None,
    as_of: CycleAsOf = None,
    since: str | None = None,
    to: To = None,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> int:
    """Write a cycle's report as one HTML page: decision, live performance, leaderboard, plots, undo.

    Every cycle leaves its own; this writes it again with the newest numbers. Default: the newest cycle, whatever
    became of it.

    Parameters
    ----------
    since
        Show what happened over time from then on: a time, or how long before now, such as 4w. Default: from the
        beginning.
    """
    problem, workspace = open_problem(file)
    with stdout_to_stderr():
        from automl.api.arguments import since_of
        from automl.api.reporting import make_report

        made = make_report(
            problem,
            workspace,
            as_of=chosen_cycle(cycle, as_of),
            since=since_of(since, "--since", problem.zone),
            to=to.resolve() if to else None,
        )
    document = {**made.document, "path": str(made.path), "bytes": made.path.stat().st_size}
    return print_document(document, _text, as_json=json)


def _text(document: Mapping[str, Any]) -> Any:
    from rich.console import Group
    from rich.text import Text

    from automl.report.lines import command, facts, sentence

    head = f"{document['problem']} as of {document['as_of']}: {document['status']}"
    size = f"{document['bytes'] / 1000:,.0f} kB; opens in any browser, needs no network"
    return Group(
        Text(head, style="bold"),
        sentence(document["decision"]["reason"].splitlines()[0]),
        facts({"report": command(document["path"]), "size": size}),
    )
