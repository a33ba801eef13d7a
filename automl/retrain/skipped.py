"""The end of a retraining that its policy skips: nothing was fitted, the champion stays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from automl.cycles.job import Job
from automl.cycles.result import CycleResult
from automl.cycles.steps import step
from automl.errors import UnreachableError
from automl.promotion.records import leave_record, write_record
from automl.testing import fault
from automl.tracking import CycleRecord

__all__ = ["end_skipped"]


@step("skip", io=True)
def end_skipped(job: Job, reason: str, warnings: Sequence[str]) -> CycleResult:
    """End the cycle as skipped: in the store, and in MLflow as a run without trials."""
    status = "dry-run" if job.options.dry_run else "skipped"
    text = f"dry run: {reason}" if job.options.dry_run else reason
    record = CycleRecord(
        run_id=_run(job),
        tags={"decision": status, "plan": "skip", "plan_reason": reason},
        note=f"{status}: {reason}\n\nNothing was fitted; the champion is unchanged.",
    )
    leave_record(job.store, job.cycle, record)
    fault("retrain.skip_recorded")
    with job.store.commit(job.hold) as connection:
        job.store.end_cycle(job.cycle, status, text, connection)
    fault("retrain.skipped")
    champion = job.champion
    result = CycleResult(
        problem=job.problem,
        as_of=job.as_of,
        status=status,
        reason=text,
        model_version=champion.model_version if champion else None,
        run_id=record.run_id,
        experiment=job.registry.experiment,
        warnings=list(warnings),
    )
    try:
        write_record(job.store, job.registry, job.cycle, record)
    except UnreachableError as error:
        lag = f"MLflow is not up to date; the next command updates it: {error}"
        return replace(result, warnings=[*result.warnings, lag])
    return result


def _run(job: Job) -> str:
    """The id of the cycle's run; an interrupted cycle resumes in the run that it had."""
    job.require_hold()
    before = job.cycle.receipts.get("run_id")
    if before and job.registry.reopen(before):
        return str(before)
    tags = {"trigger": job.options.trigger, "data_as_of": job.as_of.isoformat()}
    run_id = job.registry.open_cycle(job.tag, {}, tags)
    job.store.note(job.cycle, run_id=run_id, experiment=job.registry.experiment)
    return run_id
