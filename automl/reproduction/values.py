"""The result of rebuilding a cycle: comparisons, and the first that failed."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from automl.workspace import day_of

__all__ = ["Check", "Reproduction"]


@dataclass(frozen=True, slots=True)
class Check:
    """One comparison; `same` is None where it could not be made."""

    name: str  # data | problem file | contract | libraries | code | decision | model | predictions
    same: bool | None
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Reproduction:
    """A past cycle rebuilt, check by check in causal order."""

    problem: str
    as_of: datetime
    model_version: int
    checks: tuple[Check, ...]

    @property
    def equal(self) -> bool:
        """Whether the model predicts the same again, and so the published predictions where they are kept."""
        found = {c.name: c.same for c in self.checks}
        return found.get("model") is True and found.get("predictions") is not False

    @property
    def first_difference(self) -> Check | None:
        """The first comparison that failed: of several the cause."""
        return next((c for c in self.checks if c.same is False), None)

    @property
    def reason(self) -> str:
        """One sentence."""
        first = self.first_difference
        unknown = [c for c in self.checks if c.same is None]
        if self.equal:
            notes = [f"although {first.name}: {first.text}"] if first else []
            notes += [f"{c.name} not compared: {c.text}" for c in unknown]
            return "; ".join(["equal", *notes])
        if first is None:
            return "; ".join(["not rebuilt", *(f"{c.name}: {c.text}" for c in unknown)])
        return f"first difference, {first.name}: {first.text}"

    @property
    def document(self) -> dict[str, Any]:
        """As `--json` prints it."""
        first = self.first_difference
        return {
            "problem": self.problem,
            "as_of": day_of(self.as_of),
            "model_version": self.model_version,
            "equal": self.equal,
            "first_difference": first.name if first and not self.equal else None,
            "reason": self.reason,
            "checks": [asdict(check) for check in self.checks],
        }
