"""Recipes and blends: plain values, JSON both ways. Nothing here loads a family or fits a model."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import Any

__all__ = ["HALF_LIVES", "RECENT", "TRENDS", "Blend", "Member", "Params", "Recipe", "plain_params"]

Params = dict[str, Any]

# Half-life of the row weights, as a share of the history's length; None weighs all rows equally.
# Prefer weights to hard windows: when recency is useless they lose five times less.
HALF_LIVES: tuple[float | None, ...] = (None, 0.5, 0.25, 0.125)
# Newest share of the rows on which a fitted model is trained further; 0 adds no such stage.
RECENT: tuple[float, ...] = (0.0, 0.2)
# Whether trees see when a row happened: rows of the future then fall into their newest leaves.
TRENDS: tuple[bool, ...] = (False, True)


@dataclass(frozen=True, slots=True)
class Recipe:
    """One point of a space: fitted models are disposable, recipes are kept. JSON both ways."""

    family: str
    params: Params
    seed: int = 0
    _: KW_ONLY
    half_life: float | None = None
    recent: float = 0.0
    trend: bool = False

    def to_json(self) -> dict[str, Any]:
        """A JSON object that `from_json` reads.

        >>> Recipe("linear", {"C": 1.0}).to_json()
        {'family': 'linear', 'params': {'C': 1.0}, 'seed': 0, 'half_life': None}
        """
        content = {
            "family": self.family,
            "params": self.params,
            "seed": self.seed,
            "half_life": self.half_life,
        }
        # left out by default, so that ids of recipes made before these existed stay the same
        content |= {"recent": self.recent} if self.recent else {}
        return content | ({"trend": True} if self.trend else {})

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Recipe:
        """The recipe of that JSON object."""
        return cls(
            data["family"],
            dict(data["params"]),
            data["seed"],
            half_life=data["half_life"],
            recent=data.get("recent", 0.0),
            trend=data.get("trend", False),
        )

    @property
    def id(self) -> str:
        """Ten hex digits of a digest of its content."""
        return _digest(self.to_json())

    def __hash__(self) -> int:
        return hash(self.id)


@dataclass(frozen=True, slots=True)
class Member:
    """A recipe in a blend; `learned` are params found by early stopping, such as tree counts."""

    recipe: Recipe
    weight: float
    learned: Params = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Blend:
    """One or more recipes whose outputs are averaged with weights that sum to 1.

    A blend is identified by its recipes alone: every refit re-estimates the weights. Champion and
    challenger are blends; a single recipe is a blend with one member.
    """

    members: tuple[Member, ...]

    @classmethod
    def single(cls, recipe: Recipe, learned: Params | None = None) -> Blend:
        """The blend of one recipe."""
        return cls((Member(recipe, 1.0, learned or {}),))

    def to_json(self) -> dict[str, Any]:
        """A JSON object that `from_json` reads."""
        return {
            "members": [
                {"recipe": m.recipe.to_json(), "weight": m.weight, "learned": m.learned}
                for m in self.members
            ]
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Blend:
        """The blend of that JSON object."""
        return cls(
            tuple(
                Member(Recipe.from_json(m["recipe"]), m["weight"], dict(m["learned"]))
                for m in data["members"]
            )
        )

    @property
    def id(self) -> str:
        """Ten hex digits of a digest of its recipes; weights and learned params change with every refit."""
        return _digest(sorted(m.recipe.id for m in self.members))

    @property
    def families(self) -> tuple[str, ...]:
        """Distinct family names, largest weight first."""
        ranked = sorted(self.members, key=lambda m: -m.weight)
        return tuple(dict.fromkeys(m.recipe.family for m in ranked))

    @property
    def recipes(self) -> frozenset[str]:
        """Ids of its recipes."""
        return frozenset(m.recipe.id for m in self.members)

    def offered(self, families: Collection[str]) -> bool:
        """Whether every member's family is among these."""
        return set(self.families) <= set(families)

    def __str__(self) -> str:
        """Its members, heaviest first, in percent that add up to 100; one member is its family.

        >>> a, b = Recipe("linear", {"C": 1.0}), Recipe("mlp", {})
        >>> str(Blend((Member(a, 1 / 3), Member(b, 2 / 3))))
        '67% mlp + 33% linear'
        """
        if len(self.members) == 1:
            return self.members[0].recipe.family
        ranked = sorted(self.members, key=lambda m: -m.weight)
        shares = _percentages([m.weight for m in ranked])
        return " + ".join(f"{p}% {m.recipe.family}" for p, m in zip(shares, ranked, strict=True))


def plain_params(returned: object, by: str) -> Params:
    """What a function of a user's file returned, as params that JSON can hold.

    NumPy's numbers become Python's.

    Raises
    ------
    TypeError, ValueError
        It is not a dict of names and plain, finite values.
    """
    if not isinstance(returned, Mapping):
        raise TypeError(f"{by} returned {type(returned).__name__}; wanted a dict of params")
    params: Params = {}
    for name, value in returned.items():
        if not isinstance(name, str):
            raise TypeError(f"{by} returned a param named {name!r}; wanted text as names")
        plain = (
            value.item() if type(value).__module__ == "numpy" and hasattr(value, "item") else value
        )
        try:
            json.dumps(plain, allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            raise ValueError(
                f"{by} returned {name} = {str(value)[:80]}, a {type(value).__name__}; "
                "wanted finite numbers, texts, true, false, None, or lists of them"
            ) from error
        params[name] = plain
    return params


def _percentages(weights: Sequence[float]) -> list[int]:
    """Whole percentages that add up to 100: what rounding down leaves goes to the largest remainders."""
    exact = [100 * w / sum(weights) for w in weights]
    whole = [int(x) for x in exact]
    places = sorted(range(len(exact)), key=lambda i: whole[i] - exact[i])
    for i in places[: 100 - sum(whole)]:
        whole[i] += 1
    return whole


def _digest(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:10]
