"""The nouns of search: a family (one file), a recipe (one point), a blend (what gets released).

A family file is ordinary Python with a `family = Family(...)` in it. It is loaded by name or path
under a module name of its own, so that an estimator class defined in it can travel with a model.
Nothing here fits anything; `automl.diagnostics.family` checks a family.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import json
import logging
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, Protocol

from automl.errors import SpaceError
from automl.problem import family_folder

__all__ = [
    "HALF_LIVES",
    "RECENT",
    "TRENDS",
    "Blend",
    "Family",
    "Member",
    "Params",
    "Recipe",
    "Shape",
    "Suggests",
    "alias_earlier_modules",
    "load_families",
    "load_family",
    "load_file",
    "load_retired",
    "refuse_missing",
    "suggest_recency",
]

_log = logging.getLogger(__name__)
Params = dict[str, Any]
Encoding = Literal["trees", "trees+time", "dense"]

# Half-life of the row weights, as a share of the history's length; None weighs all rows alike.
# Prefer weights to hard windows: when recency is useless they lose five times less.
HALF_LIVES: tuple[float | None, ...] = (None, 0.5, 0.25, 0.125)
# Newest share of the rows on which a fitted model goes on learning; 0 leaves it as it is.
RECENT: tuple[float, ...] = (0.0, 0.2)
# Whether trees see when a row happened: rows to come then fall into their newest leaves.
TRENDS: tuple[bool, ...] = (False, True)
# Family files written for release 0.1, and models that carry one, import these.
EARLIER_MODULES = {
    "automl.spaces": "automl.modeling.families",
    "automl.bins": "automl.modeling.lightgbm_hooks",
}
_ENGINES = ("half_life", "recent", "trend")  # in a start point, but no params of the family


class Suggests(Protocol):
    """The part of an Optuna trial that a space uses."""

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        """A number between low and high."""

    def suggest_int(
        self, name: str, low: int, high: int, *, step: int = 1, log: bool = False
    ) -> int:
        """A whole number between low and high."""

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """One of the choices."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What a space and a builder may know of the data.

    `rows` and `columns` are those of the encoded training matrix, `classes` is 0 for regression,
    `categories` are the positions of the columns that hold category codes (encoding "trees").
    """

    rows: int
    columns: int
    classes: int
    task: Literal["binary", "multiclass", "regression"]
    categories: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Family:
    """An algorithm family.

    Parameters
    ----------
    name, short
        As in the problem file; at most six letters for run names.
    tasks
        Subset of binary, multiclass, regression.
    encoding
        "trees": raw numbers, gaps as NaN, categories as codes. "dense": scaled, one-hot, no gaps.
        Recipes of a family of trees may ask for "trees+time": the times as numbers of days too.
    start
        (priority, params) pairs, lowest priority first: the cold portfolio.
    space
        `space(trial, shape) -> params`, define-by-run.
    build
        `build(params, shape, seed) -> unfitted estimator` with one thread; heavy imports inside.
    fit
        Optional `fit(estimator, X, y, X_val, y_val, weights) -> learned params`: fits with early
        stopping on the given rows and says what it learned, for example {"n_estimators": 240}.
        The engine then builds and fits again on all rows with the learned params.
    share, fit_shared
        Optional, both or none. `share(X, y, shape, seed)` makes what all fits on these rows can use, such as
        binned columns; `fit_shared(params, shape, seed, shared, weights)` fits a trial with it, and
        answers with something that predicts as the estimator fitted alone would. Refits do not use it.
    recent
        Optional `recent(estimator, X, y, **fit_args)`: a fitted estimator goes on learning on the newest
        rows alone. With it the search may choose recipes whose last stage follows a drift.
    """

    name: str
    short: str
    tasks: frozenset[str] | set[str]
    encoding: Encoding
    start: Sequence[tuple[int, Params]]
    space: Callable[[Any, Shape], Params]
    build: Callable[[Params, Shape, int], Any]
    fit: Callable[..., Params] | None = None
    fit_args: Callable[[Shape], Params] | None = None  # further keywords of the estimator's fit
    share: Callable[..., Any] | None = None
    fit_shared: Callable[..., Any] | None = None
    recent: Callable[..., Any] | None = None
    weights: bool = True  # whether fit takes sample_weight; False: no half-life is searched
    needs: Sequence[str] = ()  # modules that build() imports and this package does not bring along
    path: Path = field(default=Path(), compare=False)  # set by load_family
    # False: no longer in sweep.families; only a champion is refit with it. Set by load_retired
    offered: bool = field(default=True, compare=False)
    doc: str = field(default="", compare=False)

    @property
    def module(self) -> str:
        """The module name under which the file is loaded, and travels with a model."""
        return f"automl_family_{self.path.stem}"

    @property
    def trends(self) -> tuple[bool, ...]:
        """What `trend` may be in its recipes."""
        return TRENDS if self.encoding == "trees" else TRENDS[:1]

    def encoding_of(self, recipe: Recipe) -> Encoding:
        """What a recipe of this family is fitted on."""
        return "trees+time" if recipe.trend and self.encoding == "trees" else self.encoding


@dataclass(frozen=True, slots=True)
class Recipe:
    """One point of a space: fitted models are disposable, recipes are kept. JSON both ways."""

    family: str
    params: Params
    seed: int = 0
    half_life: float | None = None
    recent: float = 0.0
    trend: bool = False

    def to_json(self) -> dict[str, Any]:
        """A JSON object that `from_json` reads."""
        told = {
            "family": self.family,
            "params": self.params,
            "seed": self.seed,
            "half_life": self.half_life,
        }
        told |= {"recent": self.recent} if self.recent else {}
        return told | ({"trend": True} if self.trend else {})

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Recipe:
        """The recipe of that JSON object."""
        return cls(
            data["family"],
            dict(data["params"]),
            data["seed"],
            data["half_life"],
            data.get("recent", 0.0),
            data.get("trend", False),
        )

    @classmethod
    def of_start(cls, family: Family, start: Params, seed: int) -> Recipe:
        """The recipe of a start point; its `half_life`, `recent`, `trend` are the engine's, not the family's."""
        params = {n: v for n, v in start.items() if n not in _ENGINES}
        own = {n: v for n, v in start.items() if n in _ENGINES}
        return cls(family.name, params, seed, **{"half_life": None, **own})

    @property
    def id(self) -> str:
        """Ten hex digits that stand for the content."""
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

    What it is are its recipes; how much each weighs is learned anew at every refit. Champion and challenger are blends; a single recipe is a blend of one.
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
        """Ten hex digits for its recipes; weights and learned params do not count, a refit learns them."""
        return _digest(sorted(m.recipe.id for m in self.members))

    @property
    def families(self) -> tuple[str, ...]:
        """Family names, heaviest first, each once."""
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
        if len(self.members) == 1:
            return self.members[0].recipe.family
        parts = (f"{m.weight:.0%} {m.recipe.family}" for m in self.members)
        return f"blend of {' + '.join(parts)}"


def suggest_recency(family: Family, trial: Suggests) -> tuple[float | None, float, bool]:
    """Half-life, recent share and trend of a recipe, as far as the family can follow them."""
    half_life = recent = trend = 0
    if family.weights:
        half_life = trial.suggest_categorical("half_life", list(range(len(HALF_LIVES))))
    if family.recent:
        recent = trial.suggest_categorical("recent", list(range(len(RECENT))))
    if len(family.trends) > 1:
        trend = trial.suggest_categorical("trend", list(range(len(TRENDS))))
    return HALF_LIVES[half_life], RECENT[recent], TRENDS[trend]


def load_families(entries: Sequence[str], root: Path) -> dict[str, Family]:
    """Families by name, in the order given.

    Raises
    ------
    SpaceError
        A file cannot be loaded, two of them define the same name, or a library that one needs is missing.
    """
    families: dict[str, Family] = {}
    for entry in entries:
        family = load_family(entry, root)
        refuse_missing(family, entry)
        if family.name in families:
            raise SpaceError(
                f"{family.path}: family {family.name!r} is also defined by {families[family.name].path}",
                code="family_twice",
                next_step="Rename one of them.",
            )
        twin = next((f for f in families.values() if f.module == family.module), None)
        if twin is not None:  # a model could not tell their code apart
            raise SpaceError(
                f"{family.path}: a file of the same name is already loaded, {twin.path}",
                code="family_twice",
                next_step="Rename one of the files.",
            )
        families[family.name] = family
    return families


def load_retired(
    entries: Mapping[str, str], root: Path, offered: Mapping[str, Family]
) -> dict[str, Family]:
    """Families that are no longer offered, by name, as far as they still load.

    `entries` are names or paths by family name, as `sweep.families` once gave them. A file that cannot be
    loaded, or that has the module name of one of the `offered`, is left out with a warning.
    """
    families: dict[str, Family] = {}
    modules = {family.module for family in offered.values()}
    for name, entry in entries.items():
        if f"automl_family_{Path(entry).stem}" in modules:
            _log.warning("family %r: a file of the same name as %s is offered now", name, entry)
            continue
        try:
            family = load_family(entry, root)
            refuse_missing(family, entry)
        except SpaceError as error:
            _log.warning("family %r, no longer in sweep.families: %s", name, error)
            continue
        if family.name == name:
            families[name] = replace(family, offered=False)
    return families


def refuse_missing(family: Family, entry: str) -> None:
    """Raise `SpaceError` if a library that the family needs is not installed."""
    missing = [m for m in family.needs if importlib.util.find_spec(m) is None]
    if missing:
        how = f"pip install 'automl-retrain[{entry}]'" if entry == family.name else "Install it"
        raise SpaceError(
            f"family {family.name!r} needs {', '.join(missing)}, which is not installed",
            code="library_missing",
            next_step=f"{how}, or take the family out of sweep.families.",
        )


def load_family(entry: str, root: Path) -> Family:
    """The family of a name, or of a path relative to `root`.

    Raises
    ------
    SpaceError
        No such file, the file raises, it defines no `family`, or one that has `share` or `fit_shared` alone.
    """
    named = not ("/" in entry or entry.endswith(".py"))
    path = (family_folder() / f"{entry}.py") if named else (root / entry).resolve()
    if not path.is_file():
        raise SpaceError(f"{entry}: no family file at {path}", code="no_family")
    module = load_file(path, f"automl_family_{path.stem}", "family", f"automl spaces {entry}")
    family = getattr(module, "family", None)
    if not isinstance(family, Family):
        raise SpaceError(f"{path}: found no `family = Family(...)`", code="no_family")
    if (family.share is None) != (family.fit_shared is None):
        raise SpaceError(
            f"{path}: found one of share and fit_shared; wanted both or none",
            code="share_alone",
            next_step="Give the family the other one, or take this one out.",
        )
    return replace(family, path=path, doc=(module.__doc__ or "").strip().split("\n")[0])


def load_file(path: Path, name: str, what: str, again: str) -> ModuleType:
    """A user's Python file as a module of that name; `what` it defines and what to type after mending it.

    Raises
    ------
    SpaceError
        It is no Python file, or raises.
    """
    alias_earlier_modules()
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise SpaceError(f"{path}: not a Python file", code=f"no_{what}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise SpaceError(
            f"{path}: loading raised {type(error).__name__}: {error}",
            code=f"{what}_raises",
            next_step=f"Mend the file, then: {again}",
        ) from error
    return module


def alias_earlier_modules() -> None:
    """Let `EARLIER_MODULES` be imported by the names they once had."""
    for earlier, today in EARLIER_MODULES.items():
        sys.modules.setdefault(earlier, importlib.import_module(today))


def _digest(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:10]
