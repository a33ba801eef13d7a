"""What a decision depends on besides its evidence, recorded with it so that it can be made again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from automl.promotion.decide import Decision, decide
from automl.promotion.evidence import Duel

__all__ = ["Rule", "decide_by"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """The settings of one decision; blends by id, see `decide`."""

    holder: str  # the champion, or what stands in for it
    rivals: tuple[str, ...]  # that may take its place
    confidence: float
    in_sample_confidence: float
    shares: Mapping[str, float] = field(default_factory=dict)
    least: Mapping[str, float] = field(default_factory=dict)
    shifted: bool = False

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Rule:
        """The rule of a recorded decision."""
        return cls(**{**content, "rivals": tuple(content["rivals"])})


def decide_by(rule: Rule, every: Sequence[Duel], by: Callable[..., Decision] = decide) -> Decision:
    """Decide between the holder and its rivals; duels of other blends say how far apart recipes are."""
    return by(
        [d for d in every if d.challenger in rule.rivals],
        rule.holder,
        rule.confidence,
        rule.shares,
        in_sample_confidence=rule.in_sample_confidence,
        least=rule.least,
        others=[d for d in every if d.challenger not in rule.rivals],
        shifted=rule.shifted,
    )
