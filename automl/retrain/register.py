"""Registration of a cycle's models in MLflow, each examined by the guards before it may be released."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pandas as pd

from automl.cycles.job import Job
from automl.cycles.steps import Runner, step
from automl.errors import AutomlError
from automl.modeling.recipes import Blend
from automl.promotion.evidence import shown_probability
from automl.promotion.guards import (
    REFUSED,
    Examiner,
    Guard,
    check_model,
    compare,
    open_examiner,
    sample_rows,
)
from automl.retrain.choice import Choice, mean_score
from automl.retrain.cycle_run import log_trials, write_trials
from automl.retrain.refit import Fitted, turned_away
from automl.retrain.search import Sweep
from automl.store import Release
from automl.sweep import Work
from automl.testing import fault
from automl.tracking import Code, Registered

__all__ = ["register_challenger", "register_model"]


def register_model(
    job: Job, sweep: Sweep, fitted: Fitted, run_id: str, run: Runner
) -> tuple[Release, list[Guard]]:
    """The refitted model registered and examined; a champion that is not refitted has been before."""
    choice = fitted.choice
    if choice.stays is not None:
        run(log_trials, job, sweep, choice, run_id)
        return choice.stays, []
    if fitted.model is None:
        raise AssertionError("a refitted champion has a model")
    with open_examiner(job.problem, job.registry) as examiner:
        release = run(_register, job, sweep, choice, fitted.model, run_id)
        guards, release = run(_check_guards, sweep.work, choice, release, job.champion, examiner)
    return release, guards


@step("register challenger", io=True)
def register_challenger(job: Job, work: Work, fitted: Fitted, run_id: str) -> Choice:
    """Register and examine the challenger that awaits approval; without it if a guard refuses."""
    choice, waiting = fitted.choice, fitted.choice.pending.waiting
    if waiting is None or fitted.challenger is None:
        raise AssertionError("a challenger was fitted because it awaits approval")
    job.require_hold()
    tags = {"cycle": f"{job.tag} · waits", "decision": "wait", **_tags(work, choice, waiting.blend)}
    registered = _to_registry(job, work, fitted.challenger, waiting.blend, run_id, tags)
    fault("retrain.waiting_registered")
    try:
        with open_examiner(job.problem, job.registry) as examiner:
            _, fingerprint = check_model(
                job.problem,
                registered.version,
                registered.digests,
                sample_rows(work.frame, work.contract),
                recipe=waiting.blend.id,
                losses=waiting.losses,
                against=compare(work, waiting.blend, job.champion),
                examiner=examiner,
            )
    except AutomlError as error:
        if error.code != REFUSED:  # a server that is out of reach is no reason to turn a model away
            raise
        return turned_away(choice, str(error))
    waiting = replace(
        waiting,
        model_version=registered.version,
        run_id=run_id,
        digests=registered.digests,
        fingerprint=fingerprint,
    )
    return replace(choice, pending=replace(choice.pending, waiting=waiting))


@step("register", io=True)
def _register(job: Job, sweep: Sweep, choice: Choice, model: Path, run_id: str) -> Release:
    write_trials(job, sweep, choice, run_id)
    tags = {"cycle": job.tag, "decision": choice.outcome, **_tags(sweep.work, choice, choice.blend)}
    registered = _to_registry(job, sweep.work, model, choice.blend, run_id, tags)
    fault("retrain.registered")
    return Release(
        id=0,
        as_of=job.as_of,
        model_version=registered.version,
        run_id=run_id,
        digests=registered.digests,
        fingerprint="",
        blend=choice.blend,
        labels_until=choice.labels_until,
        projected=False,
    )


@step("guards")
def _check_guards(
    work: Work, choice: Choice, release: Release, champion: Release | None, examiner: Examiner
) -> tuple[list[Guard], Release]:
    guards, fingerprint = check_model(
        work.problem,
        release.model_version,
        release.digests,
        sample_rows(work.frame, work.contract),
        recipe=choice.blend.id,
        losses=choice.losses,
        against=compare(work, choice.blend, champion),
        examiner=examiner,
    )
    fault("retrain.guarded")
    return guards, replace(release, fingerprint=fingerprint)


def _to_registry(
    job: Job, work: Work, model: Path, blend: Blend, run_id: str, tags: dict[str, str]
) -> Registered:
    sample = sample_rows(work.frame, work.contract)
    after = job.store.highest_version(job.problem.name)
    return job.registry.register(
        run_id,
        pd.read_pickle(model),
        sample,
        _code(work, blend),
        tags,
        after=after,
    )


def _tags(work: Work, choice: Choice, blend: Blend) -> dict[str, str]:
    """What a version is, how good it is, and what that rests on."""
    score = mean_score(work, blend)
    verdicts = {v.challenger: v for v in choice.decision.verdicts}
    found = verdicts.get(blend.id) or choice.verdict
    tags = {"winner": str(blend), "recipe": blend.id, "evidence": f"{len(work.blocks)} blocks"}
    if math.isfinite(score):
        tags[f"cv_{work.metric.name}"] = f"{score:.5g}"
    if found is not None:
        tags |= {
            "evidence": f"{found.blocks} blocks, {found.out_of_sample} out-of-sample",
            "gain_pct": f"{100 * found.shrunk:.2f}",
            "p_better": shown_probability(found.probability),
        }
    return tags


def _code(work: Work, blend: Blend) -> list[Code]:
    """The user's and our modules that travel with a model."""
    families = sorted({m.recipe.family for m in blend.members})
    return [*(work.families[f] for f in families), *([work.columns] if work.columns else [])]
