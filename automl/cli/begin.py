"""The command that begins a problem: init."""

from __future__ import annotations

import shlex
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from automl import progress
from automl.cli.app import SETUP, Debug, Json, Quiet, app
from automl.cli.console import print_document
from automl.cli.inputs import prepare
from automl.cli.questions import Questions, on_a_terminal

if TYPE_CHECKING:
    from automl.api.start import Started

__all__ = ["init"]

Columns = list[str] | None


def _option(text: str) -> Parameter:
    return Parameter(help=text, negative="")


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """Options of init that replace guesses, as typed."""

    time: Annotated[str, _option("Column that says when each row became true.")] = ""
    key: Annotated[Columns, _option("Column that identifies a row; again for more.")] = None
    task: Annotated[str | None, _option("binary, multiclass or regression.")] = None
    positive: Annotated[str | None, _option("Class whose probability is predicted.")] = None
    metric: Annotated[str | None, _option("Metric to optimise.")] = None
    block: Annotated[str | None, _option("One retraining period, such as 7d.")] = None
    horizon: Annotated[str | None, _option("How far ahead rows are predicted, such as 7d.")] = None
    label_delay: Annotated[
        str | None, _option("How long after its time a row's target is known, such as 1d.")
    ] = None
    ignore: Annotated[
        Columns, _option("Column that is not known when the prediction is made; again for more.")
    ] = None
    personal: Annotated[
        Columns, _option("Column that never leaves the source; again for more.")
    ] = None
    timezone: Annotated[
        str | None, _option("Zone of times without one, such as Europe/Zurich.")
    ] = None
    as_of: Annotated[str | None, _option("Where the rows to predict begin.")] = None

    @property
    def given(self) -> dict[str, Any]:
        """By name of the option; a class label that is a number as a number."""
        return {**asdict(self), "positive": _number_or_text(self.positive)}


@app.command(group=SETUP, usage="automl init [OPTIONS] SOURCE [TABLE]")
def init(
    source: str = "",
    table: str = "",
    /,
    *,
    target: str = "",
    known: Known | None = None,
    budget: str = "60s",
    name: str = "",
    folder: str = "",
    template: str = "",
    yes: bool = False,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> int:
    """Write the problem file of a table: guesses with reasons, checked on the source.

    Questions are put on a terminal, unless --yes is given; options replace guesses.

    Parameters
    ----------
    source
        A file, a folder of files, or a database URL.
    table
        Table of the database, or a query.
    target
        Column to predict.
    budget
        Time for sweep and refit.
    name
        Name of the problem.
    folder
        Where the problem file goes. Default: the current folder; of a template, a folder of its name.
    template
        Copy a worked example instead: churn, forecast, lead-scoring or panel.
    yes
        Put no questions.
    """
    where, given = Path(folder or template or "."), (known or Known()).given
    prepare(where.resolve())
    from automl import report
    from automl.api.start import begin, from_template, look

    if template:
        started = from_template(template, where, source=source)
    else:
        with progress.step("read a sample"):
            found = look(source, table, where, time=given["time"], target=target)
        if on_a_terminal() and not (yes or json):
            target, given = Questions(found.origin.sampled.frame).put(target, given)
        started = begin(found, target, given, budget=budget, name=name)
    print_document(_document(started), report.started_text, as_json=json)
    return next((c["exit_code"] for c in started.checked["connections"] if not c["passed"]), 0)


def _document(started: Started) -> dict[str, Any]:
    file = started.project.problem.file
    shown = file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file
    command = f"automl cycle {shlex.quote(str(shown))} --as-of {started.document['as_of']}"
    return {**started.document, "next": command}


def _number_or_text(value: str | None) -> int | float | str | None:
    """A class label as typed: a number if it is one."""
    for convert in (int, float):
        try:
            return None if value is None else convert(value)
        except ValueError:
            continue
    return value
