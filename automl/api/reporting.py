"""The report of a cycle: made in a process of its own once the command has ended, so that its failure fails nothing."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from automl import progress
from automl.errors import AutomlError
from automl.redaction import redact

if TYPE_CHECKING:
    from automl.problem import Problem
    from automl.store import Cycle
    from automl.workspace import Workspace

__all__ = ["Report", "make_report", "report_of_cycle", "report_of_failed"]

PAGE, PLOTS, ERROR, UNLOGGED = "report.html", "plots", "error.txt", "unlogged"
SECONDS = 120.0  # after a cycle; then its process is killed; it usually takes less than five
PATIENCE = 600.0  # of a user who has typed the command
KEPT = 60  # newest reports of a problem
ENDED = ("failed", "refused")  # cycles that raised
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class Report:
    """The page that was written, and the document it was made of; a notebook shows the page."""

    path: Path
    document: Mapping[str, Any] = field(repr=False)

    def __repr__(self) -> str:
        d = self.document
        return f"report of {d['problem']} as of {d['as_of']} ({d['status']}): {self.path}"

    def _repr_html_(self) -> str:
        page = escape(self.path.read_text(encoding="utf-8"), quote=True)
        style = "width:100%;height:80vh;border:1px solid #d8dee6"
        return f'<iframe title="report" srcdoc="{page}" style="{style}"></iframe>'


def make_report(
    problem: Problem,
    workspace: Workspace,
    *,
    as_of: datetime | None = None,
    since: datetime | None = None,
    to: Path | None = None,
    seconds: float = PATIENCE,
) -> Report:
    """Write the report of a cycle with the newest numbers.

    Parameters
    ----------
    as_of
        Of the cycle. Default: the newest, whatever became of it.
    since
        From when on what happened over time is shown. Default: from the beginning.
    to
        The file. Default: `report.html` among the problem's reports.
    seconds
        After which it is given up.

    Raises
    ------
    ProblemError
        There is no such cycle.
    AutomlError
        The report could not be made.
    """
    from automl.processes import UserCodeError, UserProcess

    file = to or workspace.reports_of(problem.name) / PAGE
    try:
        with (
            progress.step("write report"),
            UserProcess(path=problem.file.parent) as process,
        ):
            until = time.monotonic() + seconds
            document = process.call(_make, problem, workspace, as_of, since, file, until=until)
    except UserCodeError as error:
        trace = _leave_trace(file.parent, error)
        raise AutomlError(
            f"the report was not written: {error}; its traceback is in {trace}",
            code="no_report",
            next_step="automl why FILE shows the decision without it.",
        ) from error
    return Report(file, document)


def report_of_cycle(problem: Problem, workspace: Workspace, as_of: datetime) -> str:
    """Write the report of a cycle that has just ended and log it; returns a warning, empty if all went well."""
    from automl.store import Store

    if not workspace.reports:
        return ""
    try:
        cycle = Store(workspace).find_cycle(problem.name, "retrain", as_of)
        if cycle is None:
            return ""
        folder = workspace.report_of(problem.name, as_of, cycle.attempt)
        began = time.monotonic()
        make_report(problem, workspace, as_of=as_of, to=folder / PAGE, seconds=SECONDS)
        _log.info("report: %.1f s, %s", time.monotonic() - began, folder / PAGE)
        run = cycle.receipts.get("run_id")
        if run:
            (folder / UNLOGGED).write_text(str(run), encoding="utf-8")
        _log_reports(problem, workspace)
        _forget_old(workspace, problem)
    except AutomlError as error:
        return str(error)
    except Exception as error:  # noqa: BLE001  a report never fails a cycle
        return f"the report was not written: {redact(str(error))[:300]}"
    return ""


def report_of_failed(
    problem: Problem, workspace: Workspace, as_of: datetime, since: datetime
) -> None:
    """Write the report of a cycle that has failed or was refused since a moment."""
    from automl.store import Store

    with suppress(Exception):  # the error of the cycle is what its user must see
        cycle = Store(workspace).find_cycle(problem.name, "retrain", as_of)
        if cycle is not None and _failed_since(cycle, since):
            warning = report_of_cycle(problem, workspace, as_of)
            if warning:
                _log.warning(warning)


def _failed_since(cycle: Cycle, since: datetime) -> bool:
    return cycle.status in ENDED and cycle.finished_at is not None and cycle.finished_at >= since


def _make(
    problem: Problem,
    workspace: Workspace,
    as_of: datetime | None,
    since: datetime | None,
    file: Path,
) -> dict[str, Any]:
    """Write page and pictures; runs in a process of its own, which imports what it needs."""
    from automl.explanation import explain, forget_inputs
    from automl.files import replacing, umask
    from automl.report import cycle_report, newest_cycle
    from automl.report.figures import pictures
    from automl.report.html import report_html
    from automl.store import Store

    cycle = newest_cycle(Store(workspace), problem, as_of)
    own = workspace.report_of(problem.name, cycle.as_of, cycle.attempt)
    with umask(workspace.umask):
        explain(problem, workspace, own)
        document = cycle_report(problem, workspace, cycle.as_of, since=since)
        drawn = pictures(document)
        file.parent.mkdir(parents=True, exist_ok=True)
        with replacing(file) as aside:
            aside.write_text(report_html(document, drawn), encoding="utf-8")
        if file.parent == own:
            shutil.rmtree(own / PLOTS, ignore_errors=True)
            (own / PLOTS).mkdir()
            for picture in drawn:
                (own / PLOTS / f"{picture.name}.png").write_bytes(picture.png())
        for folder in workspace.reports_of(problem.name).glob("*/"):
            # also of an earlier cycle whose report was never written; a later one may be about to read its own
            if folder.name <= own.name:
                forget_inputs(folder)
    return document


def _log_reports(problem: Problem, workspace: Workspace) -> None:
    """Log every report that MLflow does not have yet to the run of its cycle."""
    waiting = sorted(workspace.reports_of(problem.name).glob(f"*/{UNLOGGED}"))
    if not waiting:
        return
    from automl.tracking import open_registry

    registry = open_registry(problem, workspace)
    for marker in waiting:
        registry.log_report(marker.read_text(encoding="utf-8"), marker.parent)
        marker.unlink()


def _forget_old(workspace: Workspace, problem: Problem) -> None:
    folders = sorted(p for p in workspace.reports_of(problem.name).iterdir() if p.is_dir())
    for folder in folders[:-KEPT]:
        shutil.rmtree(folder, ignore_errors=True)


def _leave_trace(folder: Path, error: Any) -> Path:
    """Write the traceback where the message says."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / ERROR).write_text(redact(f"{error}\n\n{error.trace}\n"), encoding="utf-8")
    return folder / ERROR
