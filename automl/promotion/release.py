"""The decision made effective: decision, champion, evidence, ledger and, in a cycle, the pointer, at once.

Release and publish are each one transaction with a fence check; `cycle` does both in one, and so does
what a person undoes. Every release leaves a row in the ledger. MLflow's aliases follow afterwards, and
the next command rolls them forward if this one dies in between.
"""

from __future__ import annotations

import contextlib
import getpass
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from automl import predictions as publish
from automl.errors import BusyError
from automl.modeling.losses import BlockLoss
from automl.modeling.recipes import Blend
from automl.problem import Problem
from automl.store import Cycle, Entry, Hold, Release, Store, Waiting, ledger, naive
from automl.store import tables as t
from automl.testing import fault
from automl.tracking import Registry
from automl.workspace import Workspace, now

__all__ = [
    "PendingDecision",
    "actor",
    "commit_publish",
    "commit_release",
    "commit_undo",
    "ended_as",
    "reconcile",
    "roll_forward",
]

MOST_SHADOWS = 2  # each is evaluated on every block of the next cycle
KIND = {"first": "promote", "promote": "promote", "keep": "refit", "revert": "revert"}
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PendingDecision:
    """A decision ready to be made effective."""

    outcome: str  # first | promote | revert | keep | stay
    reason: str
    content: Mapping[str, Any]  # what `automl why` shows
    evidence: Sequence[BlockLoss]
    # (blend, end of the labels that chose it); None where nothing was searched: they stay as they are
    shadows: Sequence[tuple[Blend, datetime]] | None
    actor: str = ""
    waiting: Waiting | None = None  # the challenger that a person has to approve
    reverted_blend: str = ""  # blend that a revert put out


def actor(trigger: str = "command") -> str:
    """Who is at work: the schedule, or the user of this process."""
    if trigger != "command":
        return "schedule"
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return "unknown"


def commit_release(
    store: Store,
    hold: Hold,
    problem: Problem,
    cycle: Cycle,
    *,
    verdict: PendingDecision,
    release: Release,
    generation: int | None = None,
) -> Release:
    """Make a decision effective; with a generation, publish it in the same transaction.

    A champion that stays as it is (outcome stay) is not released again.
    """
    status = ended_as(verdict, generation)
    with store.commit(hold) as connection:
        decided = t.inserted(
            connection,
            t.decision.insert().values(
                problem=problem.name,
                as_of=naive(cycle.as_of),
                attempt=cycle.attempt,
                outcome="wait" if verdict.waiting else verdict.outcome,
                reason=verdict.reason,
                content=dict(verdict.content),
                decided_at=naive(now()),
            ),
        )
        who, made = verdict.actor or actor(), release
        if verdict.outcome != "stay":
            told = Entry(now(), release.as_of, KIND[verdict.outcome], who, verdict.reason)
            told = replace(
                told, decision_id=decided, generation=generation, blend_id=verdict.reverted_blend
            )
            made = _release(connection, problem, replace(release, decision_id=decided), told)
        if verdict.waiting is not None:
            _let_wait(connection, problem, replace(verdict.waiting, decision_id=decided), who)
        elif verdict.shadows is not None:
            _expire_waiting(connection, problem, cycle, who)
        store.add_evidence(connection, problem.name, verdict.evidence)
        if verdict.shadows is not None:
            _keep_shadows(connection, problem, verdict.shadows)
        if generation is not None:
            publish.point(connection, store, hold, problem, generation)
            _score_ended(connection, problem, cycle)
        store.end_cycle(cycle, status, verdict.reason, connection)
        fault("release.in_commit")
    fault("release.committed")
    return made


def ended_as(verdict: PendingDecision, generation: int | None) -> str:
    """How a retraining with this decision ends."""
    if generation is not None:
        return "published"
    if verdict.outcome != "stay":
        return "released"
    return "waiting" if verdict.waiting else "kept"


def commit_undo(
    store: Store,
    hold: Hold,
    problem: Problem,
    *,
    release: Release,
    told: Entry,
    generation: int | None = None,
) -> Release:
    """What a person decided made effective: champion, ledger and, with a generation, the pointer.

    `told.kind` is rollback, revert, approve or adopt. A generation that was published before keeps the
    time of its first publication; the ledger says when it came back.
    """
    with store.commit(hold) as connection:
        told = replace(told, decision_id=release.decision_id, generation=generation)
        made = _release(connection, problem, release, told)
        if told.kind == "approve":
            ledger.drop_waiting(connection, problem.name)
        if generation is not None:
            one = t.generation.c.id == generation
            before = connection.scalar(sa.select(t.generation.c.published_at).where(one))
            publish.point(connection, store, hold, problem, generation)
            if before is not None:
                connection.execute(t.generation.update().where(one).values(published_at=before))
        fault(f"{told.kind}.in_commit")
    fault(f"{told.kind}.committed")
    return made


def commit_publish(
    store: Store, hold: Hold, problem: Problem, cycle: Cycle, *, generation: int, reason: str
) -> None:
    """Point readers at a staged and audited generation."""
    with store.commit(hold) as connection:
        publish.point(connection, store, hold, problem, generation)
        store.end_cycle(cycle, "published", reason, connection)
        fault("publish.in_commit")
    fault("publish.committed")


def reconcile(store: Store, registry: Registry, problem: Problem) -> bool:
    """Let MLflow follow the newest release; returns whether anything had to change.

    An alias that somebody moved or removed by hand is told of and put back: who is champion is decided
    here, and undone with `automl rollback`.

    Raises
    ------
    PredictError
        The champion's version was deleted in MLflow (`version_gone`).
    """
    releases = store.releases(problem.name)
    if not releases:
        return False
    newest, waiting = releases[0], store.waiting(problem.name)
    registry.set_challenger(waiting.model_version if waiting else None)
    found = registry.champion_alias()
    projected = next((r.model_version for r in releases if r.projected), None)
    if found not in (projected, newest.model_version):
        _log.warning("%s [registry_tampered]", _moved(found, newest))
    if newest.projected and found == newest.model_version:
        return False
    registry.require_version(newest.model_version)
    outcome, reason = _told(store, problem, newest)
    tags = {
        "cycle": f"{newest.as_of:%Y-%m-%d %H:%M}",
        "decision": outcome,
        "family": ", ".join(newest.blend.families),
        "fingerprint": newest.fingerprint[:16],
    }
    description = f"{newest.as_of:%Y-%m-%d}: {reason}. Run: {newest.run_id}"
    registry.update_aliases(releases[:2], {newest.model_version: (description, tags)})
    fault("reconcile.aliased")
    registry.finish_cycle(newest.run_id, outcome, reason)
    store.projected(newest)
    return True


def roll_forward(problem: Problem, workspace: Workspace) -> None:
    """Bring aliases and the parquet copy up to the store, where an earlier command died before it did."""
    store = Store(workspace)
    champion, live = store.champion(problem.name), store.live(problem.table)
    behind = champion is not None and not champion.projected
    unexported = live is not None and live.exported_at is None and problem.publish.parquet
    if not behind and not unexported:
        return
    with contextlib.suppress(BusyError), store.hold(problem.name):  # busy: somebody else does it
        if behind:
            reconcile(store, Registry(problem, workspace), problem)
        if unexported:
            publish.export(store, problem)


def _moved(found: int | None, newest: Release) -> str:
    there = "was removed" if found is None else f"was moved to version {found}"
    return (
        f"the alias champion {there} by hand; it is put back to version {newest.model_version}, which "
        "was released. To release another one: automl rollback FILE --to VERSION --reason R"
    )


def _told(store: Store, problem: Problem, release: Release) -> tuple[str, str]:
    """How a release came about, in a word and a sentence."""
    entry = ledger.champion_entry(store.ledger(problem.name))
    if entry is not None and entry.kind not in KIND.values():  # a person's doing
        return entry.kind, entry.reason
    decided = (d for d in store.decisions(problem.name) if d.id == release.decision_id)
    return next(((d.outcome, d.reason) for d in decided), ("", ""))


def _release(connection: sa.Connection, problem: Problem, release: Release, told: Entry) -> Release:
    """A release row, and the row of the ledger that says how it came about."""
    query = sa.select(t.release.c.model_version).where(
        t.release.c.problem == problem.name, t.release.c.as_of <= naive(release.as_of)
    )
    newest = (t.release.c.as_of.desc(), t.release.c.id.desc())
    before = connection.scalar(query.order_by(*newest).limit(1))
    made = t.inserted(
        connection,
        t.release.insert().values(
            problem=problem.name,
            as_of=naive(release.as_of),
            decision_id=release.decision_id,
            model_version=release.model_version,
            run_id=release.run_id,
            digests=dict(release.digests),
            fingerprint=release.fingerprint,
            blend=release.blend.to_json(),
            labels_until=naive(release.labels_until),
            released_at=naive(told.at),
        ),
    )
    told = replace(told, from_version=before, to_version=release.model_version)
    ledger.write(connection, problem.name, told)
    return replace(release, id=made, released_at=told.at, projected=False)


def _let_wait(connection: sa.Connection, problem: Problem, one: Waiting, who: str) -> None:
    before = ledger.waiting(connection, problem.name)
    reason = one.reason
    if before is not None:
        reason += f"; replaces version {before.model_version} of {before.as_of:%Y-%m-%d}, which nobody answered"
    ledger.write_waiting(connection, problem.name, one)
    told = Entry(one.waits_since, one.as_of, "wait", who, reason, to_version=one.model_version)
    told = replace(told, decision_id=one.decision_id, blend_id=one.blend.id)
    ledger.write(connection, problem.name, told)


def _expire_waiting(connection: sa.Connection, problem: Problem, cycle: Cycle, who: str) -> None:
    """Newer evidence no longer finds who waits better, and its rows are no longer the newest."""
    one = ledger.waiting(connection, problem.name)
    if one is None or one.as_of > cycle.as_of:
        return
    ledger.drop_waiting(connection, problem.name)
    reason = f"the cycle of {cycle.as_of:%Y-%m-%d %H:%M} did not find it better again"
    told = Entry(now(), one.as_of, "expire", who, reason, to_version=one.model_version)
    ledger.write(connection, problem.name, replace(told, blend_id=one.blend.id))


def _keep_shadows(
    connection: sa.Connection, problem: Problem, shadows: Sequence[tuple[Blend, datetime]]
) -> None:
    connection.execute(t.shadow.delete().where(t.shadow.c.problem == problem.name))
    for blend, labels_until in list(shadows)[:MOST_SHADOWS]:
        connection.execute(
            t.shadow.insert().values(
                problem=problem.name,
                blend_id=blend.id,
                blend=blend.to_json(),
                labels_until=naive(labels_until),
            )
        )


def _score_ended(connection: sa.Connection, problem: Problem, cycle: Cycle) -> None:
    """The scoring half of a cycle ends with it, so that `score` at the same as_of is a no-op."""
    key = {
        "problem": problem.name,
        "verb": "score",
        "as_of": naive(cycle.as_of),
        "attempt": cycle.attempt,
    }
    values = {"status": "published", "reason": "with the cycle", "finished_at": naive(now())}
    changed = connection.execute(t.cycle.update().filter_by(**key).values(**values))
    if not changed.rowcount:
        connection.execute(
            t.cycle.insert().values(
                **key,
                **values,
                problem_digest=cycle.problem_digest,
                receipts={},
                started_at=naive(cycle.started_at),
            )
        )
