"""One peer on one cut, run by the Python of the peer's own environment: needs nothing of this project.

    python peers.py TOOL FOLDER SECONDS SEED

FOLDER holds spec.json (task, target, time, classes), train.parquet and batch.parquet; predictions go to
output.npy, (n, n_classes) in the order of `classes` or (n,), and times and version to result.json.
"""

from __future__ import annotations

import json
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

THREADS = 2
HOLDOUT = 0.2  # newest share of the rows that scores a trial of the single study


def main() -> None:
    """Fit, predict, write."""
    tool, place, seconds, seed = (
        sys.argv[1],
        Path(sys.argv[2]),
        float(sys.argv[3]),
        int(sys.argv[4]),
    )
    spec = json.loads((place / "spec.json").read_text(encoding="utf-8"))
    train = pd.read_parquet(place / "train.parquet")
    batch = pd.read_parquet(place / "batch.parquet")
    started = time.monotonic()
    run = {"autogluon": autogluon, "flaml": flaml, "optuna": optuna_study, "lightgbm": lightgbm}
    model = run[tool](train, spec, seconds, seed, place)
    fitted = time.monotonic()
    output = model(batch)
    result: dict[str, Any] = {
        "fit_seconds": fitted - started,
        "predict_seconds": time.monotonic() - fitted,
    }
    result["version"] = version({"autogluon": "autogluon.tabular"}.get(tool, tool))
    np.save(place / "output.npy", np.asarray(output, dtype=np.float64))
    (place / "result.json").write_text(json.dumps(result), encoding="utf-8")


def autogluon(train: pd.DataFrame, spec: Any, seconds: float, _: int, place: Path) -> Any:
    """Its `best_quality` preset; its interface takes no seed."""
    from autogluon.tabular import TabularPredictor

    metric = {"binary": "roc_auc", "multiclass": "log_loss", "regression": "rmse"}[spec["task"]]
    kind = {"regression": "regression"}.get(spec["task"], spec["task"])
    predictor = TabularPredictor(
        spec["target"], problem_type=kind, eval_metric=metric, path=str(place / "ag"), verbosity=1
    )
    predictor.fit(train, presets="best_quality", time_limit=seconds, num_cpus=THREADS, num_gpus=0)
    if not spec["classes"]:
        return predictor.predict
    return lambda rows: predictor.predict_proba(rows)[spec["classes"]].to_numpy()


def flaml(train: pd.DataFrame, spec: Any, seconds: float, seed: int, place: Path) -> Any:
    """Validation by time, its default estimators."""
    from flaml import AutoML

    metric = {"binary": "roc_auc", "multiclass": "log_loss", "regression": "rmse"}[spec["task"]]
    task = "regression" if spec["task"] == "regression" else "classification"
    automl = AutoML()
    y = train[spec["target"]]
    automl.fit(
        train.drop(columns=spec["target"]),
        y,
        task=task,
        metric=metric,
        time_budget=seconds,
        split_type="time",
        n_jobs=THREADS,
        seed=seed,
        verbose=0,
        log_file_name=str(place / "flaml.log"),
    )
    if not spec["classes"]:
        return automl.predict
    order = [list(automl.classes_).index(c) for c in spec["classes"]]
    return lambda rows: automl.predict_proba(rows)[:, order]


def optuna_study(train: pd.DataFrame, spec: Any, seconds: float, seed: int, _: Path) -> Any:
    """One TPE study over LightGBM, stopped early and scored on the newest rows, refit on all of them."""
    import lightgbm as lgb
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    started = time.monotonic()
    encode = Codes(train, spec)
    X, y = encode(train), encode.outcomes(train)
    cut = int(len(X) * (1 - HOLDOUT))
    fixed = _fixed(spec, seed) | {"metric": _lgb_metric(spec)}
    fits: list[float] = []

    def objective(trial: Any) -> float:
        params = fixed | {
            "learning_rate": trial.suggest_float("learning_rate", 0.01, 0.2, log=True),
            "num_leaves": trial.suggest_int("num_leaves", 4, 256, log=True),
            "min_child_samples": trial.suggest_int("min_child_samples", 2, 200, log=True),
            "feature_fraction": trial.suggest_float("feature_fraction", 0.4, 1.0),
            "bagging_fraction": trial.suggest_float("bagging_fraction", 0.4, 1.0),
            "bagging_freq": 1,
            "lambda_l1": trial.suggest_float("lambda_l1", 1e-8, 10.0, log=True),
            "lambda_l2": trial.suggest_float("lambda_l2", 1e-8, 10.0, log=True),
        }
        begun = time.monotonic()
        data = lgb.Dataset(X.iloc[:cut], y[:cut])
        booster = lgb.train(
            params,
            data,
            2000,
            valid_sets=[lgb.Dataset(X.iloc[cut:], y[cut:], reference=data)],
            callbacks=[lgb.early_stopping(50, verbose=False), _give_up(started + 0.9 * seconds)],
        )
        trial.set_user_attr("trees", booster.best_iteration or booster.current_iteration())
        fits.append(time.monotonic() - begun)
        value = next(iter(booster.best_score["valid_0"].values()))
        return 1 - value if spec["task"] == "binary" else value

    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed))
    # the refit costs about one more fit
    while not fits or time.monotonic() - started + 2 * float(np.median(fits)) < 0.95 * seconds:
        study.optimize(objective, n_trials=1)
    best = study.best_trial
    params = fixed | best.params | {"bagging_freq": 1}
    booster = lgb.train(params, lgb.Dataset(X, y), best.user_attrs["trees"])
    return lambda rows: _two_columns(booster.predict(encode(rows)), spec)


def lightgbm(train: pd.DataFrame, spec: Any, _: float, seed: int, __: Path) -> Any:
    """Its defaults, on all rows."""
    from lightgbm import LGBMClassifier, LGBMRegressor

    encode = Codes(train, spec)
    kind = LGBMClassifier if spec["classes"] else LGBMRegressor
    model = kind(n_jobs=THREADS, verbose=-1, random_state=seed)
    model.fit(encode(train), encode.outcomes(train))
    return lambda rows: (
        model.predict_proba(encode(rows)) if spec["classes"] else model.predict(encode(rows))
    )


class Codes:
    """Columns as LightGBM's documentation wants them: categories as such, times as calendar numbers."""

    def __init__(self, train: pd.DataFrame, spec: Any) -> None:
        self.spec = spec
        columns = [c for c in train.columns if c != spec["target"]]
        self.times = [c for c in columns if pd.api.types.is_datetime64_any_dtype(train[c])]
        self.numbers = [c for c in columns if pd.api.types.is_numeric_dtype(train[c])]
        texts = [c for c in columns if c not in self.times and c not in self.numbers]
        self.levels = {
            c: pd.Index(train[c].dropna().astype(str).unique()).sort_values() for c in texts
        }

    def __call__(self, rows: pd.DataFrame) -> pd.DataFrame:
        columns = {c: rows[c].astype("float64") for c in self.numbers}
        for c, levels in self.levels.items():
            columns[c] = pd.Categorical(
                rows[c].astype(str).where(rows[c].notna()), categories=levels
            )
        for c in self.times:
            when = rows[c].dt
            columns[f"{c}_hour"], columns[f"{c}_weekday"] = when.hour, when.dayofweek
            columns[f"{c}_day"], columns[f"{c}_yearday"] = when.day, when.dayofyear
        # LightGBM refuses some signs in names
        return pd.DataFrame({f"f{i}": values for i, values in enumerate(columns.values())})

    def outcomes(self, rows: pd.DataFrame) -> np.ndarray:
        """Class numbers, or values."""
        y = rows[self.spec["target"]].to_numpy()
        classes = np.asarray(self.spec["classes"])
        return np.searchsorted(classes, y) if len(classes) else y.astype("float64")


def _fixed(spec: Any, seed: int) -> dict[str, Any]:
    objective = {"binary": "binary", "multiclass": "multiclass", "regression": "regression"}
    classes = {"num_class": len(spec["classes"])} if spec["task"] == "multiclass" else {}
    common = {"num_threads": THREADS, "verbosity": -1, "seed": seed}
    return {"objective": objective[spec["task"]], **common, **classes}


def _lgb_metric(spec: Any) -> str:
    return {"binary": "auc", "multiclass": "multi_logloss", "regression": "rmse"}[spec["task"]]


def _give_up(moment: float) -> Any:
    import lightgbm as lgb

    def call(env: Any) -> None:
        if time.monotonic() > moment:
            raise lgb.callback.EarlyStopException(env.iteration, env.evaluation_result_list)

    return call


def _two_columns(output: np.ndarray, spec: Any) -> np.ndarray:
    return np.column_stack([1 - output, output]) if spec["task"] == "binary" else output


if __name__ == "__main__":
    main()
