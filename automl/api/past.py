"""The verbs of a project that look at the past: backfill, reproduce, report, backtest, regret."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from automl.api.arguments import Moment, backtest_options, cycle_of, required_moment, since_of
from automl.api.settings import quiet_libraries
from automl.api.shown import Shown
from automl.problem import Problem, Span
from automl.workspace import Workspace

if TYPE_CHECKING:
    import pandas as pd

    from automl.api.reporting import Report

__all__ = ["PastVerbs"]


class PastVerbs:
    """Verbs of `Project`."""

    __slots__ = ()

    problem: Problem
    workspace: Workspace

    def backfill(self, *, start: Moment, end: Moment) -> Shown:
        """Run the missed cycles of a window, oldest first; readers keep the newest predictions.

        Parameters
        ----------
        start, end
            Slots from `start` on, before `end`: `--from` and `--to` of the command.
        """
        from automl import report
        from automl.backfill import backfill

        first, last = required_moment(start, "start"), required_moment(end, "end")
        with quiet_libraries():
            done = backfill(self.problem, self.workspace, first, last)
        return Shown(done.document, report.backfill_text)

    def reproduce(self, *, cycle: Moment) -> Shown:
        """Rebuild a past cycle from its snapshot and compare; nothing of the workspace changes."""
        from automl import report
        from automl.reproduction import reproduce

        as_of = required_moment(cycle, "cycle")
        with quiet_libraries():
            found = reproduce(self.problem, self.workspace, as_of)
        return Shown(found.document, report.reproduction_text)

    def report(
        self,
        *,
        cycle: Moment = None,
        as_of: Moment = None,
        since: Moment | Span = None,
        to: str | Path | None = None,
    ) -> Report:
        """Write the report of a cycle as one HTML page, and show it in a notebook.

        Parameters
        ----------
        cycle, as_of
            Its as_of; both mean the same. Default: the newest, whatever became of it.
        since
            From when on what happened over time is shown: a time, or how long before now, such as "4w". Default: from the
            beginning.
        to
            The file. Default: `report.html` in the workspace.
        """
        from automl.api.reporting import make_report

        with quiet_libraries():
            return make_report(
                self.problem,
                self.workspace,
                as_of=cycle_of(cycle, as_of),
                since=since_of(since, "since", self.problem.zone),
                to=Path(to).resolve() if to else None,
            )

    def backtest(
        self,
        *,
        start: Moment,
        end: Moment,
        every: str | Span | None = None,
        policies: Sequence[str] = (),
        budget: str | Span | None = None,
        workers: int = 1,
    ) -> Shown:
        """Replay past cycles under several retraining policies; champion and predictions stay as they are.

        Parameters
        ----------
        start, end
            The window, `--from` and `--to` of the command: the last batch ends by its end.
        every
            Time between cycles, such as "7d". Default: the slots of the schedule.
        policies
            Values of retraining.when, or paths of Python files. Default: the problem's own and the usual ones.
        budget
            Wall clock of the whole backtest, such as "30m"; the same call continues it.
        workers
            Policies replayed at once; they share the cores.

        Raises
        ------
        ProblemError
            The window is empty or too short, or a policy is unknown.
        HistoryError
            The window has no labels, or its first cycle is refused.
        """
        from automl import backtest, report

        options = backtest_options(
            start=start, end=end, every=every, policies=policies, budget=budget, workers=workers
        )
        with quiet_libraries():
            document = backtest.backtest(self.problem, self.workspace, options)
        return Shown(document, report.backtest_text)

    def regret(self) -> pd.DataFrame:
        """Past decisions, one row each: what the rejected blend lost on the blocks after it, and what the cycle cost.

        `gain` is the mean relative gain of the rejected blend over the chosen one, `right` whether it did no better;
        both are missing where no later cycle scored the two on a new block (`text` says why).
        """
        import pandas as pd

        from automl import report

        rows = report.regrets(self.problem, self.workspace)
        return pd.DataFrame(rows, columns=list(report.REGRET_COLUMNS)).set_index("as_of")
