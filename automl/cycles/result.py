"""How a cycle ended; light enough to report a finished cycle at once."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from html import escape
from typing import TYPE_CHECKING, NamedTuple

from automl.cycles.options import RunOptions, default_as_of
from automl.errors import DiskError, ProblemError
from automl.problem import Problem
from automl.store import Cycle, Store
from automl.workspace import Workspace, now

if TYPE_CHECKING:  # a sweep's types load scikit-learn; most commands never need it
    from automl.promotion.decide import Decision
    from automl.sweep import Leaderboard

__all__ = ["CycleResult", "Staged", "ended_result", "finished"]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True, repr=False)
class CycleResult:
    """How a command ended, for people and for `--json`."""

    problem: Problem
    as_of: datetime
    status: str  # published | released | kept | waiting | skipped | refused | failed | dry-run
    reason: str
    already: bool = False  # an earlier command did the work
    model_version: int | None = None
    generation: int | None = None
    rows: int | None = None
    leaderboard: Leaderboard | None = None
    decision: Decision | None = None
    run_id: str = ""
    experiment: str = ""
    warnings: list[str] = field(default_factory=list)
    unfinished: DiskError | None = (
        None  # what the disk did after the commit; to be raised at the end
    )

    def require_finished(self) -> CycleResult:
        """Itself.

        Raises
        ------
        DiskError
            Something that follows the commit could not be written.
        """
        if self.unfinished is not None:
            raise self.unfinished
        return self

    def __repr__(self) -> str:
        return (
            f"{self.problem.name} as of {self.as_of:%Y-%m-%d %H:%M}: {self.status}; {self.reason}"
        )

    def _repr_html_(self) -> str:
        facts = {
            "problem": self.problem.name,
            "as of": f"{self.as_of:%Y-%m-%d %H:%M}",
            "status": self.status + (" (already)" if self.already else ""),
            "reason": self.reason,
            "model version": self.model_version,
            "predictions": f"{self.rows} rows, generation {self.generation}" if self.rows else None,
            "warnings": "; ".join(self.warnings),
        }
        rows = (
            f"<tr><th style='text-align:left'>{name}</th><td style='text-align:left'>{escape(str(v))}</td></tr>"
            for name, v in facts.items()
            if v
        )
        return f"<table><tbody>{''.join(rows)}</tbody></table>"


class Staged(NamedTuple):
    """A generation that is complete and audited, and that readers do not see yet."""

    generation: int
    rows: int
    reused: int = 0  # rows taken from an earlier generation


def finished(
    problem: Problem, workspace: Workspace, verb: str, options: RunOptions
) -> CycleResult | None:
    """The result of this cycle if it has ended already; None if there is work to do.

    Raises
    ------
    ProblemError
        The problem file changed since the cycle ran.
    """
    if options.again:
        return None
    store = Store(workspace)
    found = store.find_cycle(
        problem.name, verb, options.as_of or default_as_of(problem, verb, now())
    )
    return ended_result(store, problem, found) if found and found.ended else None


def ended_result(store: Store, problem: Problem, ended: Cycle) -> CycleResult:
    """The result of a cycle that has ended, from the store alone.

    Raises
    ------
    ProblemError
        The problem file changed since the cycle ran.
    """
    if ended.problem_digest != problem.digest:
        raise ProblemError(
            f"{problem.file.name} has changed since the cycle of {ended.as_of:%Y-%m-%d %H:%M} {ended.status}",
            code="problem_changed",
            next_step='To run that cycle again: --again --reason "why". The next cycle uses the new file anyway.',
        )
    release = store.champion(problem.name, at=ended.as_of)
    live = store.live(problem.table)
    return CycleResult(
        problem=problem,
        as_of=ended.as_of,
        status=ended.status,
        reason=ended.reason,
        already=True,
        model_version=release.model_version if release else None,
        generation=live.id if live else None,
        rows=live.rows if live else None,
        run_id=release.run_id if release else "",
    )
