"""Requirements that every family file must meet, shipped or a user's, checked in seconds.

Optuna only warns about a start point outside its range and uses it anyway; here it is an error. The
checks run on generated rows and read no problem's data.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import optuna
import pandas as pd

from automl.diagnostics.check import Check
from automl.history import ColumnKind
from automl.history.contract import Contract
from automl.modeling.ensemble import assemble
from automl.modeling.families import Family, Shape, load_family, recipe_of_start, refuse_missing
from automl.modeling.features import category_positions, make_encoder
from automl.modeling.recipes import HALF_LIVES, RECENT, Params, Recipe
from automl.modeling.tasks import task_of
from automl.modeling.training import predict, takes_later_weights
from automl.predictions import model_output
from automl.tracking import digest_folder, load_folder, save_folder

__all__ = ["Findings", "check_family", "to_json"]

optuna.logging.set_verbosity(optuna.logging.WARNING)

ROWS, DRAWS = 200, 50
# ranges may depend on the number of rows; start points are meant for a table of this size
TYPICAL_ROWS = 20_000
FEATURES: Mapping[str, ColumnKind] = {
    "size": "number",
    "gap": "number",
    "colour": "text",
    "seen": "time",
}
CLASSES = {"binary": ("no", "yes"), "multiclass": ("a", "b", "c"), "regression": ()}
Task = Literal["binary", "multiclass", "regression"]


@dataclass(frozen=True, slots=True)
class Findings:
    """All checks of a family, its ranges, and the seconds of a fit."""

    family: Family
    checks: tuple[Check, ...]
    ranges: Mapping[str, str]
    seconds_per_fit: float


def check_family(
    entry: str, root: Path, tasks: Sequence[str] = (), begin: Callable[[str], None] = lambda _: None
) -> Findings:
    """Check a family by name or path, for these of its tasks, by default all.

    `begin` is called with the name of each check before it.

    Raises
    ------
    SpaceError
        The file cannot be loaded, or a library that it needs is missing.
    """
    family = load_family(entry, root)
    refuse_missing(family, entry)
    checks: list[Check] = []
    ranges: dict[str, str] = {}
    seconds = 0.0
    for task in sorted(set(family.tasks) & set(tasks or family.tasks)):
        found, drawn, spent = _check_task(family, task, partial(_run, begin))
        checks += found
        ranges |= {name: _text(distribution) for name, distribution in drawn.items()}
        seconds = max(seconds, spent)
    return Findings(family, tuple(checks), ranges, seconds)


def to_json(findings: Findings) -> dict[str, Any]:
    """What `--json` prints."""
    family = findings.family
    return {
        "family": family.name,
        "about": family.doc,
        "file": str(family.path),
        "passed": all(c.passed for c in findings.checks),
        "checks": [{"name": c.name, "passed": c.passed, "found": c.found} for c in findings.checks],
        "ranges": dict(findings.ranges),
        "needs": f"encoding {family.encoding}, tasks {', '.join(sorted(family.tasks))}"
        + (f", {', '.join(family.needs)}" if family.needs else "")
        + (", early stopping" if family.fit else "")
        + (", a stage on the newest rows" if family.recent else "")
        + ("" if family.weights else ", no row weights"),
        "seconds_per_fit": findings.seconds_per_fit,
    }


def _check_task(
    family: Family, task: str, run: Callable[[str, Callable[[], str]], Check]
) -> tuple[list[Check], dict[str, Any], float]:
    shape = _shape(family, task)
    typical = replace(shape, rows=TYPICAL_ROWS)
    drawn: dict[str, Any] = {}
    fitted: list[Any] = []
    checks = [
        run(
            f"{task}: {DRAWS} valid draws, ranges stay the same",
            lambda: _draws(family, (shape, typical), drawn),
        ),
        run(f"{task}: start points within their ranges", lambda: _starts(family, drawn)),
    ]
    started = time.perf_counter()
    checks.append(
        run(f"{task}: fit and predict on {ROWS} rows", lambda: _fits(family, task, fitted))
    )
    seconds = time.perf_counter() - started
    if fitted:
        checks += [
            run(f"{task}: same seed, same result", lambda: _repeats(family, task, fitted[0])),
            run(
                f"{task}: saved and loaded through MLflow",
                lambda: _saved_and_loaded(family, task, fitted[0]),
            ),
            run(f"{task}: row weights", lambda: _weighs(family, task)),
        ]
    if fitted and family.share:
        checks.append(
            run(f"{task}: shared columns, same predictions", lambda: _shares(family, task))
        )
    return checks, drawn, seconds


def _run(begin: Callable[[str], None], name: str, check: Callable[[], str]) -> Check:
    begin(name)
    try:
        return Check(name, True, check())
    except (Exception, SystemExit) as error:  # noqa: BLE001  a user's file may raise anything; then the check did not pass
        return Check(
            name,
            False,
            f"{type(error).__name__}: {str(error)[:300]}" if str(error) else type(error).__name__,
        )


def _draws(family: Family, shapes: tuple[Shape, Shape], drawn: dict[str, Any]) -> str:
    """Draw for a small and for a typical table; `drawn` receives the ranges of the typical one."""
    for shape in shapes:
        drawn.clear()
        study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
        for _ in range(DRAWS // len(shapes)):
            trial = study.ask()
            params = family.space(trial, shape)
            family.build(params, shape, 0)
            for name, distribution in trial.distributions.items():
                if name in drawn and drawn[name] != distribution:
                    raise ValueError(
                        f"{name}: range changed from {_text(drawn[name])} to {_text(distribution)}"
                    )
                drawn[name] = distribution
            study.tell(trial, 0.0)
    return f"{len(drawn)} parameters"


def _starts(family: Family, drawn: Mapping[str, Any]) -> str:
    if not family.start:
        raise ValueError("start: found none; wanted at least one (priority, params)")
    names = {n for task in family.tasks for n in _names(family, _shape(family, task))}
    for _, start in family.start:
        recipe = recipe_of_start(family, start, 0)
        _recency(family, recipe)
        for name, value in recipe.params.items():
            if name not in names:
                raise ValueError(f"start: {name!r} is not suggested by space()")
            inside = drawn.get(name)
            if inside is not None and not inside._contains(inside.to_internal_repr(value)):
                raise ValueError(f"start: {name} = {value} is outside {_text(inside)}")
    return f"{len(family.start)} points"


def _recency(family: Family, recipe: Recipe) -> None:
    if recipe.half_life not in (HALF_LIVES if family.weights else (None,)):
        raise ValueError(f"start: half_life = {recipe.half_life} is not one of {HALF_LIVES}")
    if recipe.recent not in (RECENT if family.recent else (0.0,)):
        raise ValueError(f"start: recent = {recipe.recent} is not one of {RECENT}, or no recent()")
    if recipe.trend not in family.trends:
        raise ValueError(f"start: trend = {recipe.trend}, but only tree families can use the time")


def _names(family: Family, shape: Shape) -> set[str]:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    names: set[str] = set()
    for _ in range(10):
        trial = study.ask()
        family.space(trial, shape)
        names |= set(trial.distributions)
    return names


def _fits(family: Family, task: str, fitted: list[Any]) -> str:
    model = _model(family, task)
    output = model_output(model, _rows(), _contract(task))
    if CLASSES[task] and not np.allclose(output.sum(axis=1), 1, atol=1e-6):
        raise ValueError("probabilities do not sum to 1")
    fitted.append(model)
    return f"outputs of shape {output.shape}, all finite"


def _repeats(family: Family, task: str, model: Any) -> str:
    again = _model(family, task)
    first, second = (model_output(m, _rows(), _contract(task)) for m in (model, again))
    if not np.array_equal(first, second):
        raise ValueError(
            f"two fits with one seed differ by up to {np.abs(first - second).max():.3g}"
        )
    return "equal to the last bit"


def _saved_and_loaded(family: Family, task: str, model: Any) -> str:
    rows = _rows()
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent) / "model"
        save_folder(model, rows.head(20), [family], folder)
        loaded = load_folder(folder, digest_folder(folder))
        size = sum(p.stat().st_size for p in folder.rglob("*"))
    if not np.array_equal(
        model_output(model, rows, _contract(task)), model_output(loaded, rows, _contract(task))
    ):
        raise ValueError("the loaded model predicts other values")
    return f"skops, {size / 1e3:.0f} kB, equal to the last bit"


def _weighs(family: Family, task: str) -> str:
    """A family that declares weights must predict other values with other weights."""
    if not family.weights:
        return "not used: its fits ignore history.weight"
    _, X, y, shape = _learnable(family, task)
    arguments = family.fit_args(shape) if family.fit_args else {}
    heavy = np.where(y == y.max() if CLASSES[task] else y > np.median(y), 9.0, 1.0)
    equal, weighted = (family.build(_first(family), shape, 0) for _ in range(2))
    equal.fit(X, y, sample_weight=np.ones(ROWS), **arguments)
    weighted.fit(X, y, sample_weight=heavy, **arguments)
    first, second = (predict(m, X, task_of(CLASSES[task])) for m in (equal, weighted))
    if np.array_equal(first, second):
        raise ValueError(
            "found the same predictions with other weights; wanted weights=False, or other predictions"
        )
    return "used"


def _shares(family: Family, task: str) -> str:
    """Trials may share columns; the refit uses the estimator and must give the same predictions."""
    if not (family.share and family.fit_shared):
        raise ValueError("found only one of share and fit_shared; wanted both")
    _, X, y, shape = _learnable(family, task)
    params, weights = _first(family), np.linspace(0.5, 1.5, ROWS) if family.weights else None
    estimator = family.build(params, shape, 0)
    weighting = {"sample_weight": weights} if family.weights else {}
    estimator.fit(X, y, **weighting, **(family.fit_args(shape) if family.fit_args else {}))
    sharing = family.fit_shared(params, shape, 0, family.share(X, y, shape, 0), weights)
    first, second = (predict(m, X, task_of(CLASSES[task])) for m in (estimator, sharing))
    if not np.allclose(first, second, rtol=1e-6, atol=1e-9):
        raise ValueError(
            f"fit_shared() and the estimator differ by up to {np.abs(first - second).max():.3g}"
        )
    return "equal to the estimator's predictions"


def _first(family: Family) -> Params:
    start = family.start[0][1] if family.start else {}
    return recipe_of_start(family, start, 0).params


def _learnable(family: Family, task: str) -> tuple[Any, np.ndarray, np.ndarray, Shape]:
    """A fitted encoder, the encoded rows, their outcomes, and their shape."""
    encoder = make_encoder(FEATURES, family.encoding)
    X = np.asarray(encoder.fit_transform(_rows()), dtype="float64")
    return encoder, X, _outcome(task), _shape(family, task)


def _model(family: Family, task: str) -> Any:
    encoder, X, y, shape = _learnable(family, task)
    params = _first(family)
    arguments = family.fit_args(shape) if family.fit_args else {}
    learned: Params = {}
    if family.fit is not None:
        cut = ROWS * 3 // 4
        trained = family.build(params, shape, 0)
        later = {"weights_val": np.ones(ROWS - cut)} if takes_later_weights(family) else {}
        rows = X[:cut], y[:cut], X[cut:], y[cut:], np.ones(cut)
        learned = family.fit(trained, *rows, **arguments, **later)
    estimator = family.build({**params, **learned}, shape, 0)
    estimator.fit(X, y, **arguments, **({"sample_weight": np.ones(ROWS)} if family.weights else {}))
    if family.recent is not None:
        family.recent(estimator, X[ROWS // 2 :], y[ROWS // 2 :], **arguments)
    predict(estimator, X, task_of(CLASSES[task]))
    return assemble([("only", 1.0, encoder, estimator)], _contract(task), list(FEATURES))


def _shape(family: Family, task: str) -> Shape:
    encoder = make_encoder(FEATURES, family.encoding)
    columns = encoder.fit_transform(_rows()).shape[1]
    categories = category_positions(FEATURES, family.encoding)
    return Shape(
        rows=ROWS,
        columns=columns,
        classes=len(CLASSES[task]),
        task=task,  # type: ignore[arg-type]
        categories=categories,
    )


def _contract(task: str) -> Contract:
    return Contract(features=dict(FEATURES), classes=CLASSES[task])


def _rows() -> pd.DataFrame:
    rng = np.random.default_rng(7)
    frame = pd.DataFrame(
        {
            "size": rng.normal(size=ROWS),
            "gap": np.where(rng.random(ROWS) < 0.3, np.nan, rng.normal(size=ROWS)),
            "colour": rng.choice(["red", "green", "blue"], ROWS),
            "seen": pd.date_range("2026-01-01", periods=ROWS, freq="7h"),
        }
    )
    return frame.assign(colour=frame["colour"].astype("str").mask(rng.random(ROWS) < 0.05))


def _outcome(task: str) -> np.ndarray:
    rows = _rows()
    drive = (
        rows["size"] + (rows["colour"] == "red") + 0.2 * np.random.default_rng(8).normal(size=ROWS)
    )
    if task == "regression":
        return drive.to_numpy("float64")
    cuts = [0.3] if task == "binary" else [0.0, 0.8]
    return np.digitize(drive, cuts).astype("float64")


def _text(distribution: Any) -> str:
    if hasattr(distribution, "choices"):
        return "one of " + ", ".join(map(str, distribution.choices))
    scale = ", log" if distribution.log else ""
    return f"{distribution.low:g} to {distribution.high:g}{scale}"
