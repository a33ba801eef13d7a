"""Steps as tasks: what is tried again, and how Prefect is shown a refusal."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from prefect.client.schemas.objects import State

from automl.cycles.steps import step
from automl.errors import AutomlError, HistoryError, UnreachableError
from flows import tasks


class Engine:
    """Prefect's engine of tasks, as far as steps need it."""

    def __init__(self) -> None:
        self.options: list[dict[str, Any]] = []
        self.states: list[State[Any]] = []

    def task(self, **options: Any) -> Any:
        self.options.append(options)

        def run(body: Any) -> Any:
            def called(*, return_state: bool) -> Any:
                assert return_state
                result = body()
                if isinstance(result, State):
                    self.states.append(result)
                return SimpleNamespace(result=lambda: result)

            return called

        return run


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Engine:
    engine = Engine()
    monkeypatch.setattr(tasks, "task", engine.task)
    log = SimpleNamespace(warning=lambda *_: None)
    monkeypatch.setattr(tasks, "get_run_logger", lambda: log)
    monkeypatch.setattr(tasks, "IO_RETRY_SECONDS", 0)
    return engine


def failing(times: int, error: Exception, calls: list[int]) -> Any:
    def work() -> str:
        calls.append(1)
        if len(calls) <= times:
            raise error
        return "done"

    return work


def test_each_step_is_a_task_and_only_those_that_reach_out_are_retried(engine: Engine) -> None:
    assert tasks.as_task(step("add", io=True)(lambda a, b: a + b), 1, b=5) == 6
    assert tasks.as_task(step("quiet")(lambda: "done")) == "done"
    assert [o["name"] for o in engine.options] == ["add", "quiet"]
    assert engine.options[0]["retries"] == tasks.IO_RETRIES
    assert "retries" not in engine.options[1]


@pytest.mark.parametrize(
    ("error", "io", "calls"),
    [
        (UnreachableError("gone"), True, 1 + tasks.IO_RETRIES),
        (UnreachableError("gone"), False, 1),
        (HistoryError("refused"), True, 1),
    ],
)
def test_a_refusal_is_shown_as_a_state_and_raised_after_what_may_help_was_tried(
    engine: Engine, error: AutomlError, io: bool, calls: int
) -> None:
    made: list[int] = []
    with pytest.raises(type(error), match=str(error)):
        tasks.as_task(step("work", io=io)(failing(9, error, made)))
    assert len(made) == calls
    [state] = engine.states
    assert state.type.value == "FAILED"
    assert state.message.endswith(f": {error}")
    retried = engine.options[0].get("retry_condition_fn", lambda *_: False)
    assert not retried(None, None, state), "Prefect does not begin again"


def test_what_comes_back_is_used(engine: Engine) -> None:
    work = failing(2, UnreachableError("gone"), [])
    assert tasks.as_task(step("work", io=True)(work)) == "done"


def test_an_error_of_another_kind_is_left_to_prefect(engine: Engine) -> None:
    with pytest.raises(OSError, match="disk"):
        tasks.as_task(step("work", io=True)(failing(9, OSError("disk"), [])))
    assert engine.options[0]["retry_condition_fn"](None, None, None), "its retries apply"


@pytest.mark.parametrize(
    ("error", "name", "message"),
    [
        (HistoryError("x"), "Failed", "refused: x"),
        (UnreachableError("x"), "TimedOut", "out of reach: x"),
        (AutomlError("x"), "Failed", "failed: x"),
    ],
)
def test_a_failed_run_says_first_what_kind_of_failure_it_is(
    error: AutomlError, name: str, message: str
) -> None:
    state = tasks.failed_state(error)
    assert (state.type.value, state.name, state.message) == ("FAILED", name, message)


def test_the_message_of_a_state_is_one_line_of_bounded_length() -> None:
    assert tasks.one_line("a\n  b") == "a b"
    assert len(tasks.one_line("word " * 999)) == tasks.LONGEST
