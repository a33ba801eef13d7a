"""A step of a pipeline as a Prefect task: retries and a timeout only for steps that reach out."""

from __future__ import annotations

import time
from typing import Any, ParamSpec, TypeVar, cast

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.states import Failed

from automl.cycles.steps import Step
from automl.errors import AutomlError, UnreachableError
from automl.redaction import redact
from flows.progress import showing_progress

__all__ = ["as_shown", "as_task", "failed_state", "one_line"]

P = ParamSpec("P")
T = TypeVar("T")
IO_RETRIES = 2
IO_RETRY_SECONDS = 10
IO_TIMEOUT_SECONDS = 900  # a pull or an upload that takes longer is stuck
LONGEST = 500  # characters of a state's message
# exit code: what has happened, the first word of a failed state's message
KINDS = {2: "wrong settings", 3: "refused", 4: "no model", 5: "out of reach", 7: "busy"}
UNREACHABLE = 5


def as_task(step: Step[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a step of a cycle as a Prefect task.

    A refusal is returned to Prefect as a failed state, with its sentence as the message: an exception would be
    shown with a traceback. It is raised here again.
    """
    refused: list[AutomlError] = []
    options: dict[str, Any] = {
        "name": step.name,
        "task_run_name": step.name,
        "persist_result": False,
        "cache_policy": NO_CACHE,
    }
    if step.io:
        options |= {
            "retries": IO_RETRIES,
            "retry_delay_seconds": IO_RETRY_SECONDS,
            "timeout_seconds": IO_TIMEOUT_SECONDS,
            # a refusal would be refused again, and `_call` has tried what is out of reach
            "retry_condition_fn": lambda *_: not refused,
        }

    def body() -> (
        T | State[Any]
    ):  # arguments stay out of Prefect: it would serialise and store them
        try:
            with showing_progress(step.name):
                return _call(step, args, kwargs)
        except AutomlError as error:
            refused.append(error)
            return failed_state(error)
        except Exception as error:  # noqa: BLE001  raised again
            raise as_shown(error) from None

    result = task(**options)(body)(return_state=True)
    if refused:
        raise refused[-1]
    return cast("T", result.result())


def _call(step: Step[Any, Any], args: Any, kwargs: Any) -> Any:
    """The result of a step; one that reaches out tries again while the other side is away."""
    for left in range(IO_RETRIES if step.io else 0, 0, -1):
        try:
            return step(*args, **kwargs)
        except UnreachableError as error:
            get_run_logger().warning(
                "%s\n%d more tries, the next in %d s", error, left, IO_RETRY_SECONDS
            )
            time.sleep(IO_RETRY_SECONDS)
    return step(*args, **kwargs)


def as_shown(error: Exception) -> Exception:
    """The error as Prefect may log and store it; raised without its cause, whose text may hold a secret."""
    text = redact(str(error))
    if isinstance(error, AutomlError) or text == str(error):
        return error
    return AutomlError(f"{type(error).__name__}: {text}", code="unexpected")


def failed_state(error: AutomlError) -> State[Any]:
    """The state in which a run or task ends that raised this: its message is one line.

    Names are those that Prefect knows: the lists on its pages leave out runs in states of other names.
    """
    name = "TimedOut" if error.exit_code == UNREACHABLE else "Failed"
    return Failed(name=name, message=one_line(f"{KINDS.get(error.exit_code, 'failed')}: {error}"))


def one_line(text: str) -> str:
    """A text as the message of a state: Prefect shows line breaks as they are escaped."""
    line = " ".join(text.split())
    return line if len(line) <= LONGEST else f"{line[: LONGEST - 1]}…"
