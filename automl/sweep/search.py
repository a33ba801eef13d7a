"""The search itself: what is tried next, what runs, what has ended, and when it stops."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import optuna

from automl.ensemble import MOST_MEMBERS, Candidate, greedy
from automl.errors import NoModelError
from automl.features.matrices import Rows, shape_of, thin, write_matrices
from automl.metrics import get_metric
from automl.spaces import HALF_LIVES, Blend, Family, Member, Params, Recipe, Shape
from automl.sweep.board import Board, Plan, Trial, Work, makespan, mean, output_file
from automl.sweep.transfer import lessons
from automl.trial import Fit, FitResult, Pool

__all__ = ["sweep"]

PRUNE_MARGIN = 0.02  # relative loss behind the incumbent on the same blocks that ends a race
REFIT_SHARE = 0.3  # of the budget, at most, for the refit of the winner
MEMBER_MARGIN = 0.10  # relative loss behind the best that keeps a recipe out of a new blend
# Start points that stand in for the champion a first cycle lacks: how many, how close to the best
REFERENCE_MEMBERS, REFERENCE_MARGIN = 4, 0.01
FIRST_CUT, SECOND_CUT = 3, 2  # families left after the start points, and after six more trials each
TRIALS_BETWEEN_CUTS = 6
LIKELY_MEMBERS = 3  # time is kept for refitting so many; a costlier blend is not chosen
BUDGET_ENDED = "the budget ended"
FIT_SECONDS = (
    600  # a fit that takes longer hangs, or should not be in a sweep; matters without a budget
)
ROUND = 4  # with trials = N: asked together and told in order, whatever the number of workers
# (budget seconds, most training rows of a fit): small budgets need many cheap looks
ROW_CAPS = ((30, 60_000), (60, 120_000), (300, 300_000))
# (training rows, most configurations): more would only be tuned to the noise of the blocks
CONFIG_CAPS = ((100, 4), (500, 8), (2_500, 15), (10_000, 40), (100_000, 100))
_log = logging.getLogger(__name__)
optuna.logging.set_verbosity(optuna.logging.WARNING)  # studies are ours alone


def sweep(
    work: Work,
    *,
    deadline: float,
    carried: Sequence[Blend] = (),
    done: Sequence[Trial] = (),
    on_trial: Callable[[Trial], None] = lambda _: None,
    plan: Plan | None = None,
) -> Board:
    """Search until the budget, the cap on configurations, or the number of trials is spent.

    Parameters
    ----------
    deadline
        Monotonic moment at which sweep *and* refit must have ended; infinite without a budget.
    carried
        Champion first, then shadows: evaluated first, never pruned; the first anchors the blend.
    done
        Trials of an interrupted sweep of the same cycle; not run again.
    on_trial
        Called in this process with every trial that ends.
    plan
        How much to search, and what earlier cycles hand on; by default a full search of a first cycle.
    """
    run = _Run(work, deadline, carried, done, on_trial, plan or Plan())
    try:
        return run.board()
    finally:
        run.pool.stop()


def _cap(table: Sequence[tuple[int, int]], x: float) -> int:
    logs = np.log([row[0] for row in table]), np.log([row[1] for row in table])
    return round(float(np.exp(np.interp(np.log(max(x, 1)), *logs))))


@dataclass(slots=True)
class _Race:
    """A recipe on its way over the blocks."""

    number: int
    recipe: Recipe
    source: str
    asked: Any = None  # Optuna's trial, to be told
    losses: list[float] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    also: list[dict[str, float]] = field(default_factory=list)
    learned: Params | None = None
    seconds: float = 0.0
    seconds_fit: float = 0.0
    seconds_predict: float = 0.0


class _Run:
    """State of one sweep: what waits, what runs, what has ended."""

    def __init__(
        self,
        work: Work,
        deadline: float,
        carried: Sequence[Blend],
        done: Sequence[Trial],
        on_trial: Callable[[Trial], None],
        plan: Plan,
    ) -> None:
        sweep_section = work.problem.sweep
        self.plan = plan
        self.work, self.deadline, self.on_trial = work, deadline, on_trial
        self.started = time.monotonic()
        self.budget = deadline - self.started
        self.pool = Pool(work.workers)
        self.sync = sweep_section.trials is not None
        self.anchor = carried[0] if carried else None
        self.finished: list[Trial] = []
        self.told: list[Trial] = []  # finished trials that later choices may know of
        self.fit_seconds = self.encode_seconds = 0.0
        self.waiting: list[_Race] = []
        self.racing: dict[int, _Race] = {}
        self.seen: set[str] = set()
        self.asked: dict[str, int] = {}
        self.untold: list[tuple[_Race, Trial]] = []
        self.asked_in_round = 0
        self.slow: dict[str, str] = {}
        self.stopped = ""
        self.done = {t.recipe.id: t for t in done}
        self.rows = Rows.of(work.frame, work.problem, work.contract)
        self.truth = [self.rows.y[b.judged] for b in work.blocks]
        given = sweep_section.budget.seconds if sweep_section.budget else float("inf")
        self.cap_rows = next((most for s, most in ROW_CAPS if given <= s), 10**12)
        # an interrupted sweep has less time left, but its refit takes as long
        self.whole = max(self.budget, given) if np.isfinite(given) else self.budget
        self.shapes: dict[tuple[str, int], Shape] = {}
        train = min(len(work.blocks[0].train), self.cap_rows)
        self.cap_trials = sweep_section.trials or _cap(CONFIG_CAPS, train)
        self.queue = self._portfolio(carried)
        self.taught: set[str] = set()
        self.studies = {
            name: optuna.create_study(
                sampler=optuna.samplers.TPESampler(seed=sweep_section.seed + i, n_startup_trials=5)
            )
            for i, name in enumerate(work.families)
        }
        (work.scratch / "outputs").mkdir(parents=True, exist_ok=True)

    # ---- what to try

    def _portfolio(self, carried: Sequence[Blend]) -> list[tuple[Recipe, str]]:
        seed = self.work.problem.sweep.seed
        known = [
            m.recipe
            for blend in carried
            for m in blend.members
            if m.recipe.family in self.work.families
        ]
        starts = sorted(
            (
                (priority, i, Recipe(family.name, dict(params), seed))
                for i, family in enumerate(self.work.families.values())
                if self.work.problem.task in family.tasks
                for priority, params in family.start
            ),
            key=lambda item: item[:2],
        )
        # the floor is nobody's first choice: it stands in only if nothing else ended well
        self.start_order = [r for p, _, r in starts if p > 0] + [r for p, _, r in starts if p == 0]
        floor = [
            (r, "start") for p, _, r in starts if p == 0
        ]  # the floor first: losses are relative to it
        live = [(r, "live") for r in self.plan.live]
        first = floor + [(r, "carried") for r in known] + live
        if self.plan.kind == "warm":
            return first
        return first + [(r, "start") for p, _, r in starts if p > 0]

    def _families_left(self) -> list[str]:
        """Families worth searching, the least searched first."""
        best: dict[str, float] = {}
        for trial in self.told:
            if trial.status == "complete":
                best[trial.recipe.family] = min(best.get(trial.recipe.family, np.inf), trial.loss)
        ranked = [
            f
            for f in sorted(best, key=lambda f: best[f])
            if f not in self.slow and self._searchable(f)
        ]
        told = {
            f: sum(t.recipe.family == f and t.source == "search" for t in self.told) for f in ranked
        }
        keep = ranked[:FIRST_CUT]
        if all(told[f] >= TRIALS_BETWEEN_CUTS for f in keep):
            keep = ranked[:SECOND_CUT]
        return sorted(keep, key=lambda f: (self.asked.get(f, 0), best[f]))

    def _searchable(self, family: str) -> bool:
        f = self.work.families[family]
        try:
            f.space(optuna.trial.FixedTrial({}), self._shape(f, 0))
        except ValueError:  # it asked for a value
            return True
        return False

    def _suggest(self, family: str, trial: optuna.Trial) -> Recipe:
        f = self.work.families[family]
        params = f.space(trial, self._shape(f, 0))
        recency = (
            trial.suggest_categorical("half_life", list(range(len(HALF_LIVES)))) if f.weights else 0
        )
        return Recipe(family, params, self.work.problem.sweep.seed, HALF_LIVES[recency])

    def _propose(self) -> _Race | None:
        while self.queue:
            recipe, source = self.queue.pop(0)
            if recipe.id not in self.seen and self._affordable(recipe.family):
                self.seen.add(recipe.id)
                return _Race(len(self.seen) - 1, recipe, source)
        if self._planned_is_done():
            return None
        for family in self._families_left():
            if not self._affordable(family):
                continue
            self._teach(family)
            for _ in range(5):  # a discrete space may repeat itself
                asked = self.studies[family].ask()
                recipe = self._suggest(family, asked)
                if recipe.id not in self.seen:
                    self.seen.add(recipe.id)
                    self.asked[family] = self.asked.get(family, 0) + 1
                    return _Race(len(self.seen) - 1, recipe, "search", asked)
                self.studies[family].tell(asked, state=optuna.trial.TrialState.FAIL)
        if self.racing or self.waiting:  # what they tell may open a family
            return None
        if self.untold:
            self._settle()
            return self._propose()
        self.stopped = "nothing left"
        return None

    def _planned_is_done(self) -> bool:
        """Whether the plan allows no further point."""
        most = self.plan.challengers
        if most is None or sum(self.asked.values()) < most:
            return False
        if not self.racing and not self.waiting:
            self.stopped = "plan"
        return True

    def _teach(self, family: str) -> None:
        """Let a study start from what earlier cycles learned, in units of this cycle's best loss."""
        complete = [t.loss for t in self.told if t.status == "complete"]
        if family in self.taught or not complete:
            return
        self.taught.add(family)
        mine = [p for p in self.plan.past if p.trial.recipe.family == family]
        f = self.work.families[family]
        for lesson in lessons(f, mine, self._shape(f, 0), min(complete)):
            self.studies[family].add_trial(lesson)

    # ---- time

    def _affordable(self, family: str) -> bool:
        if family in self.slow:
            return False
        seconds = [
            t.seconds / max(1, len(t.losses))
            for t in self.finished
            if t.recipe.family == family and t.losses
        ]
        expected = 1.2 * float(np.median(seconds)) if seconds else 0.0
        return time.monotonic() + expected < self._search_end()

    def _search_end(self) -> float:
        if self.plan.seconds is None:
            return self._before_refit()
        return min(self._before_refit(), self.started + self.plan.seconds)

    def _before_refit(self) -> float:
        if not np.isfinite(self.deadline):
            return self.deadline
        complete = sorted(
            (t for t in self.finished if t.status == "complete"), key=lambda t: t.loss
        )
        likely = [t.seconds_refit for t in complete[:LIKELY_MEMBERS] if self._refittable(t)]
        # whoever holds the champion's place may keep it, and is refitted then
        held = {m.recipe.id for m in self.anchor.members} if self.anchor else set()
        holder = [t.seconds_refit for t in complete if t.recipe.id in held]
        cost = max(makespan(likely, self.work.workers), makespan(holder, self.work.workers))
        most = REFIT_SHARE * self.whole
        return self.deadline - min(most, 1.3 * cost + self._refit_overhead())

    def _refit_overhead(self) -> float:
        """Encoding all rows, writing them, and starting two processes, in seconds."""
        return 1.5 + 1.5 * self.encode_seconds * len(self.rows.y) / max(1, self.cap_rows)

    def _refittable(self, trial: Trial) -> bool:
        return trial.seconds_refit <= 0.75 * REFIT_SHARE * self.whole

    # ---- the loop

    def board(self) -> Board:
        while True:
            self._fill()
            if not self.pool.running:
                break
            for fit, result in self.pool.collect(self._search_end()):
                self._take(self.racing[fit.tag[0]], result)
            if time.monotonic() >= self._search_end():
                self.stopped = "time"
                for fit, result in self.pool.stop():
                    self._end(
                        self.racing[fit.tag[0]], "pruned", replace(result, error=BUDGET_ENDED)
                    )
                for race in self.waiting:
                    self._end(race, "pruned", FitResult(error=BUDGET_ENDED))
                break
        self._settle()
        for reason in self.slow.values():
            _log.warning(reason)
        return Board(
            tuple(sorted(self.finished, key=lambda t: t.number)),
            self._challenger(),
            self._reference(),
            self.stopped or "nothing left",
            time.monotonic() - self.started,
            self.fit_seconds,
            min(len(self.work.blocks[0].train), self.cap_rows),
            self._refit_overhead(),
        )

    def _fill(self) -> None:
        while self.pool.free and time.monotonic() < self._search_end():
            if self.waiting:
                race = self.waiting.pop(0)
            else:
                if len(self.seen) >= self.cap_trials:
                    self.stopped = self.stopped or ("trials" if self.sync else "configurations")
                if self.stopped or not self._may_ask():
                    return
                proposed = self._propose()
                if proposed is None:
                    return
                race = proposed
                self.asked_in_round += 1
                if race.recipe.id in self.done:
                    self._reuse(race)
                    continue
            self.racing[race.number] = race
            self.pool.start(
                self._fit(race), min(self._search_end(), time.monotonic() + FIT_SECONDS)
            )

    def _may_ask(self) -> bool:
        if not self.sync:
            return True
        if self.asked_in_round >= ROUND and not self.racing and not self.waiting:
            self._settle()
        return self.asked_in_round < ROUND

    def _settle(self) -> None:
        """Let later choices know of what has ended, in trial order."""
        for race, trial in sorted(self.untold, key=lambda pair: pair[1].number):
            if race.asked is not None:
                self._tell(race, trial)
            self.told.append(trial)
        self.untold.clear()
        self.asked_in_round = 0

    def _reuse(self, race: _Race) -> None:
        trial = replace(self.done[race.recipe.id], number=race.number)
        self.finished.append(trial)
        self.untold.append((race, trial))
        if not self.sync:
            self._settle()

    def _shape(self, family: Family, block: int) -> Shape:
        at = (family.encoding, block)
        if at not in self.shapes:
            cut = self.work.blocks[block]
            train = thin(self.rows.take(cut.train), self.cap_rows, self.work.problem.sweep.seed)
            folder = self.work.scratch / f"{family.encoding}-{block}"
            features, started = self.work.contract.features, time.monotonic()
            write_matrices(train, self.rows.take(cut.judged), features, family.encoding, folder)
            self.encode_seconds = max(self.encode_seconds, time.monotonic() - started)
            self.shapes[at] = shape_of(
                folder, self.work.problem, self.work.contract, family.encoding
            )
        return self.shapes[at]

    def _fit(self, race: _Race) -> Fit:
        block = len(race.losses)
        family = self.work.families[race.recipe.family]
        shape = self._shape(family, block)
        return Fit(
            tag=(race.number, block),
            family=str(family.path),
            recipe=race.recipe,
            learned=race.learned,
            shape=shape,
            data=self.work.scratch / f"{family.encoding}-{block}",
            output=output_file(self.work, race.recipe, block),
        )

    def _take(self, race: _Race, result: FitResult) -> None:
        race.seconds += result.seconds
        self.fit_seconds += result.seconds
        if result.error and time.monotonic() >= self._search_end():
            self._end(race, "pruned", replace(result, error=BUDGET_ENDED))
            return
        if result.error:
            self._end(race, "failed", result)
            return
        block = len(race.losses)
        y = self.truth[block]
        output = np.load(output_file(self.work, race.recipe, block))
        score = self.work.metric.score(y, output)
        if not np.isfinite(score):
            self._end(
                race,
                "failed",
                FitResult(error=f"{self.work.metric.name} is not a number on block {block}"),
            )
            return
        race.scores.append(score)
        race.losses.append(self.work.metric.loss(score))
        race.also.append(
            {name: get_metric(name).score(y, output) for name in self.work.problem.metric.also}
        )
        if block == 0:
            race.learned, race.seconds_fit = result.learned, result.seconds_fit
            race.seconds_predict = 1000 * result.seconds_predict / max(1, len(y))
        if len(race.losses) == len(self.work.blocks):
            self._end(race, "complete", result)
        elif self._behind(race):
            self._end(
                race, "pruned", replace(result, error="behind the incumbent on the same blocks")
            )
        else:
            del self.racing[race.number]
            self.waiting.append(race)

    def _behind(self, race: _Race) -> bool:
        complete = [t for t in self.told if t.status == "complete"]
        if race.source == "carried" or all(t.recipe.family != race.recipe.family for t in complete):
            return False
        incumbent = min(complete, key=lambda t: t.loss).losses[: len(race.losses)]
        behind = [
            (mine - its) / max(its, 1e-12) for mine, its in zip(race.losses, incumbent, strict=True)
        ]
        return float(np.mean(behind)) > PRUNE_MARGIN

    def _end(self, race: _Race, status: str, result: FitResult) -> None:
        grown = len(self.rows.y) / max(1, min(len(self.work.blocks[0].train), self.cap_rows))
        trial = Trial(
            number=race.number,
            recipe=race.recipe,
            source=race.source,
            status=status,
            losses=tuple(race.losses),
            scores=tuple(race.scores),
            also={
                name: mean([a[name] for a in race.also])
                for name in (race.also[0] if race.also else {})
            },
            learned=race.learned or {},
            seconds=race.seconds,
            seconds_fit=race.seconds_fit,
            seconds_predict=race.seconds_predict,
            seconds_refit=race.seconds_fit
            * grown**0.9,  # part of a fit does not grow with its rows
            elapsed=time.monotonic() - self.started,
            reason="" if status == "complete" else result.error,
            trace=result.trace,
        )
        self.racing.pop(race.number, None)
        self.finished.append(trial)
        self.untold.append((race, trial))
        if status == "complete" and not self._refittable(trial):
            self.slow[race.recipe.family] = (
                f"{race.recipe.family} is skipped: refitting it would take about {trial.seconds_refit:.0f} s "
                f"of a budget of {self.budget:.0f} s"
            )
        if status == "failed" and race.source == "start" and not self.stopped:
            _log.warning("trial %d (%s) failed: %s", race.number, race.recipe.family, result.error)
        if not self.sync:
            self._settle()
        self.on_trial(trial)

    def _tell(self, race: _Race, trial: Trial) -> None:
        study = self.studies[race.recipe.family]
        if trial.losses:
            study.tell(race.asked, self._estimate(trial))
        else:
            study.tell(race.asked, state=optuna.trial.TrialState.FAIL)

    def _estimate(self, trial: Trial) -> float:
        """The loss; for a pruned trial the incumbent's, scaled by how far it was behind."""
        complete = [t for t in self.told if t.status == "complete"]
        if trial.status == "complete" or not complete:
            return trial.loss
        incumbent = min(complete, key=lambda t: t.loss)
        return (
            incumbent.loss
            * mean(trial.losses)
            / max(1e-12, mean(incumbent.losses[: len(trial.losses)]))
        )

    # ---- the answer

    def _seconds_for_members(self) -> float:
        return self.work.workers * min(0.75 * REFIT_SHARE * self.whole, self._time_to_refit())

    def _time_to_refit(self) -> float:
        return max(1.0, (self.deadline - time.monotonic() - self._refit_overhead()) / 1.2)

    def _reference(self) -> Blend | None:
        """What the start points give without any search: stands in for the champion a first cycle lacks.

        Half of it are those that the blocks cannot tell from the best, averaged alike; the other half is
        what greedy selection takes of them all, which is better on most tables and worse on noisy ones
        (docs/decisions/0001-the-first-cycle-is-judged-too.md).
        """
        starts = [t for t in self.finished if t.source == "start" and t.status == "complete"]
        starts = [t for t in starts if self._refittable(t)] or starts
        if not starts:
            return None
        weights: dict[str, float] = {}
        for half in (self._near_best(starts), self._selected(starts)):
            for name, share in half.items():
                weights[name] = weights.get(name, 0.0) + share / 2
        known = {t.recipe.id: t for t in starts}
        ranked = sorted(weights, key=lambda i: (-weights[i], self._rank(known[i])))[:MOST_MEMBERS]
        while len(ranked) > 1 and self._refit_seconds(known, ranked) > self._seconds_for_members():
            ranked.pop()
        whole = sum(weights[i] for i in ranked)
        return Blend(
            tuple(
                Member(known[i].recipe, round(weights[i] / whole, 6), known[i].learned)
                for i in ranked
            )
        )

    def _rank(self, trial: Trial) -> int:
        order = [recipe.id for recipe in self.start_order]
        return order.index(trial.recipe.id) if trial.recipe.id in order else len(order)

    def _refit_seconds(self, known: dict[str, Trial], names: Sequence[str]) -> float:
        return sum(known[i].seconds_refit for i in names)

    def _near_best(self, starts: Sequence[Trial]) -> dict[str, float]:
        """Start points within a margin of the best, by priority, averaged alike."""
        best = min(t.loss for t in starts)
        near = [t for t in starts if t.loss <= best * (1 + REFERENCE_MARGIN)]
        chosen = sorted(near, key=self._rank)[:REFERENCE_MEMBERS]
        return {t.recipe.id: 1 / len(chosen) for t in chosen}

    def _selected(self, starts: Sequence[Trial]) -> dict[str, float]:
        """Start points as greedy selection weighs them."""
        best = min(t.loss for t in starts)
        near = [t for t in starts if t.loss <= best * (1 + MEMBER_MARGIN)]
        return greedy(
            {t.recipe.id: self._candidate(t) for t in near},
            self.truth,
            self.work.metric,
            seconds=self._seconds_for_members(),
        )

    def _candidate(self, trial: Trial) -> Candidate:
        blocks = range(len(self.work.blocks))
        outputs = [np.load(output_file(self.work, trial.recipe, b)) for b in blocks]
        return Candidate(outputs, trial.loss, trial.seconds_refit)

    def _challenger(self) -> Blend | None:
        complete = {t.recipe.id: t for t in self.finished if t.status == "complete"}
        usable = {i: t for i, t in complete.items() if self._refittable(t)}
        usable = {i: t for i, t in usable.items() if t.seconds_refit <= self._time_to_refit()}
        if not usable:  # everything is too slow to refit on all rows: the cheapest, on thinned rows
            usable = dict(sorted(complete.items(), key=lambda kv: kv[1].seconds_refit)[:1])
        if not usable:
            return None
        held = self.anchor or self._reference()
        anchor = {m.recipe.id: m.weight for m in held.members} if held else {}
        best = min(t.loss for t in usable.values())
        usable = {
            i: t for i, t in usable.items() if i in anchor or t.loss <= best * (1 + MEMBER_MARGIN)
        }
        candidates = {i: self._candidate(t) for i, t in usable.items()}
        whole = {i: w for i, w in anchor.items() if i in candidates}
        weights = greedy(
            candidates,
            self.truth,
            self.work.metric,
            anchor=whole if len(whole) == len(anchor) else None,
            seconds=self._seconds_for_members(),
        )
        if not weights:
            raise NoModelError("the sweep chose no member", code="no_model")
        return Blend(
            tuple(
                Member(usable[i].recipe, round(w, 6), usable[i].learned)
                for i, w in sorted(weights.items(), key=lambda kv: (-kv[1], kv[0]))
            )
        )
