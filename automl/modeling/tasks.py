"""Prediction tasks: the shape of outputs, how models make them, and what is published of them.

Outputs are probabilities, shape (n_rows, n_classes), or values, shape (n_rows,). Code outside this module
asks the task instead of branching on its name or its classes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.ensemble import VotingClassifier, VotingRegressor
from sklearn.preprocessing import LabelEncoder

__all__ = ["Binary", "Classification", "Multiclass", "Regression", "Task", "task_of"]

ROUNDING = 1e-6  # averaged probabilities may exceed 1 by this much
SUM_ROUNDING = 1e-3  # some libraries compute in single precision
Array = NDArray[np.float64]
Label = str | int


@dataclass(frozen=True, slots=True)
class Task(ABC):
    """A prediction task; `classes` are the contract's labels in order, empty if values are predicted."""

    classes: tuple[Label, ...] = ()
    publishes_classes: ClassVar[bool] = False  # whether every class gets a row of its own

    @abstractmethod
    def output_shape(self, n_rows: int) -> tuple[int, ...]:
        """The shape of outputs for so many rows."""

    @abstractmethod
    def outcomes(self, target: pd.Series) -> Array:
        """Class numbers 0..k-1, or the values themselves, shape (n_rows,)."""

    @abstractmethod
    def components(self, outcomes: Array) -> NDArray[Any]:
        """Numbers whose means describe the outcomes: membership per class, or the values."""

    @abstractmethod
    def raw_output(self, model: Any, rows: Any) -> Array:
        """What a model returns for rows, unchecked."""

    @abstractmethod
    def fitted_output(self, estimator: Any, X: Any) -> Array:
        """Output of an estimator fitted on outcomes; classes missing from its training rows get 0."""

    @abstractmethod
    def completed(self, output: Array, model: Any) -> Array:
        """Output with a column per class, 0 for a class that the model never saw."""

    @abstractmethod
    def range_error(self, output: Array, tolerance: float) -> str:
        """Why the output cannot be published, empty if it can."""

    @abstractmethod
    def clipped(self, output: Array) -> Array:
        """Output without rounding errors above the largest possible value."""

    @abstractmethod
    def baseline(self, outcomes: Array, weight: Array, n_rows: int) -> Array:
        """The constant output learned from training labels alone: their class shares, or their mean."""

    @abstractmethod
    def average(self, members: Sequence[tuple[str, Any]], weights: Sequence[float]) -> Any:
        """A fitted scikit-learn model that averages fitted models."""

    @abstractmethod
    def published(self, output: Array) -> dict[str, NDArray[Any]]:
        """Published columns: prediction, and probability if there are classes."""

    def per_class(self, keys: pd.DataFrame, output: Array) -> pd.DataFrame | None:  # noqa: ARG002
        """One row per key and class with its probability; None if classes are not published."""
        return None

    @abstractmethod
    def from_published(
        self, rows: pd.DataFrame, per_class: Callable[[], pd.DataFrame]
    ) -> NDArray[np.float64]:
        """The output from which rows were published; `per_class` reads probabilities, a column per class."""


@dataclass(frozen=True, slots=True)
class Regression(Task):
    """Values are predicted."""

    def output_shape(self, n_rows: int) -> tuple[int, ...]:
        """(n_rows,)."""
        return (n_rows,)

    def outcomes(self, target: pd.Series) -> Array:
        """The values."""
        return target.to_numpy("float64")

    def components(self, outcomes: Array) -> NDArray[Any]:
        """The values."""
        return outcomes

    def raw_output(self, model: Any, rows: Any) -> Array:
        """`model.predict`."""
        return np.asarray(model.predict(rows), dtype="float64")

    def fitted_output(self, estimator: Any, X: Any) -> Array:
        """`estimator.predict`."""
        return self.raw_output(estimator, X)

    def completed(self, output: Array, model: Any) -> Array:  # noqa: ARG002
        """The output itself."""
        return output

    def range_error(self, output: Array, tolerance: float) -> str:  # noqa: ARG002
        """Empty: every finite value can be published."""
        return ""

    def clipped(self, output: Array) -> Array:
        """The output itself."""
        return output

    def baseline(self, outcomes: Array, weight: Array, n_rows: int) -> Array:
        """The weighted mean."""
        return np.full(n_rows, np.average(outcomes, weights=weight))

    def average(self, members: Sequence[tuple[str, Any]], weights: Sequence[float]) -> Any:
        """A fitted `VotingRegressor`."""
        return VotingRegressor(members, weights=weights)

    def published(self, output: Array) -> dict[str, NDArray[Any]]:
        """The values as prediction."""
        return {"prediction": output}

    def from_published(
        self,
        rows: pd.DataFrame,
        per_class: Callable[[], pd.DataFrame],  # noqa: ARG002
    ) -> Array:
        """The published predictions."""
        return rows["prediction"].to_numpy("float64")


@dataclass(frozen=True, slots=True)
class Classification(Task):
    """A probability is predicted for every class."""

    def output_shape(self, n_rows: int) -> tuple[int, ...]:
        """(n_rows, n_classes)."""
        return n_rows, len(self.classes)

    def outcomes(self, target: pd.Series) -> Array:
        """Class numbers in the order of `classes`."""
        numbers = {label: float(i) for i, label in enumerate(self.classes)}
        return target.map(numbers).to_numpy("float64")

    def components(self, outcomes: Array) -> NDArray[Any]:
        """Membership of each class, shape (n_rows, n_classes)."""
        return outcomes[:, None] == np.arange(len(self.classes))

    def raw_output(self, model: Any, rows: Any) -> Array:
        """`model.predict_proba`."""
        return np.asarray(model.predict_proba(rows), dtype="float64")

    def fitted_output(self, estimator: Any, X: Any) -> Array:
        """Probabilities by class number; those of a row sum to 1 in double precision.

        Raises
        ------
        ValueError
            They are not one probability per row and class that the estimator has seen.
        """
        seen = self.raw_output(estimator, X)
        numbers = np.asarray(estimator.classes_)
        self._refuse(seen, numbers, len(X))
        output = np.zeros((len(seen), len(self.classes)))
        output[:, numbers.astype(int)] = seen
        output /= output.sum(axis=1, keepdims=True)  # some libraries compute in single precision
        return output

    def _refuse(self, seen: Array, numbers: NDArray[Any], n_rows: int) -> None:
        known = set(range(len(self.classes)))
        if len(set(numbers.tolist())) < len(numbers) or not set(numbers.tolist()) <= known:
            raise ValueError(f"classes_ is {numbers.tolist()[:5]}; wanted the classes of y")
        if seen.shape != (n_rows, len(numbers)):
            raise ValueError(
                f"predict_proba returned shape {seen.shape}; wanted {(n_rows, len(numbers))}"
            )
        if not np.isfinite(seen).all():
            raise ValueError("predictions are not finite numbers")
        out_of_range = self.range_error(seen, ROUNDING)
        if out_of_range:
            raise ValueError(out_of_range)
        furthest = float(np.abs(seen.sum(axis=1) - 1).max(initial=0.0))
        if furthest > SUM_ROUNDING:
            raise ValueError(f"probabilities of a row miss the sum of 1 by up to {furthest:.3g}")

    def completed(self, output: Array, model: Any) -> Array:
        """Probabilities of every class of the contract, by the labels in `model.classes_`."""
        seen = list(getattr(model, "classes_", ()))
        if output.ndim != 2 or output.shape[1] != len(seen) or len(seen) >= len(self.classes):
            return output
        if not set(seen) < set(self.classes):
            return output
        every = np.zeros(self.output_shape(len(output)))
        every[:, [self.classes.index(label) for label in seen]] = output
        return every

    def range_error(self, output: Array, tolerance: float) -> str:
        """Says so if a probability is below 0 or above 1."""
        if output.min(initial=0.0) >= 0 and output.max(initial=0.0) <= 1 + tolerance:
            return ""
        return (
            f"the model's probabilities lie between {output.min():g} and {output.max():g}; "
            "wanted 0 to 1"
        )

    def clipped(self, output: Array) -> Array:
        """Probabilities of at most 1."""
        return np.minimum(output, 1.0)

    def baseline(self, outcomes: Array, weight: Array, n_rows: int) -> Array:
        """The weighted shares of the classes."""
        sums = np.bincount(outcomes.astype(int), weight, minlength=len(self.classes))
        return np.tile(sums / sums.sum(), (n_rows, 1))

    def average(self, members: Sequence[tuple[str, Any]], weights: Sequence[float]) -> Any:
        """A fitted `VotingClassifier` that predicts the labels."""
        model = VotingClassifier(members, voting="soft", weights=weights)
        model.le_ = LabelEncoder()
        model.le_.classes_ = model.classes_ = np.asarray(self.classes)
        return model

    def published(self, output: Array) -> dict[str, NDArray[Any]]:
        """The most probable class and a probability."""
        chosen = output.argmax(axis=1)
        return {
            "prediction": np.asarray(self.classes)[chosen],
            "probability": self._probability(output, chosen),
        }

    def _probability(self, output: Array, chosen: NDArray[np.intp]) -> Array:
        return output[np.arange(len(output)), chosen]


@dataclass(frozen=True, slots=True)
class Binary(Classification):
    """Two classes; the positive class comes second, and its probability is published."""

    def _probability(self, output: Array, chosen: NDArray[np.intp]) -> Array:  # noqa: ARG002
        return output[:, 1]

    def from_published(
        self,
        rows: pd.DataFrame,
        per_class: Callable[[], pd.DataFrame],  # noqa: ARG002
    ) -> Array:
        """The published probability and its complement."""
        positive = rows["probability"].to_numpy("float64")
        return np.column_stack([1 - positive, positive])


@dataclass(frozen=True, slots=True)
class Multiclass(Classification):
    """Several classes; the probability of the predicted class is published, and a table with all of them."""

    publishes_classes: ClassVar[bool] = True

    def per_class(self, keys: pd.DataFrame, output: Array) -> pd.DataFrame | None:
        """One row per key and class with its probability."""
        repeated = keys.loc[keys.index.repeat(len(self.classes))].reset_index(drop=True)
        labels = np.tile(np.asarray(self.classes), len(keys))
        return repeated.assign(**{"class": labels, "probability": output.ravel()})

    def from_published(self, rows: pd.DataFrame, per_class: Callable[[], pd.DataFrame]) -> Array:  # noqa: ARG002
        """The published probabilities of all classes."""
        return per_class()[list(self.classes)].to_numpy("float64")


_TASKS: dict[str, type[Task]] = {
    "binary": Binary,
    "multiclass": Multiclass,
    "regression": Regression,
}


def task_of(classes: Sequence[Label], name: str = "") -> Task:
    """The task of a contract's classes.

    Without a `name`, no classes mean regression, two binary, more multiclass. Only publishing tells a
    multiclass problem with two classes from a binary one, so only publishing has to pass the name.

    >>> task_of(["fine", "late"]).output_shape(3)
    (3, 2)
    """
    if not name:
        name = "regression" if not classes else "binary" if len(classes) == 2 else "multiclass"
    return _TASKS[name](tuple(classes))
