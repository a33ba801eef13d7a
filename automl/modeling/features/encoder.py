"""Encoders for trees, linear models and networks, fitted on the training rows of each origin.

An encoder is a scikit-learn `ColumnTransformer` that takes raw strings and times and is part of the
model, so loading the model needs no knowledge of the encoding.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, OrdinalEncoder, StandardScaler

from automl.history import ColumnKind
from automl.modeling.families import Encoding

__all__ = ["CARRIED", "all_classes", "carried", "category_positions", "make_encoder"]

CARRIED = "automl_carried"  # module name under which our own steps travel with a model
TREE_LEVELS = 254  # HistGradientBoosting takes at most 255 codes; rarer levels share a code
ONE_HOT_LEVELS = 48  # wider blocks of 0/1 slow linear models and networks more than they help
# Columns with more levels than this are coded by earlier outcomes too: a split over codes overfits
TREE_CODED, DENSE_CODED = 30, 20
CLIP = 5.0  # standard deviations; an outlier must not dominate a linear model


def make_encoder(
    features: Mapping[str, ColumnKind],
    encoding: Encoding,
    classes: int = 0,
    block: int = 0,
    *,
    zone: str = "UTC",
) -> ColumnTransformer:
    """An unfitted encoder of raw columns into a float matrix without names.

    "trees": numbers with gaps as NaN, categories as codes (unseen: NaN), times as calendar numbers of `zone`.
    "trees+time": times also as days. "dense": as "trees", imputed, scaled, clipped and one-hot. Columns of
    many categories are also coded by the outcomes of earlier rows: `fit_transform` takes class numbers below
    `classes`, or values if that is 0, of rows that ascend in time. Without outcomes there are no such codes.
    With `block`, the number of rows in a retraining period, they are coded by recent outcomes too, except for
    "trees+time": trees that see when a row happened find recent rows themselves.
    """
    of_kind = {
        kind: [name for name, k in features.items() if k == kind]
        for kind in ("number", "text", "time")
    }
    trend = encoding == "trees+time"
    steps = _dense_steps(zone) if encoding == "dense" else _tree_steps(trend, zone)
    levels = DENSE_CODED if encoding == "dense" else TREE_CODED
    steps["codes"] = carried.TargetCodes(levels, classes, 0 if trend else block)
    of_kind["codes"] = of_kind["text"]
    return ColumnTransformer(
        [(kind, steps[kind], names) for kind, names in of_kind.items() if names],
        verbose_feature_names_out=False,
    )


def all_classes(estimator: Any, classes: int) -> Any:
    """A fitted classifier with a probability for every class number below `classes`; unchanged if it saw all."""
    seen = getattr(estimator, "classes_", None)
    if not classes or seen is None or len(seen) == classes:
        return estimator
    complete = carried.AllClasses(estimator, classes)
    # fitted already: the attribute that fit() would have set
    complete.classes_ = np.arange(classes)
    return complete


def category_positions(features: Mapping[str, ColumnKind], encoding: Encoding) -> tuple[int, ...]:
    """Positions of category codes in the encoded matrix."""
    if encoding == "dense":
        return ()
    numbers = sum(kind == "number" for kind in features.values())
    texts = sum(kind == "text" for kind in features.values())
    return tuple(range(numbers, numbers + texts))


def _tree_steps(trend: bool, zone: str) -> dict[str, Any]:
    codes = OrdinalEncoder(
        handle_unknown="use_encoded_value",
        unknown_value=np.nan,
        encoded_missing_value=np.nan,
        max_categories=TREE_LEVELS,
    )
    return {
        "number": "passthrough",
        "text": codes,
        "time": carried.Calendar(trend=trend, zone=zone),
    }


def _dense_steps(zone: str) -> dict[str, Any]:
    clip = FunctionTransformer(np.clip, kw_args={"a_min": -CLIP, "a_max": CLIP})
    impute = SimpleImputer(strategy="median", add_indicator=True, keep_empty_features=True)
    one_hot = OneHotEncoder(
        handle_unknown="infrequent_if_exist", max_categories=ONE_HOT_LEVELS, sparse_output=False
    )
    return {
        "number": Pipeline([("impute", impute), ("scale", StandardScaler()), ("clip", clip)]),
        "text": one_hot,
        "time": Pipeline(
            [
                ("calendar", carried.Calendar(cyclic=True, zone=zone)),
                ("impute", SimpleImputer(strategy="median", keep_empty_features=True)),
                ("scale", StandardScaler()),
                ("clip", clip),
            ]
        ),
    }


def _load_carried() -> ModuleType:
    # a top-level module of its own, so that a model finds it where this package is not installed
    if CARRIED in sys.modules:
        return sys.modules[CARRIED]
    path = Path(__file__).with_name(f"{CARRIED}.py")
    spec = importlib.util.spec_from_file_location(CARRIED, path)
    if spec is None or spec.loader is None:
        raise AssertionError(f"{path} is part of this package")
    module = importlib.util.module_from_spec(spec)
    sys.modules[CARRIED] = module
    spec.loader.exec_module(module)
    return module


carried = _load_carried()
