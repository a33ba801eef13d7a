"""Durations as people write them; months and quarters follow the calendar."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from dateutil.relativedelta import relativedelta
from pydantic import BeforeValidator

__all__ = ["Duration", "Span"]

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "mo": "months", "q": "months"}
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_LONGEST = 200 * 365.25 * 86400  # longer ones leave the calendar when they are counted back


@dataclass(frozen=True, slots=True)
class Span:
    """A duration as people write it: `90m 12h 7d 1mo 1q`; months and quarters follow the calendar."""

    count: int
    unit: str

    @classmethod
    def parse(cls, text: object) -> Span:
        """Read `7d`; raises ValueError with the forms that are allowed."""
        if isinstance(text, Span):
            return text
        match = re.fullmatch(r"(\d+)\s*(mo|s|m|h|d|q)", str(text).strip())
        if not match or int(match[1]) < 1:
            raise ValueError(
                f"{text!r} is not a duration; wanted for example 90s, 90m, 12h, 7d, 1mo, 1q"
            )
        span = cls(int(match[1]), match[2])
        if span.seconds > _LONGEST:
            raise ValueError(f"{text!r} is longer than 200 years")
        return span

    def after(self, moment: datetime, times: int = 1) -> datetime:
        """`moment` plus `times` of this span."""
        count = self.count * times * (3 if self.unit == "q" else 1)
        return moment + relativedelta(**{_UNITS[self.unit]: count})  # type: ignore[arg-type]

    def before(self, moment: datetime, times: int = 1) -> datetime:
        """`moment` minus `times` of this span."""
        return self.after(moment, -times)

    @property
    def seconds(self) -> float:
        """Length in seconds; a month counts 30.44 days (only for budgets and estimates)."""
        if self.unit in _SECONDS:
            return float(self.count * _SECONDS[self.unit])
        return self.count * 30.44 * 86400 * (3 if self.unit == "q" else 1)

    def __str__(self) -> str:
        return f"{self.count}{self.unit}"


Duration = Annotated[Span, BeforeValidator(Span.parse)]
