"""What MLflow must show of an ended cycle: recorded in the store first, so that a later command can write it.

MLflow may be out of reach when a cycle ends, or the process may die. The store then still holds the record, and
the next command that opens MLflow writes it.
"""

from __future__ import annotations

from automl.problem import Problem
from automl.store import RECORD, Cycle, Store
from automl.tracking import CycleRecord, Registry

__all__ = ["leave_record", "unwritten", "write_record", "write_records"]

LOOKED_BACK = 100  # cycles


def leave_record(store: Store, cycle: Cycle, record: CycleRecord) -> None:
    """Record what the cycle's run must show once the cycle has ended."""
    store.note(cycle, **{RECORD: record.to_json()})


def write_record(store: Store, registry: Registry, cycle: Cycle, record: CycleRecord) -> None:
    """Write a record to the cycle's run, and end the run."""
    registry.close_cycle(record)
    store.note(cycle, **{RECORD: None})


def unwritten(store: Store, problem: Problem) -> list[Cycle]:
    """Ended cycles whose records are not in MLflow yet, oldest first."""
    cycles = store.cycles(problem.name, limit=LOOKED_BACK)
    return [c for c in reversed(cycles) if c.unrecorded]


def write_records(store: Store, registry: Registry, problem: Problem) -> None:
    """Write the records of ended cycles that are not in MLflow yet; callers hold the problem's lock."""
    for cycle in unwritten(store, problem):
        write_record(store, registry, cycle, CycleRecord.from_json(cycle.receipts[RECORD]))
