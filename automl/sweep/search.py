"""The loop of a sweep: what runs, what has ended, what the time allows, and when it stops."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from automl.modeling.families import Encoding, Family, Shape
from automl.modeling.features.matrices import shape_of, thin, write_matrices
from automl.modeling.metrics import get_metric
from automl.modeling.recipes import Blend, Member, Params
from automl.modeling.training import Fit, FitResult
from automl.sweep.blending import Answer, least_losses
from automl.sweep.deadline import Clock
from automl.sweep.encoding import Matrices
from automl.sweep.leaderboard import Leaderboard, Plan, Trial, Work, means, output_file
from automl.sweep.limits import most_configurations, most_rows
from automl.sweep.proposals import Asked, Proposals
from automl.sweep.refit import Refits, share_in_time

__all__ = ["BUDGET_ENDED", "sweep"]

# Relative loss behind the incumbent on the same blocks that ends a race; start points, which may stand in
# for a champion together, are given longer
PRUNE_MARGIN, START_MARGIN = 0.02, 0.5
BUDGET_ENDED = "the budget ended"
FIT_SECONDS = (
    600  # a fit that takes longer hangs, or should not be in a sweep; matters without a budget
)
ROUND = 4  # with trials = N: asked together and told in order, whatever the number of workers
_log = logging.getLogger(__name__)


def sweep(
    work: Work,
    *,
    deadline: float,
    carried: Sequence[Blend] = (),
    done: Sequence[Trial] = (),
    on_trial: Callable[[Trial], None] = lambda _: None,
    plan: Plan | None = None,
    refits: Refits | None = None,
) -> Leaderboard:
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
    refits
        Where the champion's refit begins on cores that the search leaves idle; it goes on after the sweep.
    """
    with contextlib.ExitStack() as stack:
        refits = refits or stack.enter_context(Refits(work))
        run = _Run(refits, deadline, carried, done, on_trial, plan or Plan())
        stack.callback(run.matrices.stop)
        return run.leaderboard()


@dataclass(slots=True)
class _Race:
    """A recipe on its way over the blocks."""

    number: int
    asked: Asked
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
        refits: Refits,
        deadline: float,
        carried: Sequence[Blend],
        done: Sequence[Trial],
        on_trial: Callable[[Trial], None],
        plan: Plan,
    ) -> None:
        work, self.refits, self.pool = refits.work, refits, refits.pool
        section = work.problem.sweep
        self.work, self.plan, self.on_trial = work, plan, on_trial
        self.sync = section.trials is not None
        self.anchor = carried[0] if carried else None
        self.done = {t.recipe.id: t for t in done}
        self.rows = refits.rows
        self.truth = [self.rows.y[b.validation] for b in work.blocks]
        self.weights = [self.rows.weight[b.validation] for b in work.blocks]
        self.cap_rows = most_rows(section.budget.seconds if section.budget else float("inf"))
        self.train_rows = min(len(work.blocks[0].train), self.cap_rows)
        self.cap_trials = section.trials or most_configurations(self.train_rows)
        self.matrices = Matrices(self._encode, work.workers)
        self.proposals = Proposals(work, plan, carried, self._newest_shape)
        self.finished: list[Trial] = []
        grown = len(self.rows.y) / max(1, self.train_rows)
        self.clock = Clock(work, plan, self.anchor, deadline, grown, self.matrices, self.finished)
        self.untold: list[tuple[_Race, Trial]] = []
        self.waiting: list[_Race] = []  # for a slot, or for their matrix
        self.racing: dict[int, _Race] = {}
        self.count = self.asked_in_round = 0
        self.fit_seconds = 0.0
        self.slow: dict[str, str] = {}
        self.reference: Blend | None = None
        self.stopped = ""
        (work.scratch / "outputs").mkdir(parents=True, exist_ok=True)

    # ---- the loop

    def leaderboard(self) -> Leaderboard:
        self._begin_first_matrices()
        self.pool.start_all()  # while the first matrices are encoded
        while True:
            self._fill()
            if not self.racing and not self.matrices.running and not self.waiting:
                break
            wakers = self.matrices.waker, self.refits.matrices.waker
            ended = self.pool.collect(self.clock.search_end(), *wakers)
            if not self.sync:
                self._fill()  # what has ended is looked at while the next ones run
            for fit, result in ended:
                if fit.refit:
                    self.refits.take(fit, result)
                else:
                    self._take(self.racing[fit.tag[0]], result)
            self.matrices.heard()
            self.refits.matrices.heard()
            if time.monotonic() >= self.clock.search_end():
                self._stop_in_time()
                break
        self._settle()
        for reason in self.slow.values():
            _log.warning(reason)
        answer = self._answer()
        reference = self.reference
        if reference is None or not answer.affords(reference, self.finished):
            reference = answer.reference(self.finished)
        return Leaderboard(
            trials=tuple(sorted(self.finished, key=lambda t: t.number)),
            challenger=answer.challenger(self.finished, self.anchor or reference),
            reference=reference,
            stopped=self.stopped or "nothing left",
            seconds=time.monotonic() - self.clock.started,
            fit_seconds=self.fit_seconds,
            encode_seconds=self.matrices.seconds,
            refit_seconds=self.refits.spent,
            rows=self.train_rows,
            overhead=self.clock.overhead(),
        )

    def _answer(self) -> Answer:
        """What can be made of trials with the time that is left now."""
        return Answer(
            self.work,
            self.truth,
            self.weights,
            least_losses(self.work, self.rows),
            self.proposals.rank,
            self.clock.refittable,
            self.clock.seconds_for_members(),
            self.clock.time_to_refit(),
        )

    def _affordable(self, family: str) -> bool:
        return family not in self.proposals.passed_over and self.clock.affords(family)

    def _fill(self) -> None:
        """Give every free core a fit or a matrix: those of the first asked first, of the refit last.

        What is answered already is read while no core is free.
        """
        while time.monotonic() < self.clock.search_end() and (self._free > 0 or self._answered):
            if any(self._went_on(race) for race in sorted(self.waiting, key=lambda r: r.number)):
                continue
            # a search proposes no more recipes than matrices to come can serve
            race = None if self.waiting and not self.proposals.queue else self._new_race()
            if race is not None:
                self.waiting.append(race)
            elif self._free <= 0 or not self.refits.begin(self._likely(), self.clock.deadline):
                return

    def _went_on(self, race: _Race) -> bool:
        """Whether a race that waits needs no core, or could be given one, or its matrix."""
        known = self._known(race) is not None
        if known or (self._free > 0 and self._shape_of(race) is not None):
            self.waiting = [r for r in self.waiting if r is not race]
            self._start(race)
            return True
        return self._free > 0 and self._begin_matrix(race)

    @property
    def _free(self) -> int:
        at_work = self.pool.running + self.matrices.running + self.refits.matrices.running
        return self.work.workers - at_work

    def _likely(self) -> list[Member]:
        """Members of the likely champion that can be refitted now, if all rows fit the time, the dearest first."""
        likely = self.anchor or self._stand_in()
        held = {m.recipe.id: m for m in likely.members} if likely else {}
        there = [t for t in self.finished if t.recipe.id in held and t.status == "complete"]
        costs = [t.seconds_refit for t in there]
        left = self.clock.deadline - time.monotonic() - self.clock.overhead()
        if share_in_time(costs, self.work.workers, left) < 1:
            return []
        ranked = sorted(there, key=lambda t: -t.seconds_refit)
        return [replace(held[t.recipe.id], learned=t.learned) for t in ranked]

    def _stand_in(self) -> Blend | None:
        """What will hold a first champion's place; None while start points are to come."""
        lined_up = self.proposals.queue[: self.cap_trials - self.count]
        to_come = [source for _, source in lined_up]
        to_come += [race.asked.source for race in [*self.racing.values(), *self.waiting]]
        if self.reference is None and "start" not in to_come:
            self.reference = self._answer().reference(self.finished)
        return self.reference

    @property
    def _answered(self) -> bool:
        """Whether a model of an earlier cycle has answered what is next for somebody."""
        lined_up = any((recipe.id, 0) in self.plan.known for recipe, _ in self.proposals.queue)
        return lined_up or any(self._known(race) is not None for race in self.waiting)

    def _known(self, race: _Race) -> Params | None:
        """What a model of an earlier cycle, which has answered the next block already, had learned."""
        return self.plan.known.get((race.asked.recipe.id, len(race.losses)))

    def _new_race(self) -> _Race | None:
        while not self.stopped and self._may_ask():
            if self.count >= self.cap_trials:
                self.stopped = "trials" if self.sync else "configurations"
                return None
            if not self.sync and self.proposals.still:
                self.stopped = "nothing more to be gained"
                return None
            asked = self.proposals.next(self._affordable)
            if asked is None:
                if self._settle():  # what they tell may open a family
                    continue
                if not self.racing and not self.waiting:
                    self.stopped = "plan" if self.proposals.spent else "nothing left"
                return None
            race = _Race(self.count, asked)
            self.count += 1
            self.asked_in_round += 1
            if asked.recipe.id in self.done:
                self._close(race, replace(self.done[asked.recipe.id], number=race.number))
                continue
            return race
        return None

    def _start(self, race: _Race) -> None:
        block, recipe = len(race.losses), race.asked.recipe
        self.racing[race.number] = race
        known = self._known(race)
        if known is not None:
            seconds = self.plan.costs.get(recipe.id, 0.0)
            self._take(race, FitResult(learned=known, seconds_fit=seconds))
            return
        family, shape = self.work.families[recipe.family], self._shape_of(race)
        if shape is None:
            raise AssertionError("a race starts when its matrix is ready")
        fit = Fit(
            tag=(race.number, block),
            family=str(family.path),
            recipe=recipe,
            learned=race.learned,
            shape=shape,
            data=self.work.scratch / f"{family.encoding_of(recipe)}-{block}",
            output=output_file(self.work, recipe, block),
        )
        # the end of the search, which moves with what a refit would cost, stops whatever runs then
        self.pool.start(fit, time.monotonic() + FIT_SECONDS)

    def _stop_in_time(self) -> None:
        self.stopped = "time"
        for fit, result in self.pool.stop(lambda fit: not fit.refit):
            race = self.racing[fit.tag[0]]
            self._count(race, result)
            self._end(race, "pruned", replace(result, error=BUDGET_ENDED))
        for race in self.waiting:
            self._end(race, "pruned", FitResult(error=BUDGET_ENDED))

    def _may_ask(self) -> bool:
        """With trials = N, whether this round has room; a round begins when the last has ended."""
        if not self.sync:
            return True
        if self.asked_in_round >= ROUND and not self.racing and not self.waiting:
            self._settle()
        return self.asked_in_round < ROUND

    def _settle(self) -> bool:
        """Let later choices know of what has ended, in trial order; in rounds, once all have."""
        if not self.untold or (self.sync and (self.racing or self.waiting)):
            return False
        for race, trial in sorted(self.untold, key=lambda pair: pair[1].number):
            self.proposals.tell(race.asked, trial)
        self.untold.clear()
        self.asked_in_round = 0
        return True

    # ---- one race

    def _take(self, race: _Race, result: FitResult) -> None:
        self._count(race, result)
        if result.error:
            late = time.monotonic() >= self.clock.search_end()
            how = ("pruned", replace(result, error=BUDGET_ENDED)) if late else ("failed", result)
            self._end(race, *how)
            return
        block = len(race.losses)
        y, weight = self.truth[block], self.weights[block]
        output = np.load(output_file(self.work, race.asked.recipe, block))
        score = self.work.metric.score(y, output, weight)
        if not np.isfinite(score):
            why = f"{self.work.metric.name} is not a number on block {block}"
            self._end(race, "failed", FitResult(error=why))
            return
        race.scores.append(score)
        race.losses.append(self.work.metric.loss(score))
        also = map(get_metric, self.work.problem.metric.also)
        race.also.append({m.name: m.score(y, output, weight) for m in also})
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

    def _count(self, race: _Race, result: FitResult) -> None:
        race.seconds += result.seconds
        self.fit_seconds += result.seconds

    def _behind(self, race: _Race) -> bool:
        complete = [t for t in self.proposals.told if t.status == "complete"]
        family = race.asked.recipe.family
        if race.asked.source == "carried" or all(t.recipe.family != family for t in complete):
            return False
        incumbent = min(complete, key=lambda t: t.loss).losses[: len(race.losses)]
        behind = [
            (mine - its) / max(its, 1e-12) for mine, its in zip(race.losses, incumbent, strict=True)
        ]
        margin = START_MARGIN if race.asked.source == "start" else PRUNE_MARGIN
        return float(np.mean(behind)) > margin

    def _end(self, race: _Race, status: str, result: FitResult) -> None:
        recipe = race.asked.recipe
        trial = Trial(
            number=race.number,
            recipe=recipe,
            source=race.asked.source,
            status=status,
            losses=tuple(race.losses),
            scores=tuple(race.scores),
            also=means(race.also),
            learned=race.learned or {},
            seconds=race.seconds,
            seconds_fit=race.seconds_fit,
            seconds_predict=race.seconds_predict,
            seconds_refit=race.seconds_fit
            * self.clock.grown**0.9,  # part of a fit does not grow with its rows
            elapsed=time.monotonic() - self.clock.started,
            reason="" if status == "complete" else result.error,
            trace=result.trace,
        )
        if status == "complete" and not self.clock.refittable(trial):
            self.proposals.passed_over.add(recipe.family)
            self.slow[recipe.family] = (
                f"no more of {recipe.family} is tried: one refit would take about {trial.seconds_refit:.0f} s "
                f"of a budget of {self.clock.whole:.0f} s"
            )
        if status == "failed" and race.asked.source == "start" and not self.stopped:
            _log.warning("trial %d (%s) failed: %s", race.number, recipe.family, result.error)
        self._close(race, trial)
        self.on_trial(trial)

    def _close(self, race: _Race, trial: Trial) -> None:
        self.racing.pop(race.number, None)
        self.finished.append(trial)
        self.untold.append((race, trial))
        if not self.sync:
            self._settle()

    # ---- matrices

    def _encode(self, encoding: Encoding, block: int) -> Shape:
        work, cut = self.work, self.work.blocks[block]
        folder = work.scratch / f"{encoding}-{block}"
        write_matrices(
            thin(self.rows.take(cut.train), self.cap_rows, work.problem.sweep.seed),
            self.rows.take(cut.validation),
            work.contract.features,
            encoding,
            folder,
            classes=len(work.contract.classes),
            columns=work.columns,
        )
        return shape_of(folder, work.problem, work.contract)

    def _begin_first_matrices(self) -> None:
        """Those of the newest block that the first fits, or else the search, will ask for."""
        families, known = self.work.families, self.plan.known
        asked = [
            families[recipe.family].encoding_of(recipe)
            for recipe, _ in self.proposals.queue
            if (recipe.id, 0) not in known
        ]
        if self.plan.challengers != 0:
            asked += [families[name].encoding for name in self.plan.favour if name in families]
        for encoding in asked:
            if self._free > 0:
                self.matrices.begin(encoding, 0)

    def _shape_of(self, race: _Race) -> Shape | None:
        return self.matrices.get(*self._matrix_of(race))

    def _begin_matrix(self, race: _Race) -> bool:
        return self.matrices.begin(*self._matrix_of(race))

    def _matrix_of(self, race: _Race) -> tuple[Encoding, int]:
        recipe = race.asked.recipe
        return self.work.families[recipe.family].encoding_of(recipe), len(race.losses)

    def _newest_shape(self, family: Family) -> Shape:
        return self.matrices.wait(family.encoding, 0)
