"""What callers already know about a table: arguments checked against it, by key of the problem file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from automl.api.arguments import duration, moment_of
from automl.errors import ProblemError
from automl.problem import METRICS, did_you_mean, known_zone

if TYPE_CHECKING:
    from automl.guessing import Table

__all__ = ["given_values"]


def given_values(table: Table, target: str, wanted: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of `try_table` and `init` that replace guesses, by key of the problem file.

    Raises
    ------
    ProblemError
        A column is missing; a task, zone, time or duration cannot be read.
    """
    get = wanted.get
    return {
        "history.time": table.time if get("time") else None,
        "history.timezone": _zone(get("timezone")),
        "task": _task(get("task")),
        "history.positive": get("positive"),
        "metric.name": get("metric"),
        "history.key": _names(get("key"), table, "key"),
        "history.personal": _personal_names(get("personal"), table, target),
        "history.ignore": _names(get("ignore"), table, "ignore"),
        "history.label_delay": _span(get("label_delay"), "label_delay"),
        "validation.block": _span(get("block"), "block"),
        "batch.horizon": _span(get("horizon"), "horizon"),
        "validation.origins": get("origins"),
        "as_of": moment_of(get("as_of")),
    }


def _names(value: str | Sequence[str] | None, table: Table, argument: str) -> list[str] | None:
    """Column names as a list; refuses one that is not there."""
    if value is None:
        return None
    names = [value] if isinstance(value, str) else [str(n) for n in value]
    columns = list(table.frame.columns)
    for name in names:
        if name not in columns:
            raise ProblemError(
                f"{argument}: {name!r} is not a column; found {', '.join(columns)}"
                f"{did_you_mean(name, columns)}",
                code="missing_column",
                next_step=f"Change the column of {argument}.",
            )
    return names


def _personal_names(
    value: str | Sequence[str] | None, table: Table, target: str
) -> list[str] | None:
    """Names of personal columns, which are not copied; refuses the target and the time."""
    names = _names(value, table, "personal")
    for role, name in (("the target", target), ("the time", table.time)):
        if name in (names or ()):
            raise ProblemError(
                f"personal: found {name!r}, which is {role}; wanted other columns",
                code="usage",
                next_step="Leave it out of personal, or name another column for that role.",
            )
    return names


def _task(value: str | None) -> str | None:
    if value is not None and value not in METRICS:
        raise ProblemError(
            f"task: found {value!r}; wanted one of {', '.join(METRICS)}{did_you_mean(value, list(METRICS))}",
            code="usage",
            next_step="Change task, or leave it out: it is guessed from the target.",
        )
    return value


def _zone(value: str | None) -> str | None:
    try:
        return known_zone(value) if value else None
    except ValueError as error:
        raise ProblemError(
            f"timezone: {error}", code="usage", next_step="Change timezone, such as Europe/Zurich."
        ) from None


def _span(value: str | None, argument: str) -> str | None:
    span = duration(value, argument)
    return str(span) if span else None
