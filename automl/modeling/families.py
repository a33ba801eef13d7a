"""Algorithm families: what a family file defines, and how the file is loaded.

A family file is ordinary Python with a `family = Family(...)` in it. It is loaded by name or path
under a module name of its own, so that an estimator class defined in it can travel with a model.
Nothing here fits a model; `automl.diagnostics.family` checks a family.
"""

from __future__ import annotations

import importlib.util
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

from automl.errors import SpaceError
from automl.modeling.recipes import HALF_LIVES, RECENT, TRENDS, Params, Recipe, plain_params
from automl.modeling.user_files import is_path, load_file
from automl.problem import METRICS, family_folder

__all__ = [
    "Encoding",
    "Family",
    "Params",
    "Recipe",
    "Shape",
    "Suggests",
    "in_family_folder",
    "load_families",
    "load_family",
    "load_retired",
    "recipe_of_start",
    "refuse_missing",
    "suggest_recipe",
    "suggested_values",
]

_log = logging.getLogger(__name__)
Encoding = Literal["trees", "trees+time", "dense"]

_RECENCY = ("half_life", "recent", "trend")  # in a start point, but not params of the family


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What a space and a builder may know about the data.

    `rows` and `columns` are those of the encoded training matrix, `classes` is 0 for regression,
    `categories` are the positions of the columns that hold category codes (encoding "trees").
    """

    rows: int
    columns: int
    classes: int
    task: Literal["binary", "multiclass", "regression"]
    categories: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """An algorithm family.

    Parameters
    ----------
    name, short
        As in the problem file; `short` has at most six letters and appears in run names.
    tasks
        Subset of binary, multiclass, regression.
    encoding
        "trees": raw numbers, gaps as NaN, categories as codes. "dense": scaled, one-hot, no gaps.
        Recipes of a tree family may choose "trees+time": timestamps as day numbers too.
    start
        (priority, params) pairs, lowest priority first: the cold portfolio.
    space
        `space(trial, shape) -> params`, define-by-run.
    build
        `build(params, shape, seed) -> unfitted estimator` with one thread; heavy imports inside.
    fit
        Optional `fit(estimator, X, y, X_val, y_val, weights) -> learned params`: fits with early
        stopping on the given rows and returns what it learned, for example {"n_estimators": 240}.
        The engine then builds and fits again on all rows with the learned params.
    fit_args
        Optional `fit_args(shape) -> dict`: further keyword arguments for the estimator's fit.
    share, fit_shared
        Optional, both or neither. `share(X, y, shape, seed)` prepares what all fits on these rows can use,
        such as binned columns; `fit_shared(params, shape, seed, shared, weights)` fits a trial with it and
        returns a model that predicts like the estimator fitted alone. Refits do not use it.
    recent
        Optional `recent(estimator, X, y, **fit_args)`: trains a fitted estimator further on the newest rows
        alone. With it the search may choose recipes whose last stage follows a drift.
    defaults
        Optional: what the params mean that a start point leaves out, inside the ranges of `space`. With them a
        study learns from start points.
    weights
        Whether fit takes `sample_weight`; without it no half-life is searched.
    needs
        Modules that `build` imports and this package does not install.
    path, offered, doc
        Set when the file is loaded. `offered` is False for a family that is no longer in sweep.families and
        only used to refit a champion.
    """

    name: str
    short: str
    tasks: frozenset[str] | set[str]
    encoding: Encoding
    start: Sequence[tuple[int, Params]]
    space: Callable[[Any, Shape], Params]
    build: Callable[[Params, Shape, int], Any]
    fit: Callable[..., Params] | None = None
    fit_args: Callable[[Shape], Params] | None = None
    share: Callable[..., Any] | None = None
    fit_shared: Callable[..., Any] | None = None
    recent: Callable[..., Any] | None = None
    defaults: Params = field(default_factory=dict)
    weights: bool = True
    needs: Sequence[str] = ()
    path: Path = field(default=Path(), compare=False)
    offered: bool = field(default=True, compare=False)
    doc: str = field(default="", compare=False)

    @property
    def module(self) -> str:
        """The module name under which the file is loaded, and travels with a model."""
        return f"automl_family_{self.path.stem}"

    @property
    def trends(self) -> tuple[bool, ...]:
        """Values that `trend` may have in its recipes."""
        return TRENDS if self.encoding == "trees" else TRENDS[:1]

    def encoding_of(self, recipe: Recipe) -> Encoding:
        """The encoding that a recipe of this family is fitted on."""
        return "trees+time" if recipe.trend and self.encoding == "trees" else self.encoding


def recipe_of_start(family: Family, start: Params, seed: int) -> Recipe:
    """The recipe of a start point.

    `half_life`, `recent` and `trend` in a start point belong to the recipe; the rest are the family's params.
    """
    params = {name: value for name, value in start.items() if name not in _RECENCY}
    recency = {name: value for name, value in start.items() if name in _RECENCY}
    return Recipe(family.name, params, seed, **recency)


def suggest_recipe(
    family: Family,
    trial: Suggests,
    shape: Shape,
    seed: int,
    space: Callable[[Suggests, Shape], Params] | None = None,
) -> Recipe:
    """A recipe from the family's space, with the recency options that the family supports.

    `space` is called instead of the family's own.

    Raises
    ------
    TypeError, ValueError
        The space returned no params.
    """
    params = plain_params((space or family.space)(trial, shape), "space")
    half_life = recent = trend = 0
    if family.weights:
        half_life = trial.suggest_categorical("half_life", list(range(len(HALF_LIVES))))
    if family.recent:
        recent = trial.suggest_categorical("recent", list(range(len(RECENT))))
    if len(family.trends) > 1:
        trend = trial.suggest_categorical("trend", list(range(len(TRENDS))))
    return Recipe(
        family.name,
        params,
        seed,
        half_life=HALF_LIVES[half_life],
        recent=RECENT[recent],
        trend=TRENDS[trend],
    )


def suggested_values(family: Family, recipe: Recipe) -> Params:
    """The values with which a trial would suggest this recipe, as `suggest_recipe` asks for them."""
    values = {**family.defaults, **recipe.params}
    if family.weights and recipe.half_life in HALF_LIVES:
        values["half_life"] = HALF_LIVES.index(recipe.half_life)
    if family.recent and recipe.recent in RECENT:
        values["recent"] = RECENT.index(recipe.recent)
    if recipe.trend in family.trends:
        values["trend"] = TRENDS.index(recipe.trend)
    return values


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
        if twin is not None:  # both files would be the same module in a model
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
    """Families that are no longer offered, by name, if they still load.

    `entries` are names or paths by family name, as `sweep.families` once listed them. A file that cannot be
    loaded, or that has the module name of one of the `offered`, is left out with a warning.
    """
    families: dict[str, Family] = {}
    modules = {family.module for family in offered.values()}
    for name, entry in entries.items():
        if f"automl_family_{Path(entry).stem}" in modules:
            _log.warning(
                "Skipping family %r: a file of the same name as %s is in sweep.families now",
                name,
                entry,
            )
            continue
        try:
            family = load_family(entry, root)
            refuse_missing(family, entry)
        except SpaceError as error:
            _log.warning("Skipping family %r, no longer in sweep.families: %s", name, error)
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
            next_step=f"{how}, or remove the family from sweep.families.",
        )


def load_family(entry: str, root: Path) -> Family:
    """The family of a name, or of a path relative to `root`.

    Raises
    ------
    SpaceError
        No such file, the file raises, it defines no `family`, or one with wrong values.
    """
    path = (root / entry).resolve() if is_path(entry) else (family_folder() / f"{entry}.py")
    if not path.is_file():
        raise SpaceError(
            f"{entry}: no family file at {path}",
            code="no_family",
            next_step="automl spaces lists the families; a file of your own is named by its path, such as families/mine.py.",
        )
    module = load_file(path, f"automl_family_{path.stem}", "family", f"automl spaces {entry}")
    family = getattr(module, "family", None)
    if not isinstance(family, Family):
        raise SpaceError(
            f"{path}: found no `family = Family(...)`",
            code="no_family",
            next_step="Assign it in the file: family = Family(name=..., ...); docs/families.md shows one.",
        )
    if (family.share is None) != (family.fit_shared is None):
        raise SpaceError(
            f"{path}: found only one of share and fit_shared; wanted both or neither",
            code="share_alone",
            next_step="Define both in the family, or remove both.",
        )
    mistakes = _mistakes(family)
    if mistakes:
        raise SpaceError(
            f"{path}: {'; '.join(mistakes)}",
            code="family_wrong",
            next_step=f"Fix the file, then run: automl spaces {entry}",
        )
    return replace(family, path=path, doc=(module.__doc__ or "").strip().split("\n")[0])


def in_family_folder(path: Path) -> bool:
    """Whether a family file ships with this product, and is not a user's."""
    return path.parent.resolve() == family_folder().resolve()


def _mistakes(family: Family) -> list[str]:
    """What is wrong with the values of a family."""
    found = []
    if not isinstance(family.name, str) or not family.name:
        found.append(f"name: found {family.name!r}; wanted text")
    if not family.tasks or not set(family.tasks) <= METRICS.keys():
        found.append(f"tasks: found {family.tasks!r}; wanted some of {', '.join(sorted(METRICS))}")
    if family.encoding not in get_args(Encoding):
        found.append(f"encoding: found {family.encoding!r}; wanted {', '.join(get_args(Encoding))}")
    found += [
        f"{name}: found {type(getattr(family, name)).__name__}; wanted a function"
        for name in ("space", "build", "fit", "fit_args", "share", "fit_shared", "recent")
        if not callable(getattr(family, name))
        and not (getattr(family, name) is None and name not in ("space", "build"))
    ]
    try:
        starts: list[object] = list(family.start)
    except TypeError:
        starts = [family.start]
    return found + list(filter(None, map(_start_mistake, starts)))


def _start_mistake(start: object) -> str:
    match start:
        case (int() | float() as priority, Mapping() as params) if math.isfinite(priority):
            try:
                plain_params(params, "start")
            except (TypeError, ValueError) as error:
                return str(error)
            return ""
    return f"start: found {str(start)[:80]}; wanted (priority, params)"
