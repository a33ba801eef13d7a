"""The loop of a sweep: start what cores and time allow, collect what has ended, stop in time."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from automl.disk import full_disk
from automl.modeling.metrics import get_metric
from automl.modeling.recipes import Blend, Member, Params
from automl.modeling.training import Fit, FitResult
from automl.sweep.blending import Blending, least_losses
from automl.sweep.block_matrices import BlockMatrices
from automl.sweep.deadline import Clock, too_small
from automl.sweep.leaderboard import Leaderboard, Plan, Trial, Work, output_file
from automl.sweep.limits import most_configurations, most_rows
from automl.sweep.proposals import Proposals
from automl.sweep.races import BUDGET_ENDED, OUT_OF_TIME, Race
from automl.sweep.refit import Refits, share_in_time
from automl.sweep.tally import show_tried

__all__ = ["BUDGET_ENDED", "sweep"]

# With trials = N, recipes are proposed and reported in rounds of so many, whatever the number of workers
ROUND = 4
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
        How much to search, and knowledge of earlier cycles; by default a full search of a first cycle.
    refits
        Starts the champion's refit on cores that the search leaves idle, and continues it after the sweep.
    """
    with contextlib.ExitStack() as stack:
        refits = refits or stack.enter_context(Refits(work))
        run = _Sweep(refits, plan or Plan(), carried, deadline=deadline)
        run.done = {t.recipe.id: t for t in done}
        run.on_trial = on_trial
        stack.callback(run.matrices.stop)
        stack.callback(run.proposals.spaces.close)
        return run.leaderboard()


class _Sweep:
    """State of one sweep: what waits, what runs, what has ended."""

    def __init__(
        self, refits: Refits, plan: Plan, carried: Sequence[Blend], *, deadline: float
    ) -> None:
        work, self.refits, self.pool = refits.work, refits, refits.pool
        section = work.problem.sweep
        self.work, self.plan = work, plan
        self.on_trial: Callable[[Trial], None] = lambda _: None
        self.done: dict[str, Trial] = {}
        self.in_rounds = section.trials is not None
        self.anchor = carried[0] if carried else None
        self.rows = refits.rows
        self.truth = [self.rows.y[b.validation] for b in work.blocks]
        self.weights = [self.rows.weight[b.validation] for b in work.blocks]
        self.block_weights = work.block_weights.tolist()
        row_cap = most_rows(section.budget.seconds if section.budget else float("inf"))
        self.train_rows = min(len(work.blocks[0].train), row_cap)
        self.trial_cap = section.trials or most_configurations(self.train_rows, len(work.blocks))
        self.matrices = BlockMatrices(work, self.rows, row_cap)
        self.matrices.limit = refits.matrices.limit = deadline
        self.proposals = Proposals(
            work=work, plan=plan, carried=carried, shape=self.matrices.newest_shape
        )
        self.finished: list[Trial] = []
        self.clock = Clock(
            work=work,
            plan=plan,
            anchor=self.anchor,
            deadline=deadline,
            grown=len(self.rows.y) / max(1, self.train_rows),
            matrices=self.matrices,
            finished=self.finished,
        )
        self.proposals.spaces.end = self.clock.search_end
        self.unreported: list[tuple[Race, Trial]] = []
        self.waiting: list[Race] = []  # for a core, or for their matrix
        self.racing: dict[int, Race] = {}
        self.count = self.proposed_in_round = 0
        self.fit_seconds = 0.0
        self.skipped: dict[str, str] = {}  # family -> why its search ended
        self.reference: Blend | None = None
        self.stopped = ""
        (work.scratch / "outputs").mkdir(parents=True, exist_ok=True)

    # ---- the loop

    def leaderboard(self) -> Leaderboard:
        for encoding in self.matrices.first_encodings(
            self.plan, [recipe for recipe, _ in self.proposals.queue]
        ):
            if self._free > 0:
                self.matrices.begin(encoding, 0)
        self.pool.start_all()  # while the first matrices are encoded
        while True:
            self._fill()
            if not self.racing and not self.matrices.running and not self.waiting:
                break
            if self._collect():
                break
        self._report()
        for reason in self.skipped.values():
            _log.warning(reason)
        return self._result()

    def _collect(self) -> bool:
        """Wait for fits and matrices and process them; whether the time has run out."""
        wakers = self.matrices.waker, self.refits.matrices.waker
        ended = self.pool.collect(self.clock.search_end(), *wakers)
        if not self.in_rounds:
            self._fill()  # ended fits are processed while the next ones run
        for fit, result in ended:
            if fit.refit:
                self.refits.take(fit, result)
            else:
                self._take(self.racing[fit.tag[0]], result)
        self.matrices.drain_waker()
        self.refits.matrices.drain_waker()
        if time.monotonic() < self.clock.search_end():
            return False
        self._stop_in_time()
        return True

    def _result(self) -> Leaderboard:
        blending = self._blending()
        reference = self.reference
        if reference is None or not blending.affords(reference, self.finished):
            reference = blending.reference(self.finished)
        return Leaderboard(
            trials=tuple(sorted(self.finished, key=lambda t: t.number)),
            challenger=blending.challenger(self.finished, self.anchor or reference),
            reference=reference,
            stopped=self.stopped or "nothing left",
            seconds=time.monotonic() - self.clock.started,
            fit_seconds=self.fit_seconds,
            encode_seconds=self.matrices.seconds,
            refit_seconds=self.refits.spent,
            rows=self.train_rows,
            overhead=self.clock.overhead(),
            too_small=too_small(
                self.clock,
                stopped=self.stopped,
                proposed=self.count,
                queued=[recipe.family for recipe, _ in self.proposals.queue],
            ),
        )

    def _blending(self) -> Blending:
        """Blends that can be refitted in the time that is left now."""
        return Blending(
            work=self.work,
            truth=self.truth,
            weights=self.weights,
            least=least_losses(self.work, self.rows),
            rank=self.proposals.rank,
            refittable=self.clock.refittable,
            seconds=self.clock.seconds_for_members(),
            seconds_each=self.clock.time_to_refit(),
        )

    def _affordable(self, family: str) -> bool:
        return family not in self.proposals.passed_over and self.clock.affords(family)

    def _fill(self) -> None:
        """Give every free core a fit or a matrix: the earliest proposals first, the refit last.

        Cached predictions are read even if no core is free.
        """
        while time.monotonic() < self.clock.search_end() and (self._free > 0 or self._cached_next):
            if any(self._advance(race) for race in sorted(self.waiting, key=lambda r: r.number)):
                continue
            # a search proposes no more recipes while others wait for a matrix
            race = None if self.waiting and not self.proposals.queue else self._new_race()
            if race is not None:
                self.waiting.append(race)
            elif self._free <= 0 or not self.refits.begin(self._likely(), self.clock.deadline):
                return

    def _advance(self, race: Race) -> bool:
        """Start a waiting race's next fit, or its matrix; whether either was possible."""
        recipe = race.proposal.recipe
        cached = self._cached(race) is not None
        if cached or (self._free > 0 and self.matrices.shape(recipe, race.block) is not None):
            self.waiting = [r for r in self.waiting if r is not race]
            self._start(race)
            return True
        return self._free > 0 and self.matrices.begin_for(recipe, race.block)

    @property
    def _free(self) -> int:
        busy = self.pool.running + self.matrices.running + self.refits.matrices.running
        return self.work.workers - busy

    def _likely(self) -> list[Member]:
        """Members of the likely champion to refit now, slowest first; none if all rows would take too long."""
        likely = self.anchor or self._stand_in()
        members = {m.recipe.id: m for m in likely.members} if likely else {}
        trials = [t for t in self.finished if t.recipe.id in members and t.status == "complete"]
        costs = [t.seconds_refit for t in trials]
        left = self.clock.deadline - time.monotonic() - self.clock.overhead()
        if share_in_time(costs, self.work.workers, left) < 1:
            return []
        ranked = sorted(trials, key=lambda t: -t.seconds_refit)
        return [replace(members[t.recipe.id], learned=t.learned) for t in ranked]

    def _stand_in(self) -> Blend | None:
        """The blend in a first champion's place; None until all start points have ended."""
        queued = self.proposals.queue[: self.trial_cap - self.count]
        sources = [source for _, source in queued]
        sources += [race.proposal.source for race in [*self.racing.values(), *self.waiting]]
        if self.reference is None and "start" not in sources:
            self.reference = self._blending().reference(self.finished)
        return self.reference

    @property
    def _cached_next(self) -> bool:
        """Whether some recipe's next predictions are cached."""
        queued = any((recipe.id, 0) in self.plan.cached for recipe, _ in self.proposals.queue)
        return queued or any(self._cached(race) is not None for race in self.waiting)

    def _cached(self, race: Race) -> Params | None:
        """Learned params of the cached model that predicted the race's next block, if there is one."""
        return self.plan.cached.get((race.proposal.recipe.id, race.block))

    def _new_race(self) -> Race | None:
        while not self.stopped and self._may_propose():
            if self.count >= self.trial_cap:
                self.stopped = "trials" if self.in_rounds else "configurations"
                return None
            if not self.in_rounds and self.proposals.exhausted:
                self.stopped = "nothing more to be gained"
                return None
            proposal = self.proposals.next(self._affordable)
            if proposal is None:
                if self._report():  # its results may make a family worth searching
                    continue
                if not self.racing and not self.waiting:
                    self.stopped = "plan" if self.proposals.spent else "nothing left"
                return None
            race = Race(number=self.count, proposal=proposal, weights=self.block_weights)
            self.count += 1
            self.proposed_in_round += 1
            if proposal.recipe.id in self.done:
                self._close(race, replace(self.done[proposal.recipe.id], number=race.number))
                continue
            if proposal.error:
                self._end(race, "failed", FitResult(error=proposal.error))
                continue
            return race
        return None

    def _start(self, race: Race) -> None:
        block, recipe = race.block, race.proposal.recipe
        self.racing[race.number] = race
        learned = self._cached(race)
        if learned is not None:
            seconds = self.plan.costs.get(recipe.id, 0.0)
            self._take(race, FitResult(learned=learned, seconds_fit=seconds))
            return
        family, shape = self.work.families[recipe.family], self.matrices.shape(recipe, block)
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
        # fits still running at the end of the search are stopped there: that moment changes with refit costs
        self.pool.start(fit, self.clock.fit_end(carried=race.proposal.source == "carried"))

    def _stop_in_time(self) -> None:
        self.stopped = "time"
        for fit, result in self.pool.stop(lambda fit: not fit.refit):
            race = self.racing[fit.tag[0]]
            self._count(race, result)
            if race.proposal.source != "carried" and self.clock.too_long(result.seconds):
                late = replace(result, error=f"{OUT_OF_TIME} after {result.seconds:.1f} s")
                self._end(race, "failed", late)
            else:
                self._end(race, "pruned", replace(result, error=BUDGET_ENDED))
        for race in self.waiting:
            self._end(race, "pruned", FitResult(error=BUDGET_ENDED))

    def _may_propose(self) -> bool:
        """With trials = N, whether this round may propose more; a round begins when the last has ended."""
        if not self.in_rounds:
            return True
        if self.proposed_in_round >= ROUND and not self.racing and not self.waiting:
            self._report()
        return self.proposed_in_round < ROUND

    def _report(self) -> bool:
        """Report ended trials to the proposals, in trial order; in rounds, once all have ended."""
        if not self.unreported or (self.in_rounds and (self.racing or self.waiting)):
            return False
        for race, trial in sorted(self.unreported, key=lambda pair: pair[1].number):
            self.proposals.report(race.proposal, trial)
        self.unreported.clear()
        self.proposed_in_round = 0
        return True

    # ---- one race

    def _take(self, race: Race, result: FitResult) -> None:
        """Score a fit that ended, and end the race or let it wait for its next block."""
        self._count(race, result)
        if result.error:
            full = full_disk(result.error)
            if full is not None:  # every other fit would fail as well
                raise full
            late = time.monotonic() >= self.clock.search_end()
            if late:
                self._end(race, "pruned", replace(result, error=BUDGET_ENDED))
            else:
                self._end(race, "failed", result)
            return
        block, metric = race.block, self.work.metric
        y, weight = self.truth[block], self.weights[block]
        output = np.load(output_file(self.work, race.proposal.recipe, block))
        score = metric.score(y, output, weight)
        if not np.isfinite(score):
            error = f"{metric.name} is not a number on block {block}"
            self._end(race, "failed", FitResult(error=error))
            return
        also = map(get_metric, self.work.problem.metric.also)
        if block == 0:
            race.record_newest(result, len(y))
        race.record_scores(
            score, metric.loss(score), {m.name: m.score(y, output, weight) for m in also}
        )
        if race.block == len(self.work.blocks):
            self._end(race, "complete", result)
        elif race.behind([t for t in self.proposals.trials if t.status == "complete"]):
            error = "behind the incumbent on the same blocks"
            self._end(race, "pruned", replace(result, error=error))
        else:
            del self.racing[race.number]
            self.waiting.append(race)

    def _count(self, race: Race, result: FitResult) -> None:
        race.seconds += result.seconds
        self.fit_seconds += result.seconds

    def _end(self, race: Race, status: str, result: FitResult) -> None:
        family = race.proposal.recipe.family
        elapsed = time.monotonic() - self.clock.started
        trial = race.trial(status, result, grown=self.clock.grown, elapsed=elapsed)
        if status == "complete" and not self.clock.refittable(trial):
            self.proposals.passed_over.add(family)
            self.skipped[family] = (
                f"Skipping {family}: one refit needs about {trial.seconds_refit:.0f} s "
                f"of the {self.clock.whole:.0f} s budget"
            )
        if status == "failed" and race.proposal.source == "start":
            _log.warning("trial %d (%s) failed: %s", race.number, family, result.error)
        self._close(race, trial)
        self.on_trial(trial)

    def _close(self, race: Race, trial: Trial) -> None:
        self.racing.pop(race.number, None)
        self.finished.append(trial)
        self.unreported.append((race, trial))
        show_tried(self.work, self.finished, self.clock.search_end())
        if not self.in_rounds:
            self._report()
