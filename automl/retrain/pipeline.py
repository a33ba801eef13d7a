"""The story of a retraining: fresh history, a sweep, an honest decision, a release.

One page. What the steps do is said in their rooms; what a cycle leaves behind is kept in the store, so
that a killed cycle goes on where it was.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import datetime
from functools import partial
from pathlib import Path

import pandas as pd

from automl import history
from automl.cycles.job import Job, Run, call, open_job
from automl.cycles.options import CycleResult, RunOptions
from automl.errors import AutomlError
from automl.history import Snapshot
from automl.history import contract as contracts
from automl.history.contract import Contract
from automl.history.maturity import Maturity, estimate, mature_rows, missing_outcomes, with_maturity
from automl.modeling.recipes import Blend
from automl.modeling.splits import make_blocks
from automl.modeling.workers import warm_up
from automl.monitoring.realised import record_realised
from automl.predictions import clean
from automl.problem import Problem, Span
from automl.promotion.guards import REFUSED, Examiner, Guard, check_model, compare, sample_rows
from automl.promotion.release import commit_release, ended_as, reconcile, roll_forward
from automl.retrain.choose import Choice, make_choice
from automl.retrain.cycle_note import (
    Told,
    cycle_artifacts,
    cycle_metrics,
    cycle_note,
    cycle_tags,
    run_params,
    run_tags,
)
from automl.retrain.plan import make_plan, narrowed
from automl.retrain.search import Fitted, fit_chosen, keep_fits, score_shadows, search, turned_away
from automl.store import Release
from automl.sweep import Leaderboard, Plan, Refits, Work
from automl.testing import fault
from automl.tracking import Code, TrialLog
from automl.workspace import Workspace

__all__ = ["Stage", "make_work", "pull", "retrain"]

Stage = Callable[[Job, Release], tuple[int, int]]  # -> (generation, rows)
_log = logging.getLogger(__name__)


def retrain(
    problem: Problem,
    workspace: Workspace,
    options: RunOptions | None = None,
    *,
    run: Run = call,
    stage: Stage | None = None,
) -> CycleResult:
    """Run the retraining cycle of one as_of to its end; again, it is a no-op.

    With `stage` (given by `cycle`) predictions are staged first and released in the same transaction.

    Raises
    ------
    AutomlError
        The cycle was refused or failed. Champion and predictions are then as they were.
    """
    with open_job(problem, workspace, "retrain", options or RunOptions()) as opened:
        if isinstance(opened, CycleResult):
            run("export", roll_forward, problem, workspace, io=True)
            return opened
        warm_up()
        snapshot = run("pull history", pull, opened, io=True)
        job = settle_maturity(opened, snapshot)
        contract, warnings = run("check contract", _check, job, snapshot)
        run("judge published predictions", record_realised, job, snapshot, contract, io=True)
        work = make_work(job, snapshot, contract)
        known = run("score shadows", score_shadows, job, work)
        plan = run("plan", make_plan, job, work, known)
        work = narrowed(work, plan)
        run_id = run("open MLflow run", _open_run, job, work, snapshot, plan, io=True)
        ours = partial(job.store.require, job.hold)
        logging_trials = job.registry.logging_trials(run_id, job.tag, work.families, ours)
        with logging_trials as log, Refits(work) as refits:
            leaderboard, deadline = run("sweep", search, job, refits, plan, log)
            choice = run("decide", make_choice, job, work, leaderboard, plan)
            if job.options.dry_run:
                return _dry_run_result(job, leaderboard, choice, warnings, run_id)
            _log_roles(job, log, leaderboard, choice)
            fitted = run("refit", fit_chosen, job, refits, leaderboard, choice, deadline, plan)
        choice, warnings = fitted.choice, [*warnings, *fitted.warnings]
        release, guards = _examined(job, work, leaderboard, fitted, run_id, run)
        if fitted.waiting:
            choice = run(
                "register who waits", _register_waiting, job, work, choice, fitted, run_id, io=True
            )
        generation, rows = run("stage predictions", stage, job, release) if stage else (None, None)
        release = run("release", _commit, job, choice, release, generation)
        try:
            run(
                "tell MLflow",
                _tell,
                job,
                work,
                leaderboard,
                choice,
                guards,
                (release, run_id),
                io=True,
            )
        except Exception as error:  # noqa: BLE001  committed already: a lagging projection is no failure
            warnings.append(f"MLflow does not know yet, the next command tells it: {error}")
        keep_fits(job, work, leaderboard, fitted, plan)
        _clean(job, work)
        return CycleResult(
            problem,
            job.as_of,
            ended_as(choice.pending, generation),
            choice.pending.reason,
            model_version=release.model_version,
            generation=generation,
            rows=rows,
            leaderboard=leaderboard,
            decision=choice.decision,
            run_id=run_id,
            experiment=job.registry.experiment,
            warnings=warnings,
        )


# ---------------------------------------------------------------- steps, in calling order


def pull(job: Job) -> Snapshot:
    """The frozen history of a cycle; the one it had if it was interrupted."""
    job.store.require(job.hold)
    kept = job.cycle.receipts.get("snapshot")
    if kept and Path(kept["path"]).exists():  # an interrupted cycle goes on with the history it had
        ends = {k: datetime.fromisoformat(kept[k]) for k in ("first", "last")}
        lists = {k: tuple(kept[k]) for k in ("offered", "warnings")}
        return Snapshot(**{**kept, **ends, **lists, "path": Path(kept["path"])})
    contract = contracts.load_contract(job.problem)
    snapshot = history.pull(
        job.problem,
        job.workspace,
        job.as_of,
        kinds=contract.kinds(job.problem) if contract else None,
        nulls=contract.nulls if contract else (),
    )
    dates = {
        "first": f"{snapshot.first:%Y-%m-%dT%H:%M:%S%z}",
        "last": f"{snapshot.last:%Y-%m-%dT%H:%M:%S%z}",
    }
    job.store.note(job.cycle, snapshot={**asdict(snapshot), **dates, "path": str(snapshot.path)})
    fault("retrain.pulled")
    return snapshot


def settle_maturity(job: Job, snapshot: Snapshot) -> Job:
    """The job with the age at which labels are complete, settled once per cycle, as its label delay."""
    if not job.problem.history.label_time:
        return job
    kept = job.cycle.receipts.get("maturity")
    if kept and kept["snapshot"] == snapshot.digest:
        maturity = Maturity.from_json(kept)
    else:
        before = _maturity_before(job)
        maturity = estimate(history.read(snapshot), job.problem, job.as_of, before)
        job.store.note(job.cycle, maturity={**maturity.to_json(), "snapshot": snapshot.digest})
    _log.info("labels: %s", maturity.in_words)
    return replace(job, problem=with_maturity(job.problem, maturity))


def _maturity_before(job: Job) -> Span | None:
    """The age that the champion's cycle used."""
    champion = job.champion
    cycle = job.store.find_cycle(job.problem.name, "retrain", champion.as_of) if champion else None
    kept = cycle.receipts.get("maturity") if cycle else None
    return Maturity.from_json(kept).age if kept else None


def _mature_rows(job: Job, snapshot: Snapshot) -> pd.DataFrame:
    return mature_rows(history.read(snapshot), job.problem, job.as_of)


def _check(job: Job, snapshot: Snapshot) -> tuple[Contract, list[str]]:
    frame = _mature_rows(job, snapshot)
    contract = contracts.load_contract(job.problem)
    if contract is None:
        contract = contracts.infer(frame, job.problem, snapshot.unused)
        contracts.save_contract(job.problem, contract)
        _log.info(
            "wrote %s: read it, correct it, commit it", contracts.contract_file(job.problem).name
        )
    found = contracts.check(frame, contract, job.problem, snapshot.offered, as_of=job.as_of)
    warnings = [
        *map(str, found),
        *missing_outcomes(frame, job.problem),
        *snapshot.warnings,
        *_without_weights(job),
    ]
    if snapshot.quarantined:
        told = ", ".join(f"{count} {reason}" for reason, count in snapshot.quarantined.items())
        warnings.append(f"rows set aside: {told}; see automl history {job.problem.file.name}")
    for warning in warnings:
        _log.warning(warning)
    return contract, warnings


def _without_weights(job: Job) -> list[str]:
    """A warning that names the families whose fits do not see the user's row weights."""
    h, offered = job.problem.history, job.families.values()
    names = [f.name for f in offered if not f.weights and job.problem.task in f.tasks]
    if not h.weight or not names:
        return []
    said = f"history.weight {h.weight!r} does not count in fits of {', '.join(names)}, which take no weights"
    return [f"{said}; their trials are scored with it all the same [weights_not_taken]"]


def make_work(job: Job, snapshot: Snapshot, contract: Contract) -> Work:
    """What sweep and refit of a cycle work on: the rows that count."""
    frame = contracts.counted(_mature_rows(job, snapshot), job.problem)
    return Work(
        problem=job.problem,
        contract=contract,
        families=job.families,
        frame=frame,
        blocks=make_blocks(frame, job.problem, job.as_of),
        scratch=job.workspace.scratch(job.problem.name)
        / f"{job.as_of:%Y%m%dT%H%M}-{snapshot.digest[:12]}",
        workers=job.workspace.workers,
        columns=job.columns,
    )


def _open_run(job: Job, work: Work, snapshot: Snapshot, plan: Plan) -> str:
    job.store.require(job.hold)
    kept = job.cycle.receipts.get("run_id")
    if kept and job.registry.reopen(kept):
        return str(kept)
    run_id = job.registry.open_cycle(
        job.tag,
        run_params(job, work),
        {**run_tags(job), "plan": plan.kind, "plan_reason": plan.reason},
    )
    job.registry.log_snapshot(run_id, snapshot, work.contract.features)
    job.store.note(job.cycle, run_id=run_id, experiment=job.registry.experiment)
    fault("retrain.run_opened")
    return run_id


def _roles(choice: Choice) -> dict[str, str]:
    """What became of recipes, by id, as reviewers find it at their trials."""
    one = choice.pending.waiting
    roles = {m.recipe.id: "waits" for m in one.blend.members} if one else {}
    return roles | {m.recipe.id: "chosen" for m in choice.blend.members}


def _log_roles(job: Job, log: TrialLog, leaderboard: Leaderboard, choice: Choice) -> None:
    """Beside the refit; `_log_trials` corrects them where the refit changed the choice."""
    job.store.require(job.hold)  # of a run that was taken over MLflow is told nothing
    roles = _roles(choice)
    for trial in leaderboard.trials:
        log(trial, roles.get(trial.recipe.id, ""))


def _log_trials(
    job: Job, work: Work, leaderboard: Leaderboard, choice: Choice, run_id: str
) -> None:
    job.store.require(job.hold)
    job.registry.log_trials(run_id, job.tag, leaderboard.trials, work.families, _roles(choice))
    job.store.note(job.cycle, logging_seconds=round(job.registry.waited, 2))


def _examined(
    job: Job, work: Work, leaderboard: Leaderboard, fitted: Fitted, run_id: str, run: Run
) -> tuple[Release, list[Guard]]:
    """The refitted model registered and examined; a champion that stays as it is was examined before."""
    choice = fitted.choice
    if choice.stays is not None:
        run("log trials", _log_trials, job, work, leaderboard, choice, run_id, io=True)
        return choice.stays, []
    with Examiner(job.problem) as examiner:
        release = run("register", _register, job, work, leaderboard, fitted, run_id, io=True)
        guards, release = run("guards", _guard, job, work, choice, release, examiner)
    return release, guards


def _register(
    job: Job, work: Work, leaderboard: Leaderboard, fitted: Fitted, run_id: str
) -> Release:
    choice = fitted.choice
    _log_trials(job, work, leaderboard, choice, run_id)
    if fitted.model is None:
        raise AssertionError("a champion that stays as it is has been registered")
    model = pd.read_pickle(fitted.model)
    registered = job.registry.register(
        run_id,
        model,
        sample_rows(work.frame, work.contract),
        _code(work, choice.blend),
        {"cycle": job.tag, "decision": choice.outcome, "recipe": choice.blend.id},
    )
    fault("retrain.registered")
    return Release(
        0,
        job.as_of,
        registered.version,
        run_id,
        registered.digests,
        "",
        choice.blend,
        choice.labels_until,
        False,
    )


def _guard(
    job: Job, work: Work, choice: Choice, release: Release, examiner: Examiner
) -> tuple[list[Guard], Release]:
    sample = sample_rows(work.frame, work.contract)
    guards, fingerprint = check_model(
        job.problem,
        release.model_version,
        release.digests,
        sample,
        recipe=choice.blend.id,
        losses=choice.losses,
        against=compare(work, choice.blend, job.champion),
        examiner=examiner,
    )
    fault("retrain.guarded")
    return guards, replace(release, fingerprint=fingerprint)


def _register_waiting(job: Job, work: Work, choice: Choice, fitted: Fitted, run_id: str) -> Choice:
    """Register and examine the challenger that a person has to approve; one that fails does not wait."""
    one = choice.pending.waiting
    if one is None or fitted.waiting is None:
        raise AssertionError("it was fitted because it waits")
    job.store.require(job.hold)
    sample = sample_rows(work.frame, work.contract)
    cycle = f"{job.tag} · waits"
    tags = {"cycle": cycle, "decision": "wait", "recipe": one.blend.id}
    registered = job.registry.register(
        run_id, pd.read_pickle(fitted.waiting), sample, _code(work, one.blend), tags
    )
    fault("retrain.waiting_registered")
    try:
        _, fingerprint = check_model(
            job.problem,
            registered.version,
            registered.digests,
            sample,
            recipe=one.blend.id,
            losses=one.losses,
            against=compare(work, one.blend, job.champion),
        )
    except AutomlError as error:
        if error.code != REFUSED:  # a server that does not answer says nothing about the model
            raise
        return turned_away(choice, str(error))
    told = replace(
        one,
        model_version=registered.version,
        run_id=run_id,
        digests=registered.digests,
        fingerprint=fingerprint,
    )
    return replace(choice, pending=replace(choice.pending, waiting=told))


def _code(work: Work, blend: Blend) -> list[Code]:
    """What travels with a model."""
    families = sorted({m.recipe.family for m in blend.members})
    return [*(work.families[f] for f in families), *([work.columns] if work.columns else [])]


def _commit(job: Job, choice: Choice, release: Release, generation: int | None) -> Release:
    return commit_release(
        job.store,
        job.hold,
        job.problem,
        job.cycle,
        verdict=choice.pending,
        release=release,
        generation=generation,
    )


def _tell(
    job: Job,
    work: Work,
    leaderboard: Leaderboard,
    choice: Choice,
    guards: list[Guard],
    made: tuple[Release, str],
) -> None:
    """Aliases first, they matter most; then what reviewers read. `made` is the champion and the cycle's run."""
    release, run_id = made
    reconcile(job.store, job.registry, job.problem)
    told = Told(
        work,
        leaderboard,
        choice.decision,
        choice.pending,
        choice.blend,
        release.model_version,
        guards,
        job.registry.experiment,
        job.workspace.tracking_uri,
    )
    job.registry.close_cycle(
        run_id,
        metrics=cycle_metrics(told),
        tags=cycle_tags(told),
        note=cycle_note(told),
        artifacts=cycle_artifacts(told),
    )
    job.registry.describe(job.tag)
    fault("retrain.told")


def _clean(job: Job, work: Work) -> None:
    """Delete what neither readers nor later cycles need."""
    name = job.problem.name
    clean(job.store, job.hold, job.problem)
    history.clean(history.Folders(job.workspace.history(name)), job.store.referred(name))
    shutil.rmtree(work.scratch, ignore_errors=True)


def _dry_run_result(
    job: Job, leaderboard: Leaderboard, choice: Choice, warnings: list[str], run_id: str
) -> CycleResult:
    reason = f"dry run, nothing was changed: would have {choice.pending.reason}"
    job.store.end_cycle(job.cycle, "dry-run", reason)
    job.registry.close_cycle(
        run_id, metrics={}, tags={"decision": "dry-run"}, note=reason, artifacts={}
    )
    return CycleResult(
        problem=job.problem,
        as_of=job.as_of,
        status="dry-run",
        reason=reason,
        leaderboard=leaderboard,
        decision=choice.decision,
        run_id=run_id,
        experiment=job.registry.experiment,
        warnings=warnings,
    )
