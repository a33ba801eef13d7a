"""A problem file opened in Python: one verb per command, with the same words and the same meaning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from automl.api.arguments import Moment, cycle_of, moment_of, run_options
from automl.api.past import PastVerbs
from automl.api.running import Verb, run_verb
from automl.api.settings import apply_settings, quiet_libraries
from automl.api.shown import Shown
from automl.cycles.result import CycleResult
from automl.problem import Problem, Span, load_problem
from automl.workspace import Workspace, open_workspace

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Project", "open_project"]

Plan = Literal["auto", "refit", "warm", "full"]


def open_project(file: str | Path) -> Project:
    """Open a problem file.

    Sets thread limits and MLflow's settings (`mlflow.env`) in the environment of this process, under
    what is set already. Open the project before scikit-learn or LightGBM are imported, or a warning says that
    predictions may be slow; if numpy was imported before, only its own linear algebra keeps its threads.

    Raises
    ------
    ProblemError
        The file is missing or breaks rules; the message lists every mistake.
    """
    path = Path(file).resolve()
    apply_settings(path.parent)
    return Project(load_problem(path), open_workspace(path))


@dataclass(frozen=True, slots=True, eq=False)
class Project(PastVerbs):
    """One problem with its workspace. Verbs raise `AutomlError`; progress goes to the log."""

    problem: Problem
    workspace: Workspace

    # ---- run

    def cycle(
        self,
        *,
        as_of: Moment = None,
        budget: str | Span | None = None,
        plan: Plan = "auto",
        again: bool = False,
        reason: str = "",
        backfill: bool = False,
        dry_run: bool = False,
    ) -> CycleResult:
        """Retrain and score; release and publish in one transaction.

        Parameters
        ----------
        as_of
            The time the cycle pretends it is: text, date, datetime or pandas Timestamp; UTC without a zone. Default: the newest
            slot of the schedule; without one, today 00:00 in the problem's time zone.
        budget
            Instead of sweep.budget, such as "90s" or "5m".
        plan
            "refit": no search; "warm": a small one; "full": from the start points; "auto": by what has changed.
        again, reason
            Run a finished cycle again; the reason is recorded with the decision.
        backfill
            Fill in a cycle older than the newest one.
        dry_run
            Decide, but release and publish nothing; history, trials and the MLflow run are written.

        Raises
        ------
        AutomlError
            Refused or failed; champion and predictions are unchanged.
        """
        return self._run(
            "cycle",
            as_of=as_of,
            budget=budget,
            plan=plan,
            again=again,
            reason=reason,
            backfill=backfill,
            dry_run=dry_run,
        )

    def retrain(
        self,
        *,
        as_of: Moment = None,
        budget: str | Span | None = None,
        plan: Plan = "auto",
        again: bool = False,
        reason: str = "",
        backfill: bool = False,
        dry_run: bool = False,
    ) -> CycleResult:
        """Pull, sweep, decide, release; published predictions stay until the next `score`. As `cycle`."""
        return self._run(
            "retrain",
            as_of=as_of,
            budget=budget,
            plan=plan,
            again=again,
            reason=reason,
            backfill=backfill,
            dry_run=dry_run,
        )

    def score(
        self,
        *,
        as_of: Moment = None,
        again: bool = False,
        reason: str = "",
        backfill: bool = False,
    ) -> CycleResult:
        """Predict the coming rows with the champion and publish them. As `cycle`."""
        return self._run("score", as_of=as_of, again=again, reason=reason, backfill=backfill)

    def monitor(self, *, as_of: Moment = None) -> Shown:
        """Measure published predictions on the labels that have arrived, and watch the newest rows for drift.

        Writes `<table>_performance` and `<table>_drift`, logs metrics to MLflow, and sends alerts.

        Parameters
        ----------
        as_of
            As of `cycle`. Default: the newest slot of schedule.monitor; without one, today 00:00.

        Raises
        ------
        NoModelError
            Nothing was released yet.
        """
        from automl import report
        from automl.monitoring.pipeline import monitor

        options = run_options(as_of=as_of)
        with quiet_libraries():
            found = monitor(self.problem, self.workspace, options)
        return Shown(found.document, report.monitor_text)

    def _run(self, verb: Verb, **options: Any) -> CycleResult:
        wanted = run_options(**options)
        with quiet_libraries():
            return run_verb(self.problem, self.workspace, verb, wanted)

    # ---- look

    def status(self) -> Shown:
        """Champion, live predictions, realised performance, recent cycles."""
        from automl import report

        return Shown(report.status(self.problem, self.workspace), report.status_text)

    def late(self) -> str:
        """A sentence if no cycle has ended for `monitoring.late_after`, as `automl status --all`; else empty."""
        from automl.monitoring.late import late

        return late(self.problem, self.workspace)

    def leaderboard(
        self, *, cycle: Moment = None, as_of: Moment = None, columns: Sequence[str] = ()
    ) -> pd.DataFrame:
        """Trials of a cycle, best first; of the newest that trained by default. `as_of` means the same as `cycle`.

        Parameters
        ----------
        columns
            Columns to return, or names of parameters. Default: all but single parameters.
        """
        import pandas as pd

        from automl import report

        document = report.leaderboard(self.problem, self.workspace, cycle_of(cycle, as_of))
        names = ["family", "state", document["metric"], *document["also"]]
        names += ["blocks", "fit_seconds", "weight", "source", "params", "reason", "recipe"]
        rows = [
            {**t["params"], **t, **t["also"], document["metric"]: t["score"], "rank": t["rank"]}
            for t in document["trials"]
        ]
        return pd.DataFrame(rows, columns=["rank", *(columns or names)]).set_index("rank")

    def why(self, *, cycle: Moment = None, as_of: Moment = None) -> Shown:
        """The decision of a cycle and its evidence; of which cycle, as `leaderboard`."""
        from automl import report

        document = report.why(self.problem, self.workspace, cycle_of(cycle, as_of))
        return Shown(document, report.why_text)

    def champion(self, *, at: Moment = None) -> Shown:
        """The champion at a wall-clock time, and its release: when, why, by which user."""
        from automl import report

        document = report.champion(self.problem, self.workspace, moment_of(at, "at"))
        return Shown(document, report.champion_text)

    def evidence(self) -> pd.DataFrame:
        """Losses of champion and challengers on past blocks, one row per blend and block."""
        from dataclasses import asdict

        import pandas as pd

        from automl.modeling.losses import BlockLoss
        from automl.store import Store

        losses = Store(self.workspace).evidence(self.problem.name)
        names = list(BlockLoss.__dataclass_fields__)
        return pd.DataFrame([asdict(loss) for loss in losses], columns=names)

    def predictions(self, *, classes: bool = False) -> pd.DataFrame:
        """The live predictions: one complete generation of one model version.

        Parameters
        ----------
        classes
            Of a multiclass problem: one row per key and class with its probability.

        Raises
        ------
        PredictError
            Nothing was published yet.
        """
        from automl.api.predicting import live_predictions

        return live_predictions(self.problem, self.workspace, classes=classes)

    def predict(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Predict rows at hand with the champion; nothing is published.

        Returns
        -------
        pandas.DataFrame
            `prediction` and, for classes, `probability`, with the index of `frame`.

        Raises
        ------
        NoModelError
            There is no champion yet.
        PredictError
            A column that the champion needs is missing, or a cell does not fit.
        """
        from automl.api.predicting import predict_frame

        with quiet_libraries():
            return predict_frame(self.problem, self.workspace, frame)

    def history(self, *, verify: bool = False) -> Shown:
        """Pulls and snapshots: rows, time span, size, changes, rows set aside.

        Parameters
        ----------
        verify
            First compare every window with the source, and pull again those that differ.
        """
        from automl.report import data_tables, data_text

        if verify:
            data_tables.verify_history(self.problem, self.workspace)
        document = data_tables.history_document(self.problem, self.workspace)
        return Shown(document, data_text.history_text)

    def contract(self, *, accept: bool = False, as_of: Moment = None) -> Shown:
        """The agreed columns, and what the newest data would change in them.

        Parameters
        ----------
        accept
            Write the changes into the contract file.
        """
        from automl.report import data_tables, data_text

        moment = moment_of(as_of)
        document = data_tables.contract_document(
            self.problem, self.workspace, moment, accept=accept
        )
        return Shown(document, data_text.contract_text)

    def check(self, *, data: bool = False) -> Shown:
        """Validate the problem file and its families without reading data; every mistake is reported at once.

        Parameters
        ----------
        data
            Open source, store and MLflow too, as a cycle will; no row is read, nothing is left behind.
        """
        from automl import report
        from automl.api.checking import check_problem

        document = check_problem(self.problem.file, self.workspace, data=data)
        return Shown(document, report.checked_text)

    # ---- review

    def approve(self, version: int | None = None, *, reason: str) -> CycleResult:
        """Release the challenger awaiting approval (promotion.mode = "review"), with its predictions.

        Parameters
        ----------
        version
            Model version to approve. Default: the one awaiting approval.
        reason
            Recorded in the ledger.
        """
        from automl import review

        with quiet_libraries():
            return review.approve(self.problem, self.workspace, reason, version=version)

    def reject(self, version: int | None = None, *, reason: str) -> CycleResult:
        """Reject the challenger awaiting approval; for five cycles its blend needs stronger evidence."""
        from automl import review

        with quiet_libraries():
            return review.reject(self.problem, self.workspace, reason, version=version)

    def rollback(self, *, to: int | None = None, reason: str) -> CycleResult:
        """Make an earlier version champion again and publish its predictions, in one transaction.

        Parameters
        ----------
        to
            Version to return to. Default: the previous version; required if the champion is itself a rollback.
        reason
            Recorded in the ledger.
        """
        from automl import review

        with quiet_libraries():
            return review.rollback(self.problem, self.workspace, reason, to=to)

    def __repr__(self) -> str:
        return f"Project({str(self.problem.file)!r})"

    def _repr_html_(self) -> str:
        facts: Mapping[str, object] = {
            "problem": self.problem.name,
            "task": self.problem.task,
            "metric": self.problem.metric.name,
            "file": self.problem.file,
            "workspace": self.workspace.home,
        }
        rows = "".join(
            f"<tr><th>{escape(k)}</th><td>{escape(str(v))}</td></tr>" for k, v in facts.items()
        )
        return f"<table>{rows}</table>"
