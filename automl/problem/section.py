"""What every section of a problem file is: frozen, with every key known; and words for wrong values."""

from __future__ import annotations

from difflib import get_close_matches
from zoneinfo import ZoneInfo, available_timezones

from pydantic import BaseModel, ConfigDict

__all__ = ["Section", "did_you_mean", "known_zone"]

# zones that depend on the machine; Prefect refuses them
OF_THE_MACHINE = ("Factory", "localtime")


class Section(BaseModel):
    """A table of the problem file; unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)


def known_zone(value: str) -> str:
    """The name of a time zone; ValueError if it is none, or means another zone on every machine."""
    if value in OF_THE_MACHINE or value not in available_timezones():
        hint = did_you_mean(value, tuple(available_timezones()))
        raise ValueError(
            f"found {value!r}; wanted a time zone, for example UTC or Europe/Zurich{hint}"
        )
    ZoneInfo(value)
    return value


def did_you_mean(word: str, known: tuple[str, ...] | list[str]) -> str:
    """A question to add to a message; empty if no known word is close.

    Examples
    --------
    >>> did_you_mean("lightgb", ["linear", "lightgbm"])
    ". Did you mean 'lightgbm'?"
    """
    close = get_close_matches(word, known, n=1, cutoff=0.6)
    return f". Did you mean {close[0]!r}?" if close else ""
