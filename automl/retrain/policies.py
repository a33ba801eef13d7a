"""Policies: one pure function per name that `retraining.when` may have.

A policy sees a `Situation`, values that were known at the cycle's as_of, and chooses how much to retrain. It
reads nothing else and changes nothing. Without a champion no policy decides: such a cycle trains in full.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType

from automl.problem import Problem
from automl.retrain.degradation import chart
from automl.retrain.situation import Action, PolicyChoice, Situation, Training

__all__ = [
    "BY_NAME",
    "Policy",
    "constant",
    "cost_aware",
    "named_policy",
    "on_degradation",
    "on_drift",
    "on_new_rows",
    "rows_wanted",
    "schedule",
    "staleness_rates",
]

Policy = Callable[[Situation], PolicyChoice]

FIRST = PolicyChoice("full", "there is no champion that could be refit")
SHARE = 0.1  # new rows of on_new_rows where the problem file sets neither rows nor share
# Relative loss per block by which a champion falls behind one that was refitted, searched a little, or searched in
# full: guesses for a table that changes slowly, replaced by what was measured as soon as it was
PRIOR_RATES: Mapping[str, float] = MappingProxyType({"refit": 0.005, "warm": 0.002, "full": 0.001})
PRIOR_BLOCKS = 4.0  # squared blocks of measurement that the prior counts as
MOST_AGE, MOST_EXCESS = 8.0, 1.0  # one measurement is not believed beyond that
# Cost of an action that was never measured, as a share of that of a full search
COST_SHARES: Mapping[str, float] = MappingProxyType({"refit": 0.1, "warm": 0.3, "full": 1.0})


def schedule(_: Situation) -> PolicyChoice:
    """Retrain at every slot, as much as has changed calls for."""
    return PolicyChoice("auto", "every slot retrains")


def constant(action: Action, situation: Situation) -> PolicyChoice:
    """Do the same at every slot; without a champion, search in full."""
    if not situation.champion:
        return FIRST
    return PolicyChoice(action, f"every slot does the same: {action}")


def on_degradation(situation: Situation) -> PolicyChoice:
    """Retrain when the champion's realised loss is beyond what past noise explains; see `chart`."""
    if not situation.champion:
        return FIRST
    found = chart(situation.realised, situation.version)
    if not found.seen:
        return PolicyChoice("skip", "no labels of the champion's predictions are known yet")
    newest = situation.realised[0].loss
    state = f"{found.z:+.1f} deviations from what was promised, their sum {found.total:.1f}"
    if not found.signals:
        return PolicyChoice("skip", f"the newest realised loss, {newest:.4g}, is {state}")
    action: Action = "full" if found.far else "warm"
    return PolicyChoice(action, f"realised loss is beyond past noise: {newest:.4g}, {state}")


def on_drift(situation: Situation) -> PolicyChoice:
    """Retrain when inputs, predictions or labels have drifted beyond the problem's own past."""
    if not situation.champion:
        return FIRST
    drift = situation.drift
    if drift is None or drift.state != "drifted":
        state = drift.reason or drift.state if drift else "not measured"
        return PolicyChoice("skip", f"no drift: {state}")
    columns = ", ".join(drift.columns[:5]) or "rows"
    action: Action = "full" if drift.far else "warm"
    return PolicyChoice(action, f"drift of {columns}{': ' * bool(drift.reason)}{drift.reason}")


def on_new_rows(
    situation: Situation, *, rows: int | None = None, share: float | None = None
) -> PolicyChoice:
    """Retrain when enough labelled rows are new: a number, or a share of those before; either is enough."""
    if not situation.champion:
        return FIRST
    new = situation.new_rows
    wanted = rows_wanted(situation.rows - new, rows=rows, share=share)
    text = f"{new} labelled rows are new since the last training, {wanted:.0f} wanted"
    return PolicyChoice("auto" if new >= wanted else "skip", text)


def rows_wanted(before: int, *, rows: int | None, share: float | None) -> float:
    """New rows that are enough: a number, or a share of those before; a tenth of them where neither is set."""
    if rows is None and share is None:
        share = SHARE
    shared = share * max(1, before) if share is not None else float("inf")
    return min(rows if rows is not None else float("inf"), shared)


def cost_aware(situation: Situation, *, worth: float) -> PolicyChoice:
    """Retrain once what the champion has lost by its age is worth what training costs.

    A champion that falls behind by a share r per block has, a blocks after it was trained, lost r a (a + d) / 2
    blocks of loss, with d blocks until the next slot. For the same r in every interval, training when this sum
    reaches the cost minimises cost per block. Losses that the chart of realised losses finds beyond noise are
    added. Refit, warm and full search each end the part of staleness that they can; the one with the largest net
    worth is chosen.

    Assumes that r stays what it was. A sudden change is left to the chart.

    Parameters
    ----------
    worth
        Core-minutes that one percent less loss over one block is worth; 0: never retrain.

    Source
    ------
    The economic order quantity: Harris 1913, "How many parts to make at once". Retraining cost against staleness:
    Mahadevan and Mathioudakis 2023, "Cost-Effective Retraining of Machine Learning Models", arXiv 2310.04216.
    """
    if not situation.champion:
        return FIRST
    if worth <= 0:
        return PolicyChoice("skip", "no loss is worth a core-minute: retraining.worth is 0")
    costs = _core_minutes(situation.costs)
    if costs is None:
        return PolicyChoice("auto", "no cost of a training is known yet")
    lost = {name: 100 * worth * loss for name, loss in _lost(situation).items()}
    net = {name: lost[name] - costs[name] for name in costs}
    best = max(net, key=lambda name: net[name])
    rate = staleness_rates(situation)["refit"]
    amount = f"{lost[best]:.2f} core-minutes lost by age, at {rate:.2%} per block"
    if net[best] < 0:
        reason = f"{amount}; the cheapest gain, {best}, costs {costs[best]:.2f}"
        return PolicyChoice("skip", reason)
    action: Action = "full" if best == "full" else "warm" if best == "warm" else "refit"
    return PolicyChoice(action, f"{amount}; a {best} costs {costs[best]:.2f}")


def staleness_rates(situation: Situation) -> dict[str, float]:
    """Relative loss per block by which a champion falls behind, by the action that ends it.

    `refit`: slope through the origin of measured staleness over age, shrunk towards the prior. `warm`, `full`: what
    searches gained beyond a refit, per block between them, shrunk in the same way; of full searches for `full`,
    after what warm ones find.
    """
    top = PRIOR_BLOCKS * PRIOR_RATES["refit"]
    bottom = PRIOR_BLOCKS
    for age, excess in situation.staleness:
        a, e = min(age, MOST_AGE), max(-MOST_EXCESS, min(excess, MOST_EXCESS))
        top, bottom = top + a * e, bottom + a * a
    searches = [t for t in situation.trainings if t.action in ("warm", "full")]
    fulls = [t for t in searches if t.action == "full"]
    warm = _gain_per_block(situation, searches, PRIOR_RATES["warm"])
    full = _gain_per_block(situation, fulls, PRIOR_RATES["full"])
    return {
        "refit": max(0.0, top / bottom),
        "warm": warm,
        "full": max(PRIOR_RATES["full"] / 2, full - warm),
    }


def _gain_per_block(situation: Situation, searches: Sequence[Training], prior: float) -> float:
    """Mean gain of what searches promoted, per block between them; a first model gains over nothing."""
    gained, blocks = 0.0, 0.0
    for newer, older in itertools.pairwise(searches):
        gained += max(0.0, newer.gain)
        blocks += (newer.as_of - older.as_of).total_seconds() / 86400 / situation.block
    return (PRIOR_BLOCKS * prior + gained) / (PRIOR_BLOCKS + blocks)


def _lost(situation: Situation) -> dict[str, float]:
    """Blocks of relative loss since the last training, by the action that would have prevented it."""
    rates, ahead = staleness_rates(situation), situation.ahead
    ages = {
        "refit": situation.since_training or 0.0,
        "warm": situation.since_search or situation.since_training or 0.0,
        "full": situation.since_full or situation.since_training or 0.0,
    }
    parts = {name: rates[name] * a * (a + ahead) / 2 for name, a in ages.items()}
    found = chart(situation.realised, situation.version)
    observed = sum(max(0.0, e) for e in found.excess) if found.signals else 0.0
    return {
        "refit": parts["refit"] + observed,
        "warm": parts["refit"] + parts["warm"] + observed,
        "full": parts["refit"] + parts["warm"] + parts["full"] + observed,
    }


def _core_minutes(measured: Mapping[str, float]) -> dict[str, float] | None:
    """Cost of each action; where none was measured, in proportion to those that were."""
    whole = [measured[n] / share for n, share in COST_SHARES.items() if n in measured]
    if not whole:
        return None
    guess = whole[-1]  # of the largest measured action
    return {n: measured.get(n, share * guess) / 60 for n, share in COST_SHARES.items()}


BY_NAME: Mapping[str, Policy] = MappingProxyType(
    {
        "schedule": schedule,
        "on_degradation": on_degradation,
        "on_drift": on_drift,
        "on_new_rows": on_new_rows,
        "cost_aware": partial(cost_aware, worth=1.0),
        "full": partial(constant, "full"),
        "warm": partial(constant, "warm"),
        "refit": partial(constant, "refit"),
        "never": partial(constant, "skip"),
    }
)


def named_policy(problem: Problem) -> Policy | None:
    """The policy of `retraining.when` with its keys; None if that is the path of a Python file."""
    section = problem.retraining
    if section.when == "on_new_rows":
        return partial(on_new_rows, rows=section.rows, share=section.share)
    if section.when == "cost_aware":
        return partial(cost_aware, worth=section.worth)
    return BY_NAME.get(section.when)
