"""The evidence of a cycle gathered and ruled on; what follows from it is somebody else's step.

Champion, shadows and this cycle's challenger are compared on all blocks that any cycle has evaluated
for both. The rule itself is `automl.decide`; nothing here is effective.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from automl.decide import REVERTED_CONFIDENCE, REVERTED_CYCLES, SWEEP_CONFIDENCE, Decision, decide
from automl.errors import NoModelError
from automl.evidence import BlockLoss, duels, kind_of
from automl.release import Ruling, actor
from automl.spaces import Blend
from automl.store import Release, Store, Waiting
from automl.story import Job
from automl.sweep import Board, Work, blend_losses
from automl.workspace import now

__all__ = ["Choice", "doubted", "make_choice"]

WAIT = timedelta(days=14)  # by then its evidence and its rows are two weekly cycles old


@dataclass(frozen=True, slots=True, eq=False)
class Choice:
    """What was decided, before any of it is effective."""

    decision: Decision
    outcome: str  # first | promote | keep
    blend: Blend
    labels_until: datetime
    ruling: Ruling
    losses: dict[str, float]  # of the chosen blend and of the floor, on the newest block


def make_choice(job: Job, work: Work, board: Board) -> Choice:
    """Judge challenger and shadows against the champion on all evidence there is.

    A first cycle has no champion: what its start points give without a search stands in, and the challenger
    must be better by the same rule, only without the extra caution for evidence that took part in choosing.
    So it is where a champion cannot be refit because its family is no longer offered.
    """
    mature = job.problem.mature(job.as_of)
    champion = job.store.champion(job.problem.name, before=job.as_of)
    lost = champion is not None and not champion.blend.offered(work.families)
    before, champion = champion, None if lost else champion
    holder = champion.blend if champion else board.reference
    if holder is None:
        raise NoModelError(
            "no trial ended well, and there is no champion to refit",
            code="no_model",
            next_step="automl leaderboard shows why each trial failed.",
        )
    known = _rivals(job, work, board, mature)
    known[holder.id] = (holder, champion.labels_until if champion else mature)
    losses = [x for blend, until in known.values() for x in _losses(job, work, board, blend, until)]
    past = [e for e in job.store.evidence(job.problem.name) if e.cycle < job.as_of]
    confidence = job.problem.promotion.confidence
    blends = [b for b, _ in known.values()]
    tried = [x for x in _tried(job, work, board, mature) if x.blend not in known]
    every = duels([*past, *losses, *tried], holder.id)
    decision = decide(
        [d for d in every if d.challenger in known],
        holder.id,
        confidence,
        {name: _share(blend, holder) for name, (blend, _) in known.items()},
        sweep_confidence=SWEEP_CONFIDENCE if champion else confidence,
        least=dict.fromkeys(
            doubted(job.store, job.problem.name, job.as_of, blends), REVERTED_CONFIDENCE
        ),
        others=[d for d in every if d.challenger not in known],
    )
    if champion and decision.outcome == "promote" and job.problem.promotion.mode == "review":
        return _waits(job, work, board, decision, known, losses, champion)
    outcome = decision.outcome if champion else "promote" if before else "first"
    head = (
        "instead of a champion whose family is no longer offered"
        if before
        else "the first model of this problem"
    )
    reason = decision.reason if champion else _first_reason(decision, head)
    blend, until = known[decision.blend]
    content = _content(board, decision, outcome, known, losses)
    shadows = _shadows(decision, decision.blend, known)
    return Choice(
        decision,
        outcome,
        _relearned(blend, board),
        until,
        Ruling(outcome, reason, content, losses, shadows, actor(job.ask.trigger)),
        _newest(work, losses, blend.id),
    )


def doubted(store: Store, problem: str, as_of: datetime, blends: Sequence[Blend]) -> set[str]:
    """Which of these blends were put out or turned down in the last five cycles.

    Weights do not count: the same recipes, weighed a little differently, are the same on old evidence.
    """
    rows = [e for e in store.ledger(problem) if e.kind in ("rollback", "revert", "reject")]
    if not rows:
        return set()
    decided = {d["as_of"].replace(tzinfo=UTC) for d in store.decisions(problem)}
    names = {
        e.blend_id
        for e in rows
        if e.as_of <= as_of and sum(e.as_of < d < as_of for d in decided) < REVERTED_CYCLES
    }
    known = [*(r.blend for r in store.releases(problem)), *(b for b, _ in store.shadows(problem))]
    alike = {_recipes(b) for b in known if b.id in names}
    return {b.id for b in blends if b.id in names or _recipes(b) in alike}


def _waits(
    job: Job,
    work: Work,
    board: Board,
    decision: Decision,
    known: dict[str, tuple[Blend, datetime]],
    losses: list[BlockLoss],
    champion: Release,
) -> Choice:
    """Where a person decides, the champion is refit and what would have been promoted waits."""
    blend, until = known[decision.blend]
    told = decision.reason.removeprefix("promoted: ")
    reason = f"kept; {blend} waits for approval: {told}"
    moment = now()
    one = Waiting(
        job.as_of,
        _relearned(blend, board),
        until,
        told,
        _newest(work, losses, blend.id),
        moment,
        moment + WAIT,
    )
    held = replace(decision, outcome="keep", blend=champion.blend.id, reason=reason)
    shadows = [(blend, until), *_shadows(decision, decision.blend, known)]
    shadows = [s for s in shadows if s[0].id != champion.blend.id]
    content = _content(board, held, "wait", known, losses)
    return Choice(
        held,
        "keep",
        _relearned(champion.blend, board),
        champion.labels_until,
        Ruling("keep", reason, content, losses, shadows, actor(job.ask.trigger), one),
        _newest(work, losses, champion.blend.id),
    )


def _shadows(
    decision: Decision, chosen: str, known: Mapping[str, tuple[Blend, datetime]]
) -> list[tuple[Blend, datetime]]:
    """Those who may become champion on the next block, best first."""
    ranked = sorted(decision.verdicts, key=lambda v: -v.shrunk)
    return [known[v.challenger] for v in ranked if v.challenger != chosen and v.shrunk > 0]


def _newest(work: Work, losses: Sequence[BlockLoss], blend: str) -> dict[str, float]:
    """Losses of a blend and of the floor on the newest block."""
    start = work.blocks[0].start
    mine = next((e for e in losses if e.blend == blend and e.start == start), None)
    return {"model": mine.loss, "floor": mine.floor} if mine else {"model": 0.0, "floor": 1.0}


def _recipes(blend: Blend) -> frozenset[str]:
    return frozenset(m.recipe.id for m in blend.members)


def _rivals(
    job: Job, work: Work, board: Board, mature: datetime
) -> dict[str, tuple[Blend, datetime]]:
    """Shadows and this cycle's challenger, each with the end of the labels that chose it."""
    if not board.trials:  # nothing was fitted: the champion is refit, whatever is known of others
        return {}
    rivals = {
        b.id: (b, until) for b, until in job.store.shadows(job.problem.name) if until < mature
    }
    if board.challenger is not None:
        rivals.setdefault(board.challenger.id, (board.challenger, mature))
    return {name: r for name, r in rivals.items() if r[0].offered(work.families)}


def _first_reason(decision: Decision, head: str) -> str:
    if decision.outcome == "promote":
        return f"{head}; {decision.reason}"
    why = decision.reason.removeprefix("kept: ")
    return f"{head}: a blend of good start points, which no challenger beat ({why})"


def _tried(job: Job, work: Work, board: Board, mature: datetime) -> list[BlockLoss]:
    """Every recipe of this sweep by itself: no rival, but it tells how far apart recipes are."""
    return [
        BlockLoss(
            job.as_of,
            Blend.single(trial.recipe).id,
            block.start,
            block.end,
            len(block.judged),
            loss,
            1.0,
            kind_of(mature, block.start),
        )
        for trial in board.trials
        if trial.status == "complete"
        for block, loss in zip(work.blocks, trial.losses, strict=False)
    ]


def _losses(job: Job, work: Work, board: Board, blend: Blend, until: datetime) -> list[BlockLoss]:
    floors = next(
        (
            t.losses
            for t in board.trials
            if t.recipe.family == "baseline" and t.status == "complete"
        ),
        (),
    )
    return [
        BlockLoss(
            job.as_of,
            blend.id,
            block.start,
            block.end,
            len(block.judged),
            loss,
            floors[i] if floors else 1.0,
            kind_of(until, block.start),
        )
        for i, (block, loss) in enumerate(zip(work.blocks, blend_losses(work, blend), strict=False))
    ]


def _share(blend: Blend, champion: Blend) -> float:
    mine = {m.recipe.id for m in champion.members}
    return sum(m.weight for m in blend.members if m.recipe.id in mine)


def _relearned(blend: Blend, board: Board) -> Blend:
    """The blend with what early stopping has learned from this cycle's rows."""
    learned = {t.recipe.id: t.learned for t in board.trials if t.status == "complete"}
    return Blend(
        tuple(replace(m, learned=learned.get(m.recipe.id, m.learned)) for m in blend.members)
    )


def _content(
    board: Board,
    decision: Decision,
    outcome: str,
    known: dict[str, tuple[Blend, datetime]],
    losses: list[BlockLoss],
) -> dict[str, Any]:
    return {
        "outcome": outcome,
        "blends": {
            name: {"text": str(b), "labels_until": f"{until:%Y-%m-%d %H:%M}"}
            for name, (b, until) in known.items()
        },
        "verdicts": [asdict(v) for v in decision.verdicts],
        "blocks": [
            {
                "block": f"{e.start:%Y-%m-%d}",
                "blend": e.blend,
                "loss": e.loss,
                "rows": e.rows,
                "kind": e.kind,
            }
            for e in losses
        ],
        "sweep": {
            "trials": len(board.trials),
            "stopped": board.stopped,
            "seconds": round(board.seconds, 1),
            "fit_seconds": round(board.fit_seconds, 1),
            "rows": board.rows,
        },
    }
