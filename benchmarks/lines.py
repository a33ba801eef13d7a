"""Runs of tools on tables: what a line says, and the file of lines that runs go on with."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.figures import lines_of

__all__ = ["OURS", "SHARES", "Book", "Line"]

OURS = "automl"
SHARES = (0.05, 0.1, 0.2, 0.5, 1.0)  # of the seconds, for the curve of quality over cost


@dataclass(frozen=True, slots=True)
class Line:
    """One run: how it was made, and how it ended."""

    part: str  # compare | carry | ablate
    tool: str
    version: str
    table: str
    cycle: int
    seconds: float
    seed: int
    loss: float | None  # None: it failed
    wall: float
    more: dict[str, Any] = field(default_factory=dict)

    @property
    def id(self) -> tuple[Any, ...]:
        """What makes two runs the same."""
        return self.part, self.tool, self.version, self.table, self.cycle, self.seconds, self.seed


class Book:
    """The lines of earlier runs, and a place for new ones."""

    def __init__(self, file: Path | None) -> None:
        self.file = file
        self.lines = [Line(**told) for told in lines_of(file)] if file else []

    def newest(self, seconds: float, mine: str) -> list[Line]:
        """All lines of that budget, ours of the version `mine` alone, and those of a curve up to it."""
        at = {round(share * seconds, 6) for share in SHARES}
        last = {
            (x.part, x.tool, x.table, x.cycle, x.seconds): x
            for x in self.lines
            if x.seconds in at and (x.version == mine or (x.part == "compare" and x.tool != OURS))
        }
        return list(last.values())

    def find(self, wanted: Line) -> Line | None:
        """The line of that id, if it ended well."""
        return next((x for x in self.lines if x.id == wanted.id and x.loss is not None), None)

    def get(self, wanted: Line, run: Callable[[], Line]) -> Line:
        """The line of that id, run if need be."""
        line = self.find(wanted)
        if line:
            return line
        line = run()
        self.lines.append(line)
        told = json.dumps(asdict(line))
        print(told, file=sys.stderr, flush=True)
        if self.file:
            self.file.parent.mkdir(exist_ok=True)
            with self.file.open("a", encoding="utf-8") as out:
                out.write(told + "\n")
        return line
