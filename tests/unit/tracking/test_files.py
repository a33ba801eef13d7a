"""Models of a scratch workspace are files; nothing of them is in MLflow."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from sklearn.dummy import DummyRegressor

from automl.errors import DigestError, PredictError
from automl.problem import load_problem
from automl.tracking import FileRegistry, Registered, open_registry
from automl.workspace import open_workspace
from tests.support.turning import write_world


@pytest.fixture
def registry(tmp_path: Path) -> FileRegistry:
    file = write_world(tmp_path, weeks=2)
    opened = open_registry(load_problem(file), replace(open_workspace(file), tracking_uri=""))
    assert isinstance(opened, FileRegistry)
    return opened


def register(registry: FileRegistry, value: float, after: int) -> Registered:
    model = DummyRegressor(strategy="constant", constant=value).fit([[0]], [0])
    return registry.register("run", model, pd.DataFrame(), [], {}, after=after)


def test_a_model_is_loaded_as_it_was_registered(registry: FileRegistry) -> None:
    first, second = register(registry, 1.0, 0), register(registry, 2.0, 1)
    assert (first.version, second.version) == (1, 2)
    assert registry.load(1, first.digests).predict([[0]]) == 1.0
    model, size = registry.load_measured(2, second.digests)
    assert model.predict([[0]]) == 2.0
    assert size == (registry.workspace.home / "models" / "2" / "model.pickle").stat().st_size


def test_a_changed_file_is_not_loaded(registry: FileRegistry) -> None:
    found = register(registry, 1.0, 0)
    (registry.workspace.home / "models" / "1" / "model.pickle").write_bytes(b"other")
    with pytest.raises(DigestError, match="differs from the one recorded"):
        registry.load(1, found.digests)
    with pytest.raises(PredictError, match="found no file of model version 7"):
        registry.load(7, found.digests)


def test_mlflow_is_never_opened(registry: FileRegistry) -> None:
    registry.describe(registry.open_cycle("2026-01-05", {}, {}))
    assert not (registry.workspace.home / "mlflow.db").exists()
