"""Make a decision effective: decision, champion, evidence, ledger and, in a cycle, the pointer.

Each function that commits does so in one transaction with a fence check. MLflow's aliases follow
afterwards; if the process dies in between, the next command brings them up to date.
"""

from __future__ import annotations

import contextlib
import getpass
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from automl import predictions
from automl.disk import naming_disk_errors
from automl.errors import BusyError
from automl.modeling.losses import BlockLoss
from automl.modeling.recipes import Blend
from automl.problem import Problem
from automl.promotion.records import unwritten, write_records
from automl.store import Cycle, Entry, Hold, Release, Store, Waiting, ledger, releases
from automl.testing import fault
from automl.tracking import Registry, open_registry
from automl.workspace import Workspace, day_of, now

__all__ = [
    "PendingDecision",
    "commit_publish",
    "commit_release",
    "commit_review",
    "current_actor",
    "ended_as",
    "reconcile",
    "roll_forward",
]

MOST_SHADOWS = 2  # each is evaluated on every block of the next cycle
# the ledger's kind of an outcome
KIND = {"first": "promote", "promote": "promote", "keep": "refit", "revert": "revert"}
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingDecision:
    """A decision with all that is committed along with it."""

    outcome: str  # first | promote | revert | keep | stay
    reason: str
    content: Mapping[str, Any]  # what `automl why` shows
    evidence: Sequence[BlockLoss]
    # (blend, end of the labels that chose it); None if nothing was searched: they stay unchanged
    shadows: Sequence[tuple[Blend, datetime]] | None
    actor: str = ""
    waiting: Waiting | None = None  # the challenger that awaits approval
    reverted_blend: str = ""  # blend of the champion that a revert replaces


def current_actor(trigger: str = "command") -> str:
    """The name that the ledger records: "schedule", or the user of this process."""
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
    decision: PendingDecision,
    release: Release,
    generation: int | None = None,
) -> Release:
    """Commit a cycle's decision; with a generation, publish it in the same transaction.

    A champion that stays unchanged (outcome stay) is not released again.
    """
    status = ended_as(decision, generation)
    by, released = decision.actor or current_actor(), release
    newest = store.newest_as_of(problem.name, "retrain")
    backfill = newest is not None and newest > cycle.as_of  # the shadows stay those of the newest
    with store.commit(hold) as connection:
        decision_id = releases.write_decision(
            connection,
            cycle,
            outcome="wait" if decision.waiting else decision.outcome,
            reason=decision.reason,
            content=decision.content,
        )
        if decision.outcome != "stay":
            entry = Entry(
                at=now(),
                as_of=release.as_of,
                kind=KIND[decision.outcome],
                actor=by,
                reason=decision.reason,
                decision_id=decision_id,
                generation=generation,
                blend_id=decision.reverted_blend,
            )
            released = replace(release, decision_id=decision_id)
            released = releases.write_release(connection, problem.name, released, entry)
        if decision.waiting is not None:
            challenger = replace(decision.waiting, decision_id=decision_id)
            ledger.let_wait(connection, problem.name, challenger, by)
        elif decision.shadows is not None:
            ledger.expire_waiting(connection, problem.name, cycle.as_of, by)
        store.add_evidence(connection, problem.name, decision.evidence)
        if decision.shadows is not None and not backfill:
            shadows = decision.shadows[:MOST_SHADOWS]
            releases.replace_shadows(connection, problem.name, shadows)
        if generation is not None:
            predictions.point(connection, store, hold, problem, generation)
            releases.close_scoring(connection, cycle)
        store.end_cycle(cycle, status, decision.reason, connection)
        fault("release.in_commit")
    fault("release.committed")
    return released


def ended_as(decision: PendingDecision, generation: int | None) -> str:
    """How a retraining with this decision ends."""
    if generation is not None:
        return "published"
    if decision.outcome != "stay":
        return "released"
    return "waiting" if decision.waiting else "kept"


def commit_review(
    store: Store,
    hold: Hold,
    problem: Problem,
    *,
    release: Release,
    entry: Entry,
    generation: int | None = None,
) -> Release:
    """Commit a rollback or an approval: champion, ledger and, with a generation, the pointer."""
    with store.commit(hold) as connection:
        entry = replace(entry, decision_id=release.decision_id, generation=generation)
        released = releases.write_release(connection, problem.name, release, entry)
        if entry.kind == "approve":
            ledger.drop_waiting(connection, problem.name)
        if generation is not None:
            predictions.point(connection, store, hold, problem, generation)
        fault(f"{entry.kind}.in_commit")
    fault(f"{entry.kind}.committed")
    return released


def commit_publish(
    store: Store, hold: Hold, problem: Problem, cycle: Cycle, *, generation: int, reason: str
) -> None:
    """Point readers at a staged and audited generation."""
    with store.commit(hold) as connection:
        predictions.point(connection, store, hold, problem, generation)
        store.end_cycle(cycle, "published", reason, connection)
        fault("publish.in_commit")
    fault("publish.committed")


def reconcile(store: Store, registry: Registry, problem: Problem) -> bool:
    """Let MLflow follow the newest release; returns whether anything had to change.

    An alias that was moved or removed by hand is put back with a warning: the store names the
    champion, and `automl rollback` changes it.

    Raises
    ------
    PredictError
        The champion's version was deleted in MLflow (`version_gone`).
    """
    released = store.releases(problem.name)
    if not released:
        return False
    newest, waiting = released[0], store.waiting(problem.name)
    registry.set_challenger(waiting.model_version if waiting else None)
    found = registry.champion_alias()
    projected = next((r.model_version for r in released if r.projected), None)
    if found not in (projected, newest.model_version):
        registry.require_version(newest.model_version)
        _log.warning("%s [registry_tampered]", _tampering(found, newest))
    if newest.projected and found == newest.model_version:
        return False
    registry.require_version(newest.model_version)
    outcome, reason = _cause(store, problem, newest)
    tags = {
        "cycle": f"{newest.as_of:%Y-%m-%d %H:%M}",
        "decision": outcome,
        "family": ", ".join(newest.blend.families),
        "fingerprint": newest.fingerprint[:16],
    }
    # the page of all versions shows the first words of it
    run = (
        f"[cycle {day_of(newest.as_of)}](#/experiments/{registry.experiment}/runs/{newest.run_id})"
    )
    description = f"{reason[:1].upper()}{reason[1:]}. Released by {run}."
    registry.update_aliases(released[:2], {newest.model_version: (description, tags)})
    fault("reconcile.aliased")
    registry.finish_cycle(newest.run_id, outcome, reason)
    store.projected(newest)
    return True


def roll_forward(problem: Problem, workspace: Workspace) -> None:
    """Bring MLflow and the parquet copy up to the store, if an earlier command could not."""
    store = Store(workspace)
    champion, live = store.champion(problem.name), store.live(problem.table)
    behind = champion is not None and not champion.projected
    unexported = live is not None and live.exported_at is None and problem.publish.parquet
    unrecorded = unwritten(store, problem)
    if not behind and not unexported and not unrecorded:
        return
    # busy: the run that holds the lock rolls forward
    with (
        contextlib.suppress(BusyError),
        naming_disk_errors(workspace.home),
        store.hold(problem.name),
    ):
        if unexported:  # first: MLflow may be out of reach
            predictions.export(store, problem)
        if behind or unrecorded:
            registry = open_registry(problem, workspace)
            write_records(store, registry, problem)
            reconcile(store, registry, problem)


def _tampering(found: int | None, newest: Release) -> str:
    change = "was removed" if found is None else f"was moved to version {found}"
    return (
        f"the alias champion {change} by hand; it is put back to the released version "
        f"{newest.model_version}. To release another version: automl rollback FILE --to VERSION --reason R"
    )


def _cause(store: Store, problem: Problem, release: Release) -> tuple[str, str]:
    """How a release came about, in a word and a sentence."""
    entry = ledger.champion_entry(store.ledger(problem.name))
    if entry is not None and entry.kind not in KIND.values():  # a person's review
        return entry.kind, entry.reason
    found = (d for d in store.decisions(problem.name) if d.id == release.decision_id)
    return next(((d.outcome, d.reason) for d in found), ("", ""))
