"""The store: cycles, evidence, decisions, releases, generations, the pointer, the lock and its fence.

Every change is one transaction. MLflow aliases and parquet copies are projections of the store. Nothing
here decides anything.

    tables     the tables, and the schema's version
    rows       the values that the store returns
    database   engine, schema, lock and fence
    ledger     which version became champion when and why, and the waiting challenger
    losses     evidence: losses of blends on blocks
    monitoring  alerts, profiles, findings, and two tables next to the predictions
    releases   the rows of a release, written in one transaction
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from automl.modeling.losses import BlockLoss
from automl.modeling.recipes import Blend
from automl.redaction import redact
from automl.store import ledger, losses
from automl.store import tables as t
from automl.store.database import Database
from automl.store.ledger import Entry, Waiting
from automl.store.rows import (
    ENDED,
    RECORD,
    UNSCORED,
    Cycle,
    DecisionRecord,
    Generation,
    Hold,
    Release,
    aware,
    cycle_of,
    decision_of,
    generation_of,
    naive,
    plain,
    release_of,
)
from automl.workspace import now

__all__ = [
    "UNSCORED",
    "Cycle",
    "DecisionRecord",
    "Entry",
    "Generation",
    "Hold",
    "Release",
    "Store",
    "Waiting",
    "aware",
    "naive",
]


class Store(Database):
    """The store of one workspace; cheap to open, safe to open twice."""

    # ---- cycles

    def cycles(
        self,
        problem: str,
        *,
        limit: int = 20,
        verb: str | None = None,
        before: datetime | None = None,
    ) -> list[Cycle]:
        """Newest first; of one verb, and before an as_of, if given."""
        query = sa.select(t.cycle).where(t.cycle.c.problem == problem)
        if verb is not None:
            query = query.where(t.cycle.c.verb == verb)
        if before is not None:
            query = query.where(t.cycle.c.as_of < naive(before))
        query = query.order_by(t.cycle.c.as_of.desc(), t.cycle.c.id.desc()).limit(limit)
        return [cycle_of(row) for row in self._all(query)]

    def find_cycle(self, problem: str, verb: str, as_of: datetime) -> Cycle | None:
        """The latest attempt of that cycle."""
        query = sa.select(t.cycle).where(
            t.cycle.c.problem == problem, t.cycle.c.verb == verb, t.cycle.c.as_of == naive(as_of)
        )
        rows = self._all(query.order_by(t.cycle.c.attempt.desc()).limit(1))
        return cycle_of(rows[0]) if rows else None

    def newest_as_of(self, problem: str, verb: str) -> datetime | None:
        """as_of of the newest cycle that ended without an error."""
        query = sa.select(sa.func.max(t.cycle.c.as_of)).where(
            t.cycle.c.problem == problem, t.cycle.c.verb == verb, t.cycle.c.status.in_(ENDED)
        )
        found = self._all(query)[0][0]
        return aware(found) if found else None

    def open_cycle(
        self, problem: str, verb: str, as_of: datetime, attempt: int, digest: str
    ) -> Cycle:
        """Start a cycle, or resume one that was interrupted or failed; a finished one is unchanged.

        A cycle whose data was refused, or whose problem file has changed since, starts over: its frozen
        history and its trials belong to another problem.
        """
        key = {"problem": problem, "verb": verb, "as_of": naive(as_of), "attempt": attempt}
        values: dict[str, Any] = {
            "status": "running",
            "reason": "",
            "problem_digest": digest,
            "finished_at": None,
        }
        with self.writer.begin() as connection:
            found = connection.execute(sa.select(t.cycle).filter_by(**key)).first()
            if found is None:
                connection.execute(
                    t.cycle.insert().values(**key, **values, receipts={}, started_at=naive(now()))
                )
            elif found.status not in ENDED:
                if found.status == "refused" or found.problem_digest != digest:
                    values["receipts"] = {}
                    connection.execute(t.trial.delete().where(t.trial.c.cycle_id == found.id))
                connection.execute(
                    t.cycle.update().where(t.cycle.c.id == found.id).values(**values)
                )
        opened = self.find_cycle(problem, verb, as_of)
        if opened is None:
            raise AssertionError("the cycle was written just now")
        return opened

    def note(self, cycle: Cycle, **receipts: Any) -> None:
        """Record the receipts of a finished step; a resumed cycle starts from there."""
        with self.writer.begin() as connection:
            earlier = connection.scalar(
                sa.select(t.cycle.c.receipts).where(t.cycle.c.id == cycle.id)
            )
            connection.execute(
                t.cycle.update()
                .where(t.cycle.c.id == cycle.id)
                .values(receipts=plain({**(earlier or {}), **receipts}))
            )

    def end_cycle(
        self, cycle: Cycle, status: str, reason: str, connection: sa.Connection | None = None
    ) -> None:
        """Record how the cycle ended."""
        change = t.cycle.update().where(t.cycle.c.id == cycle.id)
        change = change.values(
            status=status, reason=redact(reason)[:4000], finished_at=naive(now())
        )
        if connection is not None:
            connection.execute(change)
            return
        with self.writer.begin() as own:
            own.execute(change)

    def close_dead(self, hold: Hold, keep: Sequence[int]) -> None:
        """Close cycles whose process died; the caller holds the lock, so no process runs them.

        What such a cycle had recorded for MLflow was never committed, and is forgotten.
        """
        dead = sa.and_(
            t.cycle.c.problem == hold.problem,
            t.cycle.c.status == "running",
            t.cycle.c.id.not_in(keep),
        )
        ended = {"status": "failed", "reason": "its process died", "finished_at": naive(now())}
        with self.commit(hold) as connection:
            for row in connection.execute(
                sa.select(t.cycle.c.id, t.cycle.c.receipts).where(dead)
            ).all():
                receipts = {**(row.receipts or {}), RECORD: None}
                change = t.cycle.update().where(t.cycle.c.id == row.id)
                connection.execute(change.values(receipts=receipts, **ended))

    # ---- trials and evidence

    def save_trial(self, cycle: Cycle, recipe: str, content: Mapping[str, Any]) -> None:
        """Save a finished trial, so that a killed sweep need not repeat it."""
        with self.writer.begin() as connection:
            connection.execute(
                t.trial.delete().where(t.trial.c.cycle_id == cycle.id, t.trial.c.recipe == recipe)
            )
            connection.execute(
                t.trial.insert().values(cycle_id=cycle.id, recipe=recipe, content=plain(content))
            )

    def trials(self, cycle: Cycle) -> list[dict[str, Any]]:
        """The trials that `save_trial` saved."""
        return [
            row.content
            for row in self._all(sa.select(t.trial).where(t.trial.c.cycle_id == cycle.id))
        ]

    def evidence(
        self,
        problem: str,
        *,
        blends: Sequence[str] = (),
        starting: datetime | None = None,
        since: datetime | None = None,
    ) -> list[BlockLoss]:
        """Evidence of a problem, oldest cycle first: all of it, or what `losses.read` narrows it to."""
        return losses.read(self, problem, blends=blends, starting=starting, since=since)

    def add_evidence(
        self, connection: sa.Connection, problem: str, made: Sequence[BlockLoss]
    ) -> None:
        """Append the losses of a cycle; a repeated cycle replaces its own, an undefined loss is left out."""
        losses.write(connection, problem, made)

    # ---- decisions, releases, shadows

    def champion(
        self, problem: str, *, at: datetime | None = None, before: datetime | None = None
    ) -> Release | None:
        """The newest release; `at`: not later than that as_of; `before`: earlier than that as_of."""
        query = sa.select(t.release).where(t.release.c.problem == problem)
        if at is not None:
            query = query.where(t.release.c.as_of <= naive(at))
        if before is not None:
            query = query.where(t.release.c.as_of < naive(before))
        rows = self._all(query.order_by(t.release.c.as_of.desc(), t.release.c.id.desc()).limit(1))
        return release_of(rows[0]) if rows else None

    def releases(self, problem: str, *, limit: int = 50) -> list[Release]:
        """Newest first: by as_of, then by when they were made."""
        query = sa.select(t.release).where(t.release.c.problem == problem)
        query = query.order_by(t.release.c.as_of.desc(), t.release.c.id.desc()).limit(limit)
        return [release_of(row) for row in self._all(query)]

    def highest_version(self, problem: str) -> int:
        """The highest model version that was released or awaits approval; 0 without any."""
        tables = (t.release, t.waiting, t.generation)
        queries = [
            sa.select(sa.func.max(x.c.model_version)).where(x.c.problem == problem) for x in tables
        ]
        return max(int(self._all(query)[0][0] or 0) for query in queries)

    def decisions(self, problem: str, *, limit: int = 50) -> list[DecisionRecord]:
        """Newest first."""
        query = sa.select(t.decision).where(t.decision.c.problem == problem)
        query = query.order_by(t.decision.c.id.desc()).limit(limit)
        return [decision_of(row) for row in self._all(query)]

    def ledger(self, problem: str) -> list[Entry]:
        """Every row of the ledger, oldest first."""
        return self._read(lambda connection: ledger.entries(connection, problem))

    def waiting(self, problem: str) -> Waiting | None:
        """The challenger that awaits approval, expired or not."""
        return self._read(lambda connection: ledger.waiting(connection, problem))

    def shadows(self, problem: str) -> list[tuple[Blend, datetime]]:
        """Blends to be scored on the next block, with the end of the labels that chose them."""
        query = (
            sa.select(t.shadow).where(t.shadow.c.problem == problem).order_by(t.shadow.c.blend_id)
        )
        return [(Blend.from_json(row.blend), aware(row.labels_until)) for row in self._all(query)]

    def referred(self, problem: str) -> set[str]:
        """Digests of snapshots and batches that a decision, a running cycle or a generation refers to."""
        cycles = self._all(sa.select(t.cycle).where(t.cycle.c.problem == problem))
        frozen = {
            row.receipts["snapshot"]["digest"]
            for row in cycles
            if row.status not in ("dry-run", "failed", "refused", "skipped")
            and "snapshot" in row.receipts
        }
        generations = self._all(
            sa.select(t.generation.c.batch).where(
                t.generation.c.problem == problem, t.generation.c.state != "removed"
            )
        )
        return frozen | {row.batch for row in generations}

    def projected(self, release: Release) -> None:
        """MLflow's aliases have followed this release."""
        with self.writer.begin() as connection:
            connection.execute(
                t.release.update()
                .where(t.release.c.id == release.id)
                .values(projected_at=naive(now()))
            )

    # ---- generations

    def generations(self, problem: str, *, limit: int = 50) -> list[Generation]:
        """Published ones, newest first."""
        query = sa.select(t.generation).where(
            t.generation.c.problem == problem, t.generation.c.state == "published"
        )
        query = query.order_by(t.generation.c.id.desc()).limit(limit)
        return [generation_of(row) for row in self._all(query)]

    def generations_of(self, problem: str, version: int) -> list[Generation]:
        """Every generation of a model version, oldest first, in whatever state."""
        g = t.generation.c
        query = sa.select(t.generation).where(g.problem == problem, g.model_version == version)
        return [generation_of(row) for row in self._all(query.order_by(g.id))]

    def windows(self, problem: str) -> list[tuple[datetime, datetime]]:
        """(start, end) of every batch whose predictions were published."""
        g = t.generation.c
        query = sa.select(g.as_of, g.until).where(g.problem == problem, g.published_at.is_not(None))
        return [(aware(row.as_of), aware(row.until)) for row in self._all(query.distinct())]

    def refused(self, problem: str) -> set[datetime]:
        """as_of of the cycles whose data were refused."""
        c = t.cycle.c
        query = sa.select(c.as_of).where(c.problem == problem, c.status == "refused")
        return {aware(row.as_of) for row in self._all(query)}

    def live(self, table: str) -> Generation | None:
        """The generation that readers of a table see."""
        query = sa.select(t.generation).join(t.pointer, t.pointer.c.generation == t.generation.c.id)
        rows = self._all(query.where(t.pointer.c.table_name == table))
        return generation_of(rows[0]) if rows else None

    def record_realised(self, generation: int, rows: int, scores: Mapping[str, float]) -> None:
        """Record the scores of a generation on the labels that have arrived."""
        with self.writer.begin() as connection:
            connection.execute(
                t.generation.update()
                .where(t.generation.c.id == generation)
                .values(labelled_rows=rows, realised=plain(dict(scores)))
            )

    def seen(self, problem: str, at: datetime) -> Generation | None:
        """The generation that readers saw at a moment; a backfill was never shown to them."""
        g = t.generation.c
        query = sa.select(t.generation).where(g.problem == problem, g.published_at.is_not(None))
        published = {row.id: generation_of(row) for row in self._all(query)}
        shown = [(g.published_at, g.id) for g in published.values() if g.published_at]
        shown += [(e.at, e.generation) for e in self.ledger(problem) if e.generation]
        past = [
            (published[id_].as_of, moment, id_)
            for moment, id_ in shown
            if moment <= at and id_ in published
        ]
        return published[max(past)[2]] if past else None

    def staged(self, problem: str, like: Generation, version: int) -> int | None:
        """A generation of another version for the same batch as `like`, ready to be pointed at."""
        g = t.generation.c
        query = sa.select(g.id).where(
            g.problem == problem,
            g.model_version == version,
            g.state.in_(("staged", "published")),
            g.as_of == naive(like.as_of),
            g.until == naive(like.until),
            g.batch == like.batch,
        )
        rows = self._all(query.order_by(g.id.desc()).limit(1))
        return int(rows[0].id) if rows else None
