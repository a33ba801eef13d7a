"""Rollback, approve, reject: what a person decides about a release after a cycle.

Each runs under the problem's lock and ends in one transaction: release, ledger and, if readers see
predictions of another version, the pointer. Killed before it, nothing has changed; killed after it, the
same command finds the work done. MLflow and the parquet copy follow.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from automl import history, predictions
from automl.cycles.job import Job
from automl.cycles.options import RunOptions
from automl.cycles.result import CycleResult
from automl.cycles.steps import call, step
from automl.errors import AutomlError, ProblemError
from automl.history import Folders, Snapshot
from automl.modeling.families import load_families
from automl.modeling.features import load_columns
from automl.problem import Problem
from automl.promotion.release import commit_review, current_actor, reconcile
from automl.redaction import redact
from automl.score.batch import stage_batch
from automl.store import Cycle, Entry, Generation, Hold, Release, Store, Waiting, ledger
from automl.testing import fault
from automl.tracking import Registry
from automl.workspace import Workspace, now

__all__ = ["approve", "approve_if_tagged", "reject", "rollback"]

BY_TAG = "a tag in MLflow"  # the actor: MLflow does not record who set a tag
REFUSALS = ("false", "no", "0")  # values of the tag that do not approve
CONSENTS = ("", "true", "yes", "1")  # values that approve without a reason
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class ReviewSession:
    """A problem whose lock is held for a review, with its champion and ledger."""

    problem: Problem
    workspace: Workspace
    store: Store
    hold: Hold
    champion: Release
    entries: list[Entry]  # of the ledger

    @property
    def last(self) -> Entry | None:
        """How the champion became champion."""
        return ledger.champion_entry(self.entries)


def rollback(
    problem: Problem, workspace: Workspace, reason: str, *, to: int | None = None, actor: str = ""
) -> CycleResult:
    """Make a former version champion again, with its predictions for the batch that readers see.

    If that version has scored the batch already, the pointer moves to those predictions; otherwise the
    frozen batch is scored first. Without `to`, the newest release of another version is taken.

    Raises
    ------
    ProblemError
        There is no reason, no former version, or `to` was never released.
    AutomlError
        The version cannot be loaded or scored; champion and predictions are unchanged.
    """
    with _open_session(problem, workspace, reason) as session:
        target = _target(session, to, reason)
        if target.model_version == session.champion.model_version:
            return _finish(session, session.champion, "rolled back", reason, already=True)
        fault("rollback.opened")
        release = replace(target, as_of=session.champion.as_of)
        generation = _generation(session, release)
        fault("rollback.staged")
        same = target.blend.recipes == session.champion.blend.recipes
        entry = _entry(session, "rollback", reason, actor)
        entry = replace(entry, blend_id="" if same else session.champion.blend.id)
        released = _commit(session, release, entry, generation)
        return _finish(session, released, "rolled back", reason)


def approve(
    problem: Problem,
    workspace: Workspace,
    reason: str,
    *,
    version: int | None = None,
    actor: str = "",
) -> CycleResult:
    """Release the version that awaits approval, with its predictions for the batch that readers see.

    It was fitted on the same rows as the champion, and has passed the guards.

    Raises
    ------
    ProblemError
        No version awaits approval, another one does, or its time is over.
    AutomlError
        Its files have changed since the guards, or the scoring failed; champion and predictions are
        unchanged.
    """
    with _open_session(problem, workspace, reason) as session:
        challenger = _waiting(session, version)
        if challenger is None:
            _require_done(session, "approve", reason)
            return _finish(session, session.champion, "approved", reason, already=True)
        if challenger.expires_at < now():
            raise ProblemError(
                f"version {challenger.model_version} could be approved until "
                f"{challenger.expires_at:%Y-%m-%d %H:%M}: its evidence is old",
                code="expired",
                next_step="The next cycle evaluates it again.",
            )
        fault("approve.opened")
        release = _approved(session, challenger)
        Registry(problem, workspace).load(release.model_version, release.digests)
        generation = _generation(session, release)
        fault("approve.staged")
        entry = _entry(session, "approve", reason, actor)
        entry = replace(entry, as_of=release.as_of, blend_id=challenger.blend.id)
        released = _commit(session, release, entry, generation)
        return _finish(session, released, "approved", reason)


def reject(
    problem: Problem,
    workspace: Workspace,
    reason: str,
    *,
    version: int | None = None,
    actor: str = "",
) -> CycleResult:
    """Reject the version that awaits approval; for five cycles its blend needs stronger evidence.

    Raises
    ------
    ProblemError
        No version awaits approval, or another one does.
    """
    with _open_session(problem, workspace, reason) as session:
        challenger = _waiting(session, version)
        if challenger is None:
            _require_done(session, "reject", reason)
            return _finish(session, session.champion, "rejected", reason, already=True)
        fault("reject.opened")
        entry = _entry(session, "reject", reason, actor)
        entry = replace(entry, blend_id=challenger.blend.id, decision_id=challenger.decision_id)
        with session.store.commit(session.hold) as connection:
            ledger.write(connection, problem.name, entry)
            ledger.drop_waiting(connection, problem.name)
            fault("reject.in_commit")
        fault("reject.committed")
        return _finish(session, session.champion, "rejected", reason)


@step("apply approvals", io=True)
def approve_if_tagged(problem: Problem, workspace: Workspace) -> CycleResult | None:
    """Approve the version that awaits approval if it has the tag `approved` in MLflow.

    The tag's value is the reason; `false`, `no` and `0` do not approve.

    Raises
    ------
    AutomlError
        As `approve`.
    """
    challenger = Store(workspace).waiting(problem.name)
    if challenger is None or challenger.expires_at < now():
        return None
    tag = Registry(problem, workspace).version_tag(challenger.model_version, "approved")
    if tag is None or tag.strip().lower() in REFUSALS:
        return None
    reason = tag.strip() if tag.strip().lower() not in CONSENTS else "tag approved"
    return approve(problem, workspace, reason, version=challenger.model_version, actor=BY_TAG)


# ---------------------------------------------------------------- the session


@contextmanager
def _open_session(problem: Problem, workspace: Workspace, reason: str) -> Iterator[ReviewSession]:
    if not reason.strip():
        raise ProblemError(
            "--reason is required; it is recorded in the ledger",
            code="no_reason",
            next_step="Say why, such as --reason 'prices were wrong'",
        )
    store = Store(workspace)
    with store.hold(problem.name) as hold:
        predictions.check_owner(store, problem)
        champion = store.champion(problem.name)
        if champion is None:
            raise ProblemError(
                f"{problem.name}: no model has been released yet",
                code="no_champion",
                next_step=f"automl cycle {problem.file.name}",
            )
        yield ReviewSession(
            problem=problem,
            workspace=workspace,
            store=store,
            hold=hold,
            champion=champion,
            entries=store.ledger(problem.name),
        )


def _target(session: ReviewSession, to: int | None, reason: str) -> Release:
    """The release to go back to; the champion itself, if this rollback was done already."""
    champion, releases = session.champion, session.store.releases(session.problem.name)
    others = [r for r in releases if r.model_version != champion.model_version]
    versions = ", ".join(map(str, dict.fromkeys(r.model_version for r in others))) or "none"
    if to is not None:
        found = next((r for r in releases if r.model_version == to), None)
        if found is None:
            raise ProblemError(
                f"--to {to}: version {to} was never released; found {versions}",
                code="never_released",
                next_step="Name one of these versions with --to.",
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
            next_step=f"Name a version with --to. Other released versions: {versions}.",
        )
    if not others:
        raise ProblemError(
            f"there is no former champion: version {champion.model_version} is the only release",
            code="no_former",
            next_step="Nothing to do: wait for a second release, or retrain: automl retrain FILE",
        )
    return others[0]


def _waiting(session: ReviewSession, version: int | None) -> Waiting | None:
    challenger = session.store.waiting(session.problem.name)
    if challenger is not None and version not in (None, challenger.model_version):
        raise ProblemError(
            f"version {version} does not await approval; found version "
            f"{challenger.model_version} ({challenger.blend})",
            code="not_waiting",
            next_step="Leave the version out to take the one that waits, or look: automl champion FILE",
        )
    return challenger


def _require_done(session: ReviewSession, kind: str, reason: str) -> None:
    """No challenger waits: fine if this very command was run before, an error otherwise."""
    reviews = [e for e in session.entries if e.kind in ("wait", "approve", "reject")]
    if not reviews or (reviews[-1].kind, reviews[-1].reason) != (kind, reason):
        raise ProblemError(
            f"{session.problem.name}: no challenger awaits approval",
            code="nothing_waits",
            next_step=f"automl why {session.problem.file.name}",
        )


def _approved(session: ReviewSession, challenger: Waiting) -> Release:
    return Release(
        # a champion that was not refit is older than the challenger
        as_of=max(session.champion.as_of, challenger.as_of),
        model_version=challenger.model_version,
        run_id=challenger.run_id,
        digests=challenger.digests,
        fingerprint=challenger.fingerprint,
        blend=challenger.blend,
        labels_until=challenger.labels_until,
        decision_id=challenger.decision_id,
    )


def _entry(session: ReviewSession, kind: str, reason: str, actor: str) -> Entry:
    as_of = session.champion.as_of
    return Entry(at=now(), as_of=as_of, kind=kind, actor=actor or current_actor(), reason=reason)


def _commit(
    session: ReviewSession, release: Release, entry: Entry, generation: int | None
) -> Release:
    return commit_review(
        session.store,
        session.hold,
        session.problem,
        release=release,
        entry=entry,
        generation=generation,
    )


def _finish(
    session: ReviewSession, release: Release, status: str, reason: str, *, already: bool = False
) -> CycleResult:
    """Update MLflow and the parquet copy, and report."""
    warnings = _follow(session)
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
        warnings=warnings,
    )


def _follow(session: ReviewSession) -> list[str]:
    """Let MLflow and the parquet copy follow; the review is committed, so a failure is a warning."""
    warnings = []
    try:
        predictions.export(session.store, session.problem)
    except AutomlError as error:
        warnings.append(f"the parquet copy is out of date until the next command: {error}")
    try:
        reconcile(session.store, Registry(session.problem, session.workspace), session.problem)
    except Exception as error:  # noqa: BLE001  a lagging projection is no failure
        warnings.append(f"MLflow is out of date until the next command: {redact(str(error))}")
    return warnings


# ---------------------------------------------------------------- predictions of another version


def _generation(session: ReviewSession, release: Release) -> int | None:
    """That version's predictions for the batch that readers see; None if they see them already."""
    live = session.store.live(session.problem.table)
    if live is None or live.model_version == release.model_version:
        return None
    staged = session.store.staged(session.problem.name, live, release.model_version)
    if staged is None:
        return _score(session, release, live)
    if not predictions.was_audited(session.store, staged):  # a second audit would take seconds
        predictions.audit(session.store, session.problem, staged)
    return staged


def _score(session: ReviewSession, release: Release, live: Generation) -> int:
    """Stage the frozen batch that readers see, scored by another version."""
    cycle = Cycle(
        id=0,
        problem=session.problem.name,
        verb="score",
        as_of=live.as_of,
        attempt=live.attempt,
        status="running",
        reason="",
        problem_digest="",
        receipts={},
        started_at=now(),
    )
    frozen = _frozen(session, live.batch)
    return stage_batch(_job(session, cycle), release, call, frozen).generation


def _frozen(session: ReviewSession, digest: str) -> Snapshot | None:
    """The rows that were scored; None if they must be pulled again."""
    batch = history.frozen_batch(Folders(session.workspace.history(session.problem.name)), digest)
    if batch is None:
        _log.warning("the frozen batch %s was removed; it is pulled again", digest[:12])
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
