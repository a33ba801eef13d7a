"""What callers pass, as the values that the engine takes."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, date, datetime, tzinfo
from math import isnan
from typing import TYPE_CHECKING, Any, TypeAlias

from automl.cycles.options import RunOptions
from automl.errors import ProblemError
from automl.problem import Span
from automl.workspace import now

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
    "since_of",
    "typed",
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
            next_step="Write the time as in ISO 8601, UTC without an offset.",
        ) from None
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


def typed(moment: datetime) -> str:
    """A moment of UTC as `--as-of` takes it.

    Examples
    --------
    >>> typed(datetime(2013, 11, 4, tzinfo=UTC)), typed(datetime(2013, 11, 4, 6, tzinfo=UTC))
    ('2013-11-04', '2013-11-04T06:00')
    """
    midnight = moment.hour == moment.minute == 0
    return f"{moment:%Y-%m-%d}" if midnight else f"{moment:%Y-%m-%dT%H:%M}"


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
            f"{argument}: found none; wanted a time such as 2013-11-04",
            code="usage",
            next_step=f"Add {argument}.",
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
        raise ProblemError(
            f"{argument}: {error}",
            code="usage",
            next_step="Write a number and a unit, without a space.",
        ) from None


def since_of(
    value: str | date | datetime | Span | None, argument: str = "since", zone: tzinfo = UTC
) -> datetime | None:
    """A time as `moment_of`, or how long before now, such as `4w`, in the calendar of a zone.

    Raises
    ------
    ProblemError
        It is neither.

    Examples
    --------
    >>> str(since_of("2013-11-04"))
    '2013-11-04 00:00:00+00:00'
    >>> since_of("2w") == Span.parse("2w").before(now().replace(second=0, microsecond=0))
    True
    """
    if value is None:
        return None
    with suppress(ValueError):
        return Span.parse(value).before(now().replace(second=0, microsecond=0), zone=zone)
    try:
        return moment_of(value, argument)  # type: ignore[arg-type]
    except ProblemError:
        raise ProblemError(
            f"{argument}: found {value!r}; wanted a time such as 2013-11-04, or a duration before now such as 4w",
            code="usage",
            next_step="Write the time as in ISO 8601, or a number and a unit.",
        ) from None


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
        raise ProblemError(
            f"plan: found {plan!r}; wanted one of {', '.join(PLANS)}",
            code="usage",
            next_step="Choose one of them; auto decides by what has changed.",
        )
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
