"""The values that the store returns, and how they are read from rows."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from automl.modeling.recipes import Blend

__all__ = [
    "ENDED",
    "RECORD",
    "UNSCORED",
    "Cycle",
    "DecisionRecord",
    "Generation",
    "Hold",
    "Release",
    "aware",
    "cycle_of",
    "decision_of",
    "generation_of",
    "naive",
    "plain",
    "release_of",
]

# refused and failed cycles may run again
ENDED = ("published", "released", "kept", "waiting", "skipped")
# how a retraining ends that published nothing
UNSCORED = ("released", "kept", "waiting", "skipped")
# the receipt that holds what MLflow must show of an ended cycle, until it does
RECORD = "mlflow_record"


@dataclass(frozen=True, slots=True)
class Hold:
    """The lock of a problem, while this process holds it; commits check its fence."""

    problem: str
    fence: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Cycle:
    """One (problem, verb, as_of, attempt), with the receipts of its finished steps."""

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
    finished_at: datetime | None = None

    @property
    def seconds(self) -> float | None:
        """Wall clock from its start to its end, interruptions included; None while it runs."""
        end = self.finished_at
        return round((end - self.started_at).total_seconds(), 1) if end else None

    @property
    def ended(self) -> bool:
        """Whether it ended for good, so that running it again is a no-op."""
        return self.status in ENDED

    @property
    def unrecorded(self) -> bool:
        """Whether MLflow does not show yet how it ended."""
        return bool(self.receipts.get(RECORD)) and self.status != "running"


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """A model version made effective; the newest release is the champion."""

    as_of: datetime
    model_version: int
    run_id: str
    digests: Mapping[str, str]
    fingerprint: str
    blend: Blend
    labels_until: datetime
    projected: bool = False  # whether MLflow's aliases have followed
    id: int = 0
    decision_id: int = field(default=0, compare=False)  # that made this version
    released_at: datetime | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionRecord:
    """One decision of a cycle, as it was recorded."""

    id: int
    as_of: datetime
    attempt: int
    outcome: str  # first | promote | revert | keep | stay | wait
    reason: str
    content: Mapping[str, Any]  # what `automl why` shows
    decided_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """One complete set of predictions for one batch, made by one model version."""

    id: int
    as_of: datetime
    until: datetime
    attempt: int
    model_version: int
    run_id: str
    batch: str  # digest of the rows that were scored
    rows: int
    state: str  # staging | staged | published | removed
    scored_at: datetime
    published_at: datetime | None = None
    exported_at: datetime | None = None  # when the parquet copy followed
    labelled_rows: int = 0  # rows whose label has arrived
    realised: Mapping[str, float | None] = field(default_factory=dict)  # metric -> score on them

    @property
    def window(self) -> tuple[datetime, datetime]:
        """Start and end of the batch: (as_of, until)."""
        return self.as_of, self.until


def naive(moment: datetime) -> datetime:
    """UTC without zone, as in the tables."""
    return moment.astimezone(UTC).replace(tzinfo=None)


def aware(moment: datetime) -> datetime:
    """UTC with its zone, as the rest of the code uses it."""
    return moment.replace(tzinfo=UTC)


def plain(content: Mapping[str, Any]) -> Any:
    """JSON-safe: NaN and infinities become null, numpy numbers become numbers."""
    text = json.dumps(content, default=lambda v: v.item() if hasattr(v, "item") else str(v))
    return json.loads(text, parse_constant=lambda _: None)


def cycle_of(row: sa.Row[Any]) -> Cycle:
    """The cycle of a row."""
    return Cycle(
        id=row.id,
        problem=row.problem,
        verb=row.verb,
        as_of=aware(row.as_of),
        attempt=row.attempt,
        status=row.status,
        reason=row.reason,
        problem_digest=row.problem_digest,
        receipts=row.receipts or {},
        started_at=aware(row.started_at),
        finished_at=aware(row.finished_at) if row.finished_at else None,
    )


def release_of(row: sa.Row[Any]) -> Release:
    """The release of a row."""
    return Release(
        id=row.id,
        as_of=aware(row.as_of),
        model_version=row.model_version,
        run_id=row.run_id,
        digests=row.digests,
        fingerprint=row.fingerprint,
        blend=Blend.from_json(row.blend),
        labels_until=aware(row.labels_until),
        projected=row.projected_at is not None,
        decision_id=row.decision_id,
        released_at=aware(row.released_at),
    )


def decision_of(row: sa.Row[Any]) -> DecisionRecord:
    """The decision of a row."""
    return DecisionRecord(
        id=row.id,
        as_of=aware(row.as_of),
        attempt=row.attempt,
        outcome=row.outcome,
        reason=row.reason,
        content=row.content,
        decided_at=aware(row.decided_at),
    )


def generation_of(row: sa.Row[Any]) -> Generation:
    """The generation of a row."""
    return Generation(
        id=row.id,
        as_of=aware(row.as_of),
        until=aware(row.until),
        attempt=row.attempt,
        model_version=row.model_version,
        run_id=row.run_id,
        batch=row.batch,
        rows=row.rows,
        state=row.state,
        scored_at=aware(row.scored_at),
        published_at=aware(row.published_at) if row.published_at else None,
        exported_at=aware(row.exported_at) if row.exported_at else None,
        labelled_rows=row.labelled_rows,
        realised=row.realised or {},
    )
