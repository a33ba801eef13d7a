"""The user's policy: a function of a Python file, called in a process of its own with a deadline.

It is given a `Situation`, plain values that were known at as_of, and nothing else of the project.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from automl.errors import ProblemError, SpaceError
from automl.modeling.user_files import load_file
from automl.problem import Problem, did_you_mean
from automl.processes import UserCodeError, UserProcess
from automl.retrain.situation import ACTIONS, Action, PolicyChoice, Situation

__all__ = ["call_user_policy"]

SECONDS = 60.0  # to load the file and to choose; a policy looks at a few hundred numbers
MOST_REASON = 300  # characters


def call_user_policy(
    problem: Problem, situation: Situation, seconds: float = SECONDS
) -> PolicyChoice:
    """What the function of `retraining.when` chooses, `policy` by default: an action, or (action, reason).

    Raises
    ------
    ProblemError
        It raises, does not end in time, or returns something else.
    """
    file, function = problem.policy_file
    if file is None:
        raise AssertionError("a policy without a name is a file")
    where = f"retraining.when: {function} of {file}"
    try:
        with UserProcess(prints=True) as process:
            until = time.monotonic() + seconds
            returned = process.call(_call, file, function, situation, until=until)
    except UserCodeError as error:
        raise _error(where, f"failed: {error}") from error
    return _checked(where, returned)


def _call(file: Path, function: str, situation: Situation) -> Any:
    """Call the function; in its process."""
    module = load_file(file, f"automl_policy_{file.stem}", "policy", "automl check FILE")
    found: Callable[[Situation], Any] | None = getattr(module, function, None)
    if not callable(found):
        raise SpaceError(
            f"{file}: has no function {function}{did_you_mean(function, dir(module))}",
            code="no_policy",
            next_step='Name the function behind the path: when = "file.py:function".',
        )
    returned = found(situation)
    # plain values: classes of the user's file do not exist in the other process
    if isinstance(returned, PolicyChoice):
        return returned.action, returned.reason
    plain = isinstance(returned, str | tuple | list)
    return returned if plain else repr(returned)


def _checked(where: str, returned: Any) -> PolicyChoice:
    parts = [returned] if isinstance(returned, str) else list(returned)
    action, reason = (*parts, "")[:2] if parts else ("", "")
    if len(parts) > 2 or action not in ACTIONS or not isinstance(reason, str):
        wanted = f"wanted one of {', '.join(ACTIONS)}, or (action, reason)"
        raise _error(where, f"returned {returned!r:.200}; {wanted}")
    text = " ".join(reason.split())[:MOST_REASON]
    return PolicyChoice(cast("Action", action), text or "it gave no reason")


def _error(where: str, what: str) -> ProblemError:
    return ProblemError(
        f"{where} {what}",
        code="policy",
        next_step="Fix the function, or retrain once without it: automl retrain FILE --plan warm",
    )
