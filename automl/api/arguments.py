"""What callers pass, as the values that the engine takes."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime
from math import isnan
from typing import TYPE_CHECKING, Any, TypeAlias

from automl.cycles.options import RunOptions
from automl.errors import ProblemError
from automl.problem import Span

if TYPE_CHECKING:
    from automl.backtest import Options

__all__ = [
    "Moment",
    "backtest_options",
    "cycle_of",
    "duration",
    "moment_of",
    "required_moment",
    "run_options",
]

Moment: TypeAlias = str | date | datetime | None
PLANS = ("auto", "refit", "warm", "full")


def moment_of(value: Moment, argument: str = "as_of") -> datetime | None:
    """A time as UTC; one without a zone is taken for UTC.

    Raises
    ------
    ProblemError
        It is no time.

    Examples
    --------
    >>> str(moment_of("2013-11-04"))
    '2013-11-04 00:00:00+00:00'
    >>> str(moment_of(date(2013, 11, 4)))
    '2013-11-04 00:00:00+00:00'
    """
    if value is None:
        return None
    try:
        moment = _datetime(value)
    except (ValueError, TypeError, AttributeError):
        raise ProblemError(
            f"{argument}: found {value!r}; wanted a time such as 2013-11-04 or 2013-11-04T06:00",
            code="usage",
        ) from None
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


def required_moment(value: Moment, argument: str) -> datetime:
    """As `moment_of`, of an argument without a default.

    Raises
    ------
    ProblemError
        It is missing, or no time.
    """
    moment = moment_of(value, argument)
    if moment is None:
        raise ProblemError(
            f"{argument}: found none; wanted a time such as 2013-11-04", code="usage"
        )
    return moment


def _datetime(value: Any) -> datetime:
    if isnan(getattr(value, "year", 0)):
        raise ValueError("pandas' NaT is no time")
    if hasattr(value, "to_pydatetime"):
        value = value.to_pydatetime(warn=False)
    elif isinstance(value, date) and not isinstance(value, datetime):
        return datetime(value.year, value.month, value.day, tzinfo=UTC)
    return value if isinstance(value, datetime) else datetime.fromisoformat(value)


def duration(value: str | Span | None, argument: str) -> Span | None:
    """A duration such as `90s`, or None.

    Raises
    ------
    ProblemError
        It is no duration.
    """
    if value is None:
        return None
    try:
        return Span.parse(value)
    except ValueError as error:
        raise ProblemError(f"{argument}: {error}", code="usage") from None


def run_options(
    *,
    as_of: Moment = None,
    budget: str | Span | None = None,
    plan: str = "auto",
    again: bool = False,
    reason: str = "",
    backfill: bool = False,
    dry_run: bool = False,
) -> RunOptions:
    """The options of a run.

    Raises
    ------
    ProblemError
        A time or duration cannot be read, or the plan is unknown.
    """
    if plan not in PLANS:
        raise ProblemError(f"plan: found {plan!r}; wanted one of {', '.join(PLANS)}", code="usage")
    return RunOptions(
        as_of=moment_of(as_of),
        budget=duration(budget, "budget"),
        again=again,
        reason=reason,
        backfill=backfill,
        dry_run=dry_run,
        plan=plan,
    )


def backtest_options(
    *,
    start: Moment,
    end: Moment,
    every: str | Span | None = None,
    policies: Sequence[str] = (),
    budget: str | Span | None = None,
    workers: int = 1,
    names: tuple[str, str] = ("start", "end"),
) -> Options:
    """The options of a backtest.

    Raises
    ------
    ProblemError
        A time or duration cannot be read.
    """
    from automl.backtest import Options

    return Options(
        start=required_moment(start, names[0]),
        end=required_moment(end, names[1]),
        every=duration(every, "every"),
        policies=tuple(policies),
        budget=duration(budget, "budget"),
        workers=workers,
    )


def cycle_of(
    cycle: Moment, as_of: Moment, names: tuple[str, str] = ("cycle", "as_of")
) -> datetime | None:
    """as_of of the cycle that either argument names, which mean the same; None if neither is given.

    Raises
    ------
    ProblemError
        One is no time, or they name two cycles.
    """
    one, other = moment_of(cycle, names[0]), moment_of(as_of, names[1])
    if one and other and one != other:
        raise ProblemError(
            f"{names[0]} {cycle} and {names[1]} {as_of} name two cycles; wanted one",
            code="two_cycles",
            next_step="Give one of them: they mean the same.",
        )
    return one or other
