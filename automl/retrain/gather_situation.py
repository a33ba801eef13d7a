"""Gather what a policy may know from store and snapshot: nothing that was known only after as_of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from math import isfinite
from statistics import fmean, median
from typing import Any

import pandas as pd

from automl import history
from automl.cycles.job import Job
from automl.history import Snapshot
from automl.history.contract import Contract
from automl.history.maturity import mature_rows
from automl.modeling.losses import BlockLoss
from automl.modeling.metrics import get_metric
from automl.monitoring.blocks import drift_state
from automl.monitoring.promises import promise_of
from automl.problem import POLICIES, Problem
from automl.retrain.memory import SEARCHED
from automl.retrain.situation import Drift, RealisedLoss, Situation, Training
from automl.store import Cycle, DecisionRecord, Generation, Release, Store

__all__ = ["situation_of"]

LOOKED_BACK = 100  # cycles, generations and decisions
LABELLED = 0.5  # share of a generation's rows whose labels must be known


def situation_of(job: Job, snapshot: Snapshot, contract: Contract) -> Situation:
    """What the policy of this cycle may know."""
    problem, store, as_of = job.problem, job.store, job.as_of
    champion = job.champion
    before = store.cycles(problem.name, verb="retrain", before=as_of, limit=LOOKED_BACK)
    trained = [c for c in before if c.status in SEARCHED and "plan" in c.receipts]
    decided = {d.as_of: d for d in reversed(_decisions(store, problem.name, as_of))}
    trainings = tuple(_training(c, decided.get(c.as_of)) for c in trained)
    frame = mature_rows(history.read(snapshot), problem, as_of)
    last = trainings[0].as_of if trainings else None
    blocks = _Blocks(problem, as_of)
    return Situation(
        as_of=as_of,
        champion=champion is not None and champion.blend.offered(job.families),
        version=champion.model_version if champion else None,
        rows=len(frame),
        new_rows=_new_rows(frame, problem, last),
        block=blocks.days,
        ahead=blocks.between(as_of, problem.until(as_of)),
        since_training=blocks.since(trainings, ("refit", "warm", "full")),
        since_search=blocks.since(trainings, ("warm", "full")),
        since_full=blocks.since(trainings, ("full",)),
        trainings=trainings,
        realised=tuple(_realised(store, problem, as_of, blocks)),
        staleness=tuple(_staleness(store, problem, decided.values(), blocks)),
        costs=_costs(trainings),
        drift=_drift(job, frame, contract),
    )


class _Blocks:
    """Durations in blocks, as long as the block before as_of."""

    def __init__(self, problem: Problem, as_of: datetime) -> None:
        self.as_of = as_of
        self.length = as_of - problem.validation.block.before(as_of, zone=problem.zone)

    @property
    def days(self) -> float:
        return self.length.total_seconds() / 86400

    def between(self, start: datetime, end: datetime) -> float:
        return max(0.0, (end - start) / self.length)

    def since(self, trainings: Sequence[Training], actions: Sequence[str]) -> float | None:
        found = next((t.as_of for t in trainings if t.action in actions), None)
        return None if found is None else self.between(found, self.as_of)


def _decisions(store: Store, problem: str, as_of: datetime) -> list[DecisionRecord]:
    """Decisions of earlier cycles, newest first."""
    found = [d for d in store.decisions(problem, limit=LOOKED_BACK) if d.as_of < as_of]
    return sorted(found, key=lambda d: (d.as_of, d.attempt), reverse=True)


def _training(cycle: Cycle, decision: DecisionRecord | None) -> Training:
    cost = cycle.receipts.get("cost") or {}
    return Training(
        as_of=cycle.as_of,
        action=str(cycle.receipts["plan"]["kind"]),
        outcome=decision.outcome if decision else "",
        gain=_gain(decision.content) if decision and decision.outcome == "promote" else 0.0,
        core_seconds=cost.get("core_seconds"),
        seconds=cycle.seconds,
    )


def _gain(content: Mapping[str, Any]) -> float:
    """The shrunk gain of the blend that was promoted."""
    passed = [v for v in content.get("verdicts", ()) if v.get("passed")]
    return max((float(v["shrunk"]) for v in passed if v.get("shrunk") is not None), default=0.0)


def _costs(trainings: Sequence[Training]) -> dict[str, float]:
    """Median core-seconds of past trainings, by action."""
    found: dict[str, list[float]] = {}
    for training in trainings:
        if training.core_seconds is not None:
            found.setdefault(training.action, []).append(float(training.core_seconds))
    return {action: median(values) for action, values in found.items()}


def _new_rows(frame: pd.DataFrame, problem: Problem, last: datetime | None) -> int:
    """Rows whose labels became known since the last training."""
    if last is None:
        return len(frame)
    times = pd.to_datetime(frame[problem.history.time], utc=True)
    return int((times >= pd.Timestamp(problem.mature(last))).sum())


def _realised(
    store: Store, problem: Problem, as_of: datetime, blocks: _Blocks
) -> list[RealisedLoss]:
    """Losses of published generations, newest first, as they were known at as_of."""
    metric, name = get_metric(problem.metric.name), problem.metric.name
    releases = {r.model_version: r for r in store.releases(problem.name, limit=10 * LOOKED_BACK)}
    generations = _generations(store, problem, as_of)
    made = {releases[g.model_version].blend.id for g in generations if g.model_version in releases}
    evidence = store.evidence(problem.name, blends=sorted(made)) if made else []
    evidence = [e for e in evidence if e.cycle < as_of and e.metric in ("", name)]
    newest = store.newest_as_of(problem.name, "retrain")
    backfill = newest is not None and newest > as_of
    found = []
    for g in generations:
        score, release = g.realised.get(name), releases.get(g.model_version)
        # scores of a later cycle know labels that were not known yet, unless all were
        unknown = backfill and g.until > problem.mature(as_of)
        few = g.labelled_rows < LABELLED * g.rows
        if release is None or score is None or not isfinite(score) or unknown or few:
            continue
        promise = _promised(release, evidence, name)
        found.append(
            RealisedLoss(
                as_of=g.as_of,
                until=g.until,
                model_version=g.model_version,
                age=blocks.between(release.as_of, g.as_of),
                rows=g.rows,
                labelled_rows=g.labelled_rows,
                loss=metric.loss(score),
                **promise,
            )
        )
    return found


def _generations(store: Store, problem: Problem, as_of: datetime) -> list[Generation]:
    """The last generation of each batch that began before as_of, newest first."""
    generations = store.generations(problem.name, limit=LOOKED_BACK)
    last = {g.as_of: g for g in sorted(generations, key=lambda g: g.id) if g.as_of < as_of}
    return sorted(last.values(), key=lambda g: g.as_of, reverse=True)


def _promised(release: Release, evidence: Sequence[BlockLoss], metric: str) -> dict[str, Any]:
    """The loss that the evidence of a release's cycle promised, its noise, and that of the constant baseline."""
    known = [e for e in evidence if e.blend == release.blend.id and e.cycle <= release.as_of]
    # of the cycle alone: after a change of concept the newest blocks say what to expect
    own = [e for e in known if e.cycle == release.as_of]
    promise = promise_of(own or known, release.blend.id, metric)
    if promise is None:
        return {}
    return {
        "promised": promise.loss,
        "noise": promise.noise,
        "blocks": round(promise.blocks),
        "baseline": fmean(e.baseline_loss for e in known),
    }


def _drift(job: Job, frame: pd.DataFrame, contract: Contract) -> Drift | None:
    """Drift of the newest block, for the policies that may look at it."""
    when = job.problem.retraining.when
    if when != "on_drift" and when in POLICIES:
        return None
    found = drift_state(frame, job.problem, contract, job.as_of)
    state = "drifted" if found.state == "alarm" else found.state
    return Drift(state=state, columns=found.columns, far=found.far, reason=found.text)


def _staleness(
    store: Store, problem: Problem, decisions: Iterable[DecisionRecord], blocks: _Blocks
) -> list[tuple[float, float]]:
    """(age, share by which published predictions lost more than a refit on the same rows), newest first.

    Each training measured it on its newest block; predictions of a model that was trained at the start of
    that block have age 0 and say nothing.
    """
    releases = {
        r.model_version: r.as_of for r in store.releases(problem.name, limit=10 * LOOKED_BACK)
    }
    made = [
        (g.as_of, g.until, blocks.between(releases[g.model_version], g.as_of))
        for g in store.generations(problem.name, limit=LOOKED_BACK)
        if g.model_version in releases
    ]
    found = []
    for decision in sorted(decisions, key=lambda d: d.as_of, reverse=True):
        split = decision.content.get("attribution") or {}
        published, refit = split.get("published"), split.get("refit")
        if not published or refit is None:
            continue
        end = problem.newest_block_end(decision.as_of)
        ages = [age for start, until, age in made if start < end <= until + blocks.length]
        if ages and max(ages) > 0:
            found.append((max(ages), (published - refit) / published))
    return found
