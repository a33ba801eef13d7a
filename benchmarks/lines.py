"""Runs of tools on tables: what a line holds, and the file that a later run resumes from."""

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
SHARES = (0.05, 0.2, 1.0)  # of the seconds, for the curve of quality over cost


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One run: how it was made, its loss and its seconds."""

    part: str  # compare | carry | ablate
    tool: str
    version: str
    table: str
    cycle: int
    seconds: float
    seed: int
    loss: float | None = None  # None: it failed, or is still to be made
    wall: float = 0.0
    more: dict[str, Any] = field(default_factory=dict)

    @property
    def id(self) -> tuple[Any, ...]:
        """What makes two runs the same."""
        return self.part, self.tool, self.version, self.table, self.cycle, self.seconds, self.seed


class Book:
    """The lines of earlier runs; new ones are appended to the file."""

    def __init__(self, file: Path | None) -> None:
        self.file = file
        self.lines = [Line(**fields) for fields in lines_of(file)] if file else []

    def newest(self, seconds: float, version: str) -> list[Line]:
        """All lines of that budget and of a curve up to it; those of automl of that `version` alone."""
        at = {round(share * seconds, 6) for share in SHARES}
        last = {
            (x.part, x.tool, x.table, x.cycle, x.seconds): x
            for x in self.lines
            if x.seconds in at
            and (x.version == version or (x.part == "compare" and x.tool != OURS))
        }
        return list(last.values())

    def find(self, wanted: Line) -> Line | None:
        """The line of that id, if it has a loss."""
        return next((x for x in self.lines if x.id == wanted.id and x.loss is not None), None)

    def get(self, wanted: Line, run: Callable[[], Line]) -> Line:
        """The line of that id, from the file or from a new run."""
        line = self.find(wanted)
        if line:
            return line
        line = run()
        self.lines.append(line)
        text = json.dumps(asdict(line))
        print(text, file=sys.stderr, flush=True)
        if self.file:
            self.file.parent.mkdir(exist_ok=True)
            with self.file.open("a", encoding="utf-8") as out:
                out.write(text + "\n")
        return line
