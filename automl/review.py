"""What a person decides after the fact: a former champion again, a waiting challenger in or out.

Each runs under the problem's lock and ends in one transaction: release, ledger and, where readers see
predictions of another version, the pointer. Killed before it, nothing has changed; after it, the same
command finds it done. MLflow and the parquet copy follow.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import sqlalchemy as sa

from automl import history
from automl import predictions as publish
from automl.cycles.job import Job
from automl.cycles.options import RunOptions
from automl.cycles.result import CycleResult
from automl.cycles.steps import call
from automl.errors import AutomlError, ProblemError
from automl.history import Folders, Snapshot
from automl.modeling.families import load_families
from automl.modeling.features.user_transformer import load_columns
from automl.predictions.tables import audited
from automl.problem import Problem
from automl.promotion.release import actor, commit_undo, reconcile
from automl.score.batch import stage_batch
from automl.store import Cycle, Entry, Generation, Hold, Release, Store, Waiting, ledger
from automl.testing import fault
from automl.tracking import Registry
from automl.workspace import Workspace, now

__all__ = ["approve", "approve_if_tagged", "reject", "rollback"]

BY_TAG = "a tag in MLflow"  # who: it does not say
REFUSALS, CONSENTS = (
    ("false", "no", "0"),
    ("", "true", "yes", "1"),
)  # what a tag may say beside a reason
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class ReviewSession:
    """A problem held by whoever undoes something, with what is effective."""

    problem: Problem
    workspace: Workspace
    store: Store
    hold: Hold
    champion: Release
    rows: list[Entry]  # of the ledger

    @property
    def last(self) -> Entry | None:
        """How the champion came about."""
        return ledger.champion_entry(self.rows)


def rollback(
    problem: Problem,
    workspace: Workspace,
    reason: str,
    *,
    to: int | None = None,
    who: str = "",
) -> CycleResult:
    """Make a former version champion again, with its predictions for the batch that readers see.

    A generation that was scored beforehand is pointed at; without one the frozen batch is scored first.
    Without `to`, the newest release of another version than the champion's.

    Raises
    ------
    ProblemError
        There is no reason, no former version, or `to` was never released.
    AutomlError
        The version cannot be loaded or scored; champion and predictions are then as they were.
    """
    with _open_session(problem, workspace, reason) as session:
        target = _target(session, to, reason)
        if target.model_version == session.champion.model_version:
            return _result(
                session,
                session.champion,
                "rolled back",
                reason,
                already=True,
                warnings=_follow(session),
            )
        fault("rollback.opened")
        release = replace(target, as_of=session.champion.as_of)
        generation = _generation(session, release)
        fault("rollback.staged")
        same = target.blend.recipes == session.champion.blend.recipes
        reverted_blend = "" if same else session.champion.blend.id
        told = _entry(session, "rollback", who, reason, blend_id=reverted_blend)
        made = _commit(session, release, told, generation)
        return _result(session, made, "rolled back", reason, warnings=_follow(session))


def approve(
    problem: Problem,
    workspace: Workspace,
    reason: str,
    *,
    version: int | None = None,
    who: str = "",
) -> CycleResult:
    """Release the version that waits, with its predictions for the batch that readers see.

    It was fitted on the champion's rows and has passed the guards when the cycle let it wait.

    Raises
    ------
    ProblemError
        Nobody waits, somebody else waits, or the waiting time is over.
    AutomlError
        Its files are not those that were examined, or the scoring failed; champion and predictions are
        then as they were.
    """
    with _open_session(problem, workspace, reason) as session:
        one = _waiting(session, version)
        if one is None:
            _require_said(session, "approve", reason)
            return _result(
                session,
                session.champion,
                "approved",
                reason,
                already=True,
                warnings=_follow(session),
            )
        if one.expires_at < now():
            raise ProblemError(
                f"version {one.model_version} waited until {one.expires_at:%Y-%m-%d %H:%M}: its evidence is old",
                code="expired",
                next_step="The next cycle judges it again.",
            )
        fault("approve.opened")
        release = replace(
            session.champion,
            # a champion that was not refit is older than what waits
            as_of=max(session.champion.as_of, one.as_of),
            blend=one.blend,
            model_version=one.model_version,
            run_id=one.run_id,
            digests=one.digests,
            fingerprint=one.fingerprint,
            labels_until=one.labels_until,
            decision_id=one.decision_id,
        )
        Registry(problem, workspace).load(release.model_version, release.digests)
        generation = _generation(session, release)
        fault("approve.staged")
        told = _entry(session, "approve", who, reason, blend_id=one.blend.id)
        told = replace(told, as_of=release.as_of)
        made = _commit(session, release, told, generation)
        return _result(session, made, "approved", reason, warnings=_follow(session))


def reject(
    problem: Problem,
    workspace: Workspace,
    reason: str,
    *,
    version: int | None = None,
    who: str = "",
) -> CycleResult:
    """Turn the challenger that waits down; for five cycles it must be surely better to wait again.

    Raises
    ------
    ProblemError
        Nobody waits, or somebody else.
    """
    with _open_session(problem, workspace, reason) as session:
        one = _waiting(session, version)
        if one is None:
            _require_said(session, "reject", reason)
            return _result(
                session,
                session.champion,
                "rejected",
                reason,
                already=True,
                warnings=_follow(session),
            )
        fault("reject.opened")
        told = _entry(session, "reject", who, reason, blend_id=one.blend.id)
        told = replace(told, decision_id=one.decision_id)
        with session.store.commit(session.hold) as connection:
            ledger.write(connection, problem.name, told)
            ledger.drop_waiting(connection, problem.name)
            fault("reject.in_commit")
        fault("reject.committed")
        return _result(session, session.champion, "rejected", reason, warnings=_follow(session))


def approve_if_tagged(problem: Problem, workspace: Workspace) -> CycleResult | None:
    """Approve the version that waits, if somebody has set the tag `approved` on it in MLflow.

    What the tag says is the reason, `false` or `no` is none. MLflow does not tell who set it.

    Raises
    ------
    AutomlError
        As `approve`.
    """
    one = Store(workspace).waiting(problem.name)
    if one is None or one.expires_at < now():
        return None
    told = Registry(problem, workspace).version_tag(one.model_version, "approved")
    if told is None or told.strip().lower() in REFUSALS:
        return None
    reason = told.strip() if told.strip().lower() not in CONSENTS else "tag approved"
    return approve(problem, workspace, reason, version=one.model_version, who=BY_TAG)


# ---------------------------------------------------------------- the desk


@contextmanager
def _open_session(problem: Problem, workspace: Workspace, reason: str) -> Iterator[ReviewSession]:
    if not reason.strip():
        raise ProblemError(
            "--reason: found none; wanted one, it is kept in the ledger", code="no_reason"
        )
    store = Store(workspace)
    with store.hold(problem.name) as hold:
        publish.check_owner(store, problem)
        champion = store.champion(problem.name)
        if champion is None:
            raise ProblemError(
                f"{problem.name}: nothing was released yet",
                code="no_champion",
                next_step=f"automl cycle {problem.file.name}",
            )
        rows = store.ledger(problem.name)
        yield ReviewSession(problem, workspace, store, hold, champion, rows)


def _target(session: ReviewSession, to: int | None, reason: str) -> Release:
    """The release to go back to; the champion itself, if that was done already."""
    champion, releases = session.champion, session.store.releases(session.problem.name)
    others = [r for r in releases if r.model_version != champion.model_version]
    known = ", ".join(map(str, dict.fromkeys(r.model_version for r in others))) or "none"
    if to is not None:
        found = next((r for r in releases if r.model_version == to), None)
        if found is None:
            raise ProblemError(
                f"--to {to}: version {to} was never released; found {known}",
                code="never_released",
            )
        return found
    last = session.last
    if last is not None and last.kind == "rollback":
        if last.reason == reason:  # the same command again
            return champion
        raise ProblemError(
            f"the champion, version {champion.model_version}, is itself a rollback from version "
            f"{last.from_version}",
            code="rolled_back",
            next_step=f"Say which version with --to; released were {known}.",
        )
    if not others:
        raise ProblemError(
            f"there is no former champion: version {champion.model_version} is the only release",
            code="no_former",
        )
    return others[0]


def _waiting(session: ReviewSession, version: int | None) -> Waiting | None:
    one = session.store.waiting(session.problem.name)
    if one is not None and version not in (None, one.model_version):
        raise ProblemError(
            f"version {version} does not wait; found version {one.model_version} ({one.blend})",
            code="not_waiting",
        )
    return one


def _require_said(session: ReviewSession, kind: str, reason: str) -> None:
    """Nobody waits: right if this very command has seen to it already, wrong otherwise."""
    said = [e for e in session.rows if e.kind in ("wait", "approve", "reject")]
    if not said or (said[-1].kind, said[-1].reason) != (kind, reason):
        raise ProblemError(
            f"{session.problem.name}: no challenger waits for approval",
            code="nothing_waits",
            next_step=f"automl why {session.problem.file.name}",
        )


def _entry(session: ReviewSession, kind: str, who: str, reason: str, *, blend_id: str) -> Entry:
    return Entry(now(), session.champion.as_of, kind, who or actor(), reason, blend_id=blend_id)


def _commit(
    session: ReviewSession, release: Release, told: Entry, generation: int | None
) -> Release:
    return commit_undo(
        session.store,
        session.hold,
        session.problem,
        release=release,
        told=told,
        generation=generation,
    )


def _follow(session: ReviewSession) -> list[str]:
    """Let MLflow and the parquet copy follow; committed already, so a failure is only told."""
    warnings = []
    try:
        publish.export(session.store, session.problem)
    except AutomlError as error:
        warnings.append(f"the parquet copy lags, the next command writes it: {error}")
    try:
        reconcile(session.store, Registry(session.problem, session.workspace), session.problem)
    except Exception as error:  # noqa: BLE001  a lagging projection is no failure
        warnings.append(f"MLflow does not know yet, the next command tells it: {error}")
    return warnings


def _result(
    session: ReviewSession,
    release: Release,
    status: str,
    reason: str,
    *,
    already: bool = False,
    warnings: list[str] | None = None,
) -> CycleResult:
    live = session.store.live(session.problem.table)
    return CycleResult(
        problem=session.problem,
        as_of=release.as_of,
        status=status,
        reason=reason,
        already=already,
        model_version=release.model_version,
        generation=live.id if live else None,
        rows=live.rows if live else None,
        run_id=release.run_id,
        warnings=warnings or [],
    )


# ---------------------------------------------------------------- predictions of another version


def _generation(session: ReviewSession, release: Release) -> int | None:
    """A whole generation of that version for the batch that readers see; None if they see it already."""
    live = session.store.live(session.problem.table)
    if live is None or live.model_version == release.model_version:
        return None
    found = session.store.staged(session.problem.name, live, release.model_version)
    if found is not None:
        if not _audited(session, found):
            publish.audit(session.store, session.problem, found)
        return found
    return _score(session, release, live)


def _audited(session: ReviewSession, generation: int) -> bool:
    """Whether an audit has passed it already; what is read for it again costs the seconds of a rollback."""
    query = sa.select(audited.c.found).where(audited.c.generation == generation)
    with session.store.engine.connect() as connection:
        return connection.scalar(query) is not None


def _score(session: ReviewSession, release: Release, live: Generation) -> int:
    """Stage the batch that readers see, as it was frozen, by another version."""
    cycle = Cycle(
        0, session.problem.name, "score", live.as_of, live.attempt, "running", "", "", {}, now()
    )
    frozen = _frozen(session, live.batch)
    return stage_batch(_job(session, cycle), release, call, frozen).generation


def _frozen(session: ReviewSession, digest: str) -> Snapshot | None:
    """The rows that were scored; None if they must be pulled again."""
    batch = history.frozen_batch(Folders(session.workspace.history(session.problem.name)), digest)
    if batch is None:
        _log.warning("the frozen batch %s is gone; it is pulled again", digest[:12])
    return batch


def _job(session: ReviewSession, cycle: Cycle) -> Job:
    problem = session.problem
    return Job(
        problem=problem,
        workspace=session.workspace,
        store=session.store,
        hold=session.hold,
        cycle=cycle,
        registry=Registry(problem, session.workspace),
        families=load_families(problem.sweep.families, problem.file.parent),
        options=RunOptions(as_of=cycle.as_of),
        columns=load_columns(problem.transformer),
    )
