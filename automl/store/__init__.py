"""The truth: cycles, evidence, decisions, releases, generations, the pointer, the lock and its fence.

Every change is one transaction. MLflow aliases and parquet copies are projections of what stands here.
Nothing here decides anything.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from math import isfinite
from typing import Any, TypeVar

import filelock
import sqlalchemy as sa

from automl.errors import BusyError, ProblemError, UnreachableError
from automl.evidence import BlockLoss
from automl.spaces import Blend
from automl.store import ledger
from automl.store import tables as t
from automl.store.ledger import Entry, Waiting
from automl.workspace import Workspace, now, redact

__all__ = ["Cycle", "Entry", "Hold", "Release", "Store", "Waiting", "naive"]

T = TypeVar("T")
LEDGER, WAITING_VERSIONS = 2, 3  # schemas that brought them
ENDED = (
    "published",
    "released",
    "kept",
    "waiting",
    "skipped",
)  # refused and failed cycles may run again


@dataclass(frozen=True, slots=True)
class Hold:
    """The lock of a problem while we have it; commits carry its fence."""

    problem: str
    fence: int


@dataclass(frozen=True, slots=True)
class Cycle:
    """One (problem, verb, as_of, attempt) and what its finished steps left behind."""

    id: int
    problem: str
    verb: str
    as_of: datetime
    attempt: int
    status: str
    reason: str
    problem_digest: str
    receipts: Mapping[str, Any]
    started_at: datetime

    @property
    def ended(self) -> bool:
        """Whether it ended for good, so that running it again is a no-op."""
        return self.status in ENDED


@dataclass(frozen=True, slots=True)
class Release:
    """A model version made effective; the newest release is the champion."""

    id: int
    as_of: datetime
    model_version: int
    run_id: str
    digests: Mapping[str, str]
    fingerprint: str
    blend: Blend
    labels_until: datetime
    projected: bool
    decision_id: int = field(default=0, compare=False)  # that made this version
    released_at: datetime | None = field(default=None, compare=False)


class Store:
    """The store of one workspace; cheap to open, safe to open twice."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        url = sa.make_url(workspace.database_url)
        self.sqlite = url.get_backend_name() == "sqlite"
        if self.sqlite and url.database:
            workspace.home.mkdir(parents=True, exist_ok=True)
        wait = {"timeout": 20} if self.sqlite else {"connect_timeout": 5}
        self.engine = sa.create_engine(
            url,
            connect_args=wait,
            hide_parameters=True,  # they are rows, and an error's words are kept and shown
        )
        self.writer = self.engine.execution_options(
            writing=True
        )  # the same connections, for what changes rows
        if self.sqlite:
            _use_wal(self.engine)
        self._migrate()

    def _migrate(self) -> None:
        try:
            # the file lock: two processes that create a new SQLite file at once disturb each other
            with filelock.FileLock(self._lock_file("schema"), timeout=30):
                with self.engine.connect() as connection:
                    tables = set(sa.inspect(connection).get_table_names())
                    found = (
                        connection.scalar(sa.select(t.meta.c.version))
                        if t.meta.name in tables
                        else None
                    )
                whole = found == t.SCHEMA_VERSION and tables.issuperset(t.metadata.tables)
                if found is None or (found <= t.SCHEMA_VERSION and not whole):
                    self._create(found)
        except sa.exc.DBAPIError as error:
            raise self._silent(error) from error
        if found is not None and found > t.SCHEMA_VERSION:
            raise ProblemError(
                f"the store has schema {found}; this version knows {t.SCHEMA_VERSION}",
                code="newer_store",
                next_step="Install the version that wrote it.",
            )

    def _create(self, found: int | None) -> None:
        with self.writer.begin() as connection:
            if found is not None and found < WAITING_VERSIONS:  # the next cycle judges them again
                t.waiting.drop(connection, checkfirst=True)
            t.metadata.create_all(connection)
            if found is None:
                connection.execute(t.meta.insert().values(version=t.SCHEMA_VERSION))
            elif found < t.SCHEMA_VERSION:
                if found < LEDGER:
                    ledger.adopt_releases(connection)
                connection.execute(t.meta.update().values(version=t.SCHEMA_VERSION))

    def _lock_file(self, name: str) -> str:
        path = self.workspace.lock(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        return str(path)

    # ---- lock and fence

    @contextlib.contextmanager
    def hold(self, problem: str) -> Iterator[Hold]:
        """Hold the problem's lock; it goes when the process dies.

        Raises
        ------
        BusyError
            Another process holds it.
        UnreachableError
            The server of the store went away while the lock was held, and the lock with it.
        """
        with contextlib.ExitStack() as stack:
            if self.sqlite:
                stack.enter_context(self._file_lock(problem))
            else:
                stack.enter_context(self._advisory_lock(problem))
            hold = Hold(problem, self._next_fence(problem))
            try:
                yield hold
            except sa.exc.OperationalError as error:
                if self.sqlite:
                    raise
                if self.taken(
                    hold
                ):  # not the server, only our session had gone, and the lock with it
                    raise _fenced(hold) from error
                raise self._silent(error) from error

    @contextlib.contextmanager
    def _file_lock(self, problem: str) -> Iterator[None]:
        # a prefix of its own: a problem may be called "schema" or "mlflow", as other locks are
        lock = filelock.FileLock(self._lock_file(f"problem-{problem}"), timeout=0)
        try:
            lock.acquire()
        except filelock.Timeout:
            raise self._busy(problem) from None
        try:
            yield
        finally:
            lock.release()

    @contextlib.contextmanager
    def _advisory_lock(self, problem: str) -> Iterator[None]:
        number = int.from_bytes(
            hashlib.sha256(f"automl:{problem}".encode()).digest()[:8], "big", signed=True
        )
        with self.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            if not connection.scalar(sa.select(sa.func.pg_try_advisory_lock(number))):
                raise self._busy(problem)
            try:
                yield
            finally:
                with contextlib.suppress(sa.exc.DBAPIError):  # a session that is gone holds no lock
                    connection.scalar(sa.select(sa.func.pg_advisory_unlock(number)))

    def _busy(self, problem: str) -> BusyError:
        with self.engine.connect() as connection:
            row = connection.execute(sa.select(t.fence).where(t.fence.c.problem == problem)).first()
        who = f"{row.holder} since {row.since:%Y-%m-%d %H:%M:%S} UTC" if row else "another process"
        return BusyError(
            f"{problem}: held by {who}",
            code="busy",
            next_step="Wait for it to end; if it is dead, its lock is gone with it.",
        )

    def _next_fence(self, problem: str) -> int:
        holder = {
            "holder": f"process {os.getpid()} on {socket.gethostname()}",
            "since": naive(now()),
        }
        with self.writer.begin() as connection:
            value = connection.scalar(
                sa.select(t.fence.c.value).where(t.fence.c.problem == problem)
            )
            if value is None:
                connection.execute(t.fence.insert().values(problem=problem, value=1, **holder))
                return 1
            connection.execute(
                t.fence.update()
                .where(t.fence.c.problem == problem)
                .values(value=value + 1, **holder)
            )
            return int(value) + 1

    @contextlib.contextmanager
    def commit(self, hold: Hold) -> Iterator[sa.Connection]:
        """One transaction that fails if somebody has taken the lock since."""
        with self.writer.begin() as connection:
            kept = connection.execute(
                t.fence.update()
                .where(t.fence.c.problem == hold.problem, t.fence.c.value == hold.fence)
                .values(value=hold.fence)
            )
            if kept.rowcount != 1:
                raise _fenced(hold)
            yield connection

    def taken(self, hold: Hold) -> bool:
        """Whether somebody else has held the lock since: what the holder was at is theirs now."""
        query = sa.select(t.fence.c.value).where(t.fence.c.problem == hold.problem)
        return self._ask(lambda connection: connection.scalar(query)) != hold.fence

    def require(self, hold: Hold) -> None:
        """Raise BusyError if somebody has taken over; asked before MLflow, which knows no fence, is told."""
        if self.taken(hold):
            raise _fenced(hold)

    # ---- cycles

    def cycles(self, problem: str, *, limit: int = 20) -> list[Cycle]:
        """Newest first."""
        query = sa.select(t.cycle).where(t.cycle.c.problem == problem)
        query = query.order_by(t.cycle.c.as_of.desc(), t.cycle.c.id.desc()).limit(limit)
        return [_cycle(row) for row in self._all(query)]

    def find_cycle(self, problem: str, verb: str, as_of: datetime) -> Cycle | None:
        """The latest attempt of that cycle."""
        query = sa.select(t.cycle).where(
            t.cycle.c.problem == problem, t.cycle.c.verb == verb, t.cycle.c.as_of == naive(as_of)
        )
        rows = self._all(query.order_by(t.cycle.c.attempt.desc()).limit(1))
        return _cycle(rows[0]) if rows else None

    def newest_as_of(self, problem: str, verb: str) -> datetime | None:
        """as_of of the newest cycle that ended well."""
        query = sa.select(sa.func.max(t.cycle.c.as_of)).where(
            t.cycle.c.problem == problem, t.cycle.c.verb == verb, t.cycle.c.status.in_(ENDED)
        )
        found = self._all(query)[0][0]
        return found.replace(tzinfo=UTC) if found else None

    def open_cycle(
        self, problem: str, verb: str, as_of: datetime, attempt: int, digest: str
    ) -> Cycle:
        """Start a cycle, or go on with one that was interrupted or failed; one that ended stays as it is.

        A cycle whose data was refused, or whose problem file has changed since, starts from nothing: the
        history it had frozen and its trials answer another question.
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
        """Remember what a finished step left; a resumed cycle starts from there."""
        with self.writer.begin() as connection:
            kept = connection.scalar(sa.select(t.cycle.c.receipts).where(t.cycle.c.id == cycle.id))
            connection.execute(
                t.cycle.update()
                .where(t.cycle.c.id == cycle.id)
                .values(receipts={**(kept or {}), **receipts})
            )

    def end_cycle(
        self, cycle: Cycle, status: str, reason: str, connection: sa.Connection | None = None
    ) -> None:
        """Give the cycle its one ending."""
        change = t.cycle.update().where(t.cycle.c.id == cycle.id)
        change = change.values(status=status, reason=reason[:4000], finished_at=naive(now()))
        if connection is not None:
            connection.execute(change)
            return
        with self.writer.begin() as own:
            own.execute(change)

    def sweep_dead(self, hold: Hold, keep: Sequence[int]) -> None:
        """Close cycles that died in an earlier process; callers hold the lock, so nobody runs them."""
        with self.commit(hold) as connection:
            connection.execute(
                t.cycle.update()
                .where(
                    t.cycle.c.problem == hold.problem,
                    t.cycle.c.status == "running",
                    t.cycle.c.id.not_in(keep),
                )
                .values(status="failed", reason="its process died", finished_at=naive(now()))
            )

    # ---- trials and evidence

    def save_trial(self, cycle: Cycle, recipe: str, content: Mapping[str, Any]) -> None:
        """Keep a finished trial, so that a killed sweep need not repeat it."""
        with self.writer.begin() as connection:
            connection.execute(
                t.trial.delete().where(t.trial.c.cycle_id == cycle.id, t.trial.c.recipe == recipe)
            )
            connection.execute(
                t.trial.insert().values(cycle_id=cycle.id, recipe=recipe, content=_plain(content))
            )

    def trials(self, cycle: Cycle) -> list[dict[str, Any]]:
        """What `save_trial` kept."""
        return [
            row.content
            for row in self._all(sa.select(t.trial).where(t.trial.c.cycle_id == cycle.id))
        ]

    def evidence(self, problem: str) -> list[BlockLoss]:
        """All evidence of a problem, oldest cycle first."""
        query = (
            sa.select(t.evidence)
            .where(t.evidence.c.problem == problem)
            .order_by(t.evidence.c.cycle)
        )
        return [
            BlockLoss(
                _aware(r.cycle),
                r.blend,
                _aware(r.start),
                _aware(r.end),
                r.rows,
                r.loss,
                r.floor,
                r.kind,
            )
            for r in self._all(query)
        ]

    def add_evidence(
        self, connection: sa.Connection, problem: str, losses: Sequence[BlockLoss]
    ) -> None:
        """Append the losses of a cycle; a repeated cycle replaces its own, an undefined loss is left out."""
        for cycle_at in {loss.cycle for loss in losses}:
            connection.execute(
                t.evidence.delete().where(
                    t.evidence.c.problem == problem, t.evidence.c.cycle == naive(cycle_at)
                )
            )
        rows = [
            {
                "problem": problem,
                "cycle": naive(x.cycle),
                "blend": x.blend,
                "start": naive(x.start),
                "end": naive(x.end),
                "rows": x.rows,
                "loss": x.loss,
                "floor": x.floor,
                "kind": x.kind,
            }
            for x in losses
            if isfinite(x.loss)
        ]
        if rows:
            connection.execute(t.evidence.insert(), rows)

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
        return _release(rows[0]) if rows else None

    def releases(self, problem: str, *, limit: int = 50) -> list[Release]:
        """Newest first: by as_of, then by when they were made."""
        query = sa.select(t.release).where(t.release.c.problem == problem)
        query = query.order_by(t.release.c.as_of.desc(), t.release.c.id.desc()).limit(limit)
        return [_release(row) for row in self._all(query)]

    def decisions(self, problem: str, *, limit: int = 50) -> list[dict[str, Any]]:
        """Newest first, as plain rows."""
        query = sa.select(t.decision).where(t.decision.c.problem == problem)
        return [
            dict(row._mapping)
            for row in self._all(query.order_by(t.decision.c.id.desc()).limit(limit))
        ]

    def ledger(self, problem: str) -> list[Entry]:
        """Every row of the ledger, oldest first."""
        return self._ask(lambda connection: ledger.entries(connection, problem))

    def waiting(self, problem: str) -> Waiting | None:
        """The challenger that waits for a person, expired or not."""
        return self._ask(lambda connection: ledger.waiting(connection, problem))

    def shadows(self, problem: str) -> list[tuple[Blend, datetime]]:
        """Challengers that wait for a virgin block, with the end of the labels that chose them."""
        query = (
            sa.select(t.shadow).where(t.shadow.c.problem == problem).order_by(t.shadow.c.blend_id)
        )
        return [(Blend.from_json(row.blend), _aware(row.labels_until)) for row in self._all(query)]

    def referred(self, problem: str) -> set[str]:
        """Digests of snapshots and batches that a decision, a running cycle or a generation refers to."""
        cycles = self._all(sa.select(t.cycle).where(t.cycle.c.problem == problem))
        kept = {
            row.receipts["snapshot"]["digest"]
            for row in cycles
            if row.status not in ("dry-run", "failed", "refused") and "snapshot" in row.receipts
        }
        generations = self._all(
            sa.select(t.generation.c.batch).where(
                t.generation.c.problem == problem, t.generation.c.state != "removed"
            )
        )
        return kept | {row.batch for row in generations}

    def projected(self, release: Release) -> None:
        """MLflow's aliases have followed this release."""
        with self.writer.begin() as connection:
            connection.execute(
                t.release.update()
                .where(t.release.c.id == release.id)
                .values(projected_at=naive(now()))
            )

    # ---- generations

    def generations(self, problem: str, *, limit: int = 50) -> list[dict[str, Any]]:
        """Published ones, newest first, as plain rows."""
        query = sa.select(t.generation).where(
            t.generation.c.problem == problem, t.generation.c.state == "published"
        )
        return [
            dict(row._mapping)
            for row in self._all(query.order_by(t.generation.c.id.desc()).limit(limit))
        ]

    def live(self, table: str) -> dict[str, Any] | None:
        """The generation that readers of a table see."""
        query = sa.select(t.generation).join(t.pointer, t.pointer.c.generation == t.generation.c.id)
        rows = self._all(query.where(t.pointer.c.table_name == table))
        return dict(rows[0]._mapping) if rows else None

    def judged(self, generation: int, rows: int, scores: Mapping[str, float]) -> None:
        """How a generation has turned out, on the labels that have arrived."""
        with self.writer.begin() as connection:
            connection.execute(
                t.generation.update()
                .where(t.generation.c.id == generation)
                .values(judged_rows=rows, judged=_plain(dict(scores)))
            )

    def seen(self, problem: str, at: datetime) -> dict[str, Any] | None:
        """The generation that readers saw at a moment; a backfill never came before their eyes."""
        g = t.generation.c
        query = sa.select(t.generation).where(g.problem == problem, g.published_at.is_not(None))
        rows = {row.id: dict(row._mapping) for row in self._all(query)}
        told = [(row["published_at"].replace(tzinfo=UTC), name) for name, row in rows.items()]
        told += [(e.at, e.generation) for e in self.ledger(problem) if e.generation in rows]
        past = [(rows[name]["as_of"], moment, name) for moment, name in told if moment <= at]
        return rows[max(past)[2]] if past else None

    def staged(self, problem: str, like: Mapping[str, Any], version: int) -> int | None:
        """A generation of another version for the same batch as this one, ready to be pointed at."""
        g = t.generation.c
        query = sa.select(g.id).where(
            g.problem == problem,
            g.model_version == version,
            g.state.in_(("staged", "published")),
            *(g[name] == like[name] for name in ("as_of", "until", "batch")),
        )
        rows = self._all(query.order_by(g.id.desc()).limit(1))
        return int(rows[0].id) if rows else None

    def _all(self, query: sa.Select[Any]) -> Sequence[sa.Row[Any]]:
        return self._ask(lambda connection: connection.execute(query).all())

    def _ask(self, question: Callable[[sa.Connection], T]) -> T:
        try:
            with self.engine.connect() as connection:
                return question(connection)
        except sa.exc.OperationalError as error:
            raise self._silent(error) from error

    def _silent(self, error: sa.exc.DBAPIError) -> UnreachableError:
        said = " ".join(redact(str(error.orig)).split())
        todo = "the rights and space of the workspace folder"
        if not self.sqlite:
            todo = "that PostgreSQL runs, and AUTOML_DATABASE_URL"
        return UnreachableError(
            f"the store {redact(self.workspace.database_url)} does not answer: {said}",
            code="store_unreachable",
            next_step=f"Check {todo}; then the same command again.",
        )


def _fenced(hold: Hold) -> BusyError:
    return BusyError(
        f"{hold.problem}: another run has taken over; nothing was committed",
        code="fenced",
        next_step="Nothing need be done: what the other run has left stands.",
    )


def naive(moment: datetime) -> datetime:
    """UTC without zone, as tables hold it."""
    return moment.astimezone(UTC).replace(tzinfo=None)


def _aware(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC)


def _plain(content: Mapping[str, Any]) -> Any:
    """JSON-safe: NaN and infinities become null, numpy numbers become numbers."""
    text = json.dumps(content, default=lambda v: v.item() if hasattr(v, "item") else str(v))
    return json.loads(text, parse_constant=lambda _: None)


def _cycle(row: sa.Row[Any]) -> Cycle:
    return Cycle(
        row.id,
        row.problem,
        row.verb,
        _aware(row.as_of),
        row.attempt,
        row.status,
        row.reason,
        row.problem_digest,
        row.receipts or {},
        _aware(row.started_at),
    )


def _release(row: sa.Row[Any]) -> Release:
    return Release(
        row.id,
        _aware(row.as_of),
        row.model_version,
        row.run_id,
        row.digests,
        row.fingerprint,
        Blend.from_json(row.blend),
        _aware(row.labels_until),
        row.projected_at is not None,
        row.decision_id,
        _aware(row.released_at),
    )


def _use_wal(engine: sa.Engine) -> None:
    """Readers never wait for the writer, and what writes takes the write lock when it begins."""

    @sa.event.listens_for(engine, "connect")
    def connect(connection: Any, _: Any) -> None:
        connection.isolation_level = None  # SQLAlchemy begins transactions below, not the driver
        connection.execute("pragma journal_mode = wal")

    @sa.event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        writing = connection.get_execution_options().get("writing", False)
        connection.exec_driver_sql("begin immediate" if writing else "begin")
