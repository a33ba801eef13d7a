"""Consult the problem's policy on how much to retrain, once per cycle; the plan of the sweep follows from its choice."""

from __future__ import annotations

import logging

from automl.cycles.job import Job
from automl.cycles.steps import step
from automl.history import Snapshot
from automl.history.contract import Contract
from automl.retrain.gather_situation import situation_of
from automl.retrain.policies import FIRST, named_policy
from automl.retrain.situation import PolicyChoice
from automl.retrain.user_policy import call_user_policy

__all__ = ["consult_policy"]

SCHEDULE = "schedule"
_log = logging.getLogger(__name__)


@step("policy")
def consult_policy(job: Job, snapshot: Snapshot, contract: Contract) -> PolicyChoice:
    """What `retraining.when` chooses at this cycle, recorded with the cycle; its reason names the policy.

    `--plan` and `--again` override it. With `mode = "suggest"` the choice is only recorded. An interrupted cycle keeps
    the choice that it had.

    Raises
    ------
    ProblemError
        The user's policy raises, hangs or returns no action.
    """
    when, suggests = job.problem.retraining.when, job.problem.retraining.mode == "suggest"
    if job.options.plan != "auto" or job.options.again or when == SCHEDULE:
        return PolicyChoice("auto", "")
    receipt = job.cycle.receipts.get("policy")
    if receipt:
        choice = PolicyChoice(receipt["action"], receipt["reason"])
    else:
        choice = _chosen(job, snapshot, contract)
        content = {"when": when, "mode": job.problem.retraining.mode}
        content |= {"action": choice.action, "reason": choice.reason}
        job.store.note(job.cycle, policy=content)
    verb = f"suggests {choice.action}" if suggests else f"chose {choice.action}"
    reason = f"policy {when} {verb}: {choice.reason}"
    _log.info(reason)
    return PolicyChoice("auto" if suggests else choice.action, reason)


def _chosen(job: Job, snapshot: Snapshot, contract: Contract) -> PolicyChoice:
    policy, champion = named_policy(job.problem), job.champion
    if champion is None or not champion.blend.offered(job.families):
        return FIRST
    situation = situation_of(job, snapshot, contract)
    return policy(situation) if policy else call_user_policy(job.problem, situation)
