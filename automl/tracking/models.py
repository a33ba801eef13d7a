"""Model files: saved as skops with an allow-list of types, loaded only if digests and types match."""

from __future__ import annotations

import hashlib
import logging
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import skops.io
import yaml
from mlflow.models import Model, ModelSignature
from mlflow.types import ColSpec, DataType, Schema

from automl.errors import DigestError, PredictError, SpaceError
from automl.modeling.families import Family
from automl.modeling.features import CARRIED, Columns
from automl.modeling.features import __path__ as features_path
from automl.modeling.user_files import alias_earlier_modules

__all__ = [
    "digest_folder",
    "load_folder",
    "log_model",
    "made_up_rows",
    "save_folder",
    "trusted_types",
]

# Types a model file may contain beyond those that skops trusts. Family files are saved with the model.
ALLOWED = (
    "sklearn.",
    "lightgbm.",
    "xgboost.",
    "catboost.",
    "numpy.",
    "scipy.",
    "skrub.",
    "collections.OrderedDict",
    "functools.partial",
    f"{CARRIED}.",
    "automl_family_",
    "automl_columns_",
)
WITHOUT_FILES = (
    "Restore the artifacts from a backup; or release a new version: automl retrain FILE --again --reason R; or an "
    "earlier one: automl rollback FILE --to VERSION --reason R."
)
_log = logging.getLogger(__name__)
# code that can be saved with a model: a file under a module name of its own
Code = Family | Columns
_REQUIRED = ("scikit-learn", "numpy", "pandas", "skops")


def trusted_types(model: Any) -> list[str]:
    """The types that skops needs on its allow-list.

    Raises
    ------
    SpaceError
        The model contains a type outside the allow-list.
    """
    found = sorted(skops.io.get_untrusted_types(data=skops.io.dumps(model)))
    foreign = [name for name in found if not name.startswith(ALLOWED)]
    if foreign:
        raise SpaceError(
            f"the model contains {', '.join(foreign)}; wanted types of {', '.join(ALLOWED[:6])} or of the family's file",
            code="untrusted_type",
            next_step="Build the estimator from those libraries, or define its class in the family file.",
        )
    return found


def log_model(model: Any, sample: pd.DataFrame, families: Sequence[Code], run_id: str) -> Any:
    """Log a model to a run with its signature, requirements, code and a made-up input example; no row of data."""
    with tempfile.TemporaryDirectory() as folder, mlflow.start_run(run_id=run_id):
        return Model.log(
            name="model",
            artifact_path=None,
            flavor=_FLAVOUR,
            # else MLflow loads the model and predicts the input example, in this process
            validate_serving_input=False,
            sk_model=model,
            **_arguments(model, sample, families, Path(folder)),
        )


def save_folder(model: Any, sample: pd.DataFrame, families: Sequence[Code], folder: Path) -> None:
    """Write the files that `log_model` logs to a folder, without a server."""
    with tempfile.TemporaryDirectory() as code:
        mlflow.sklearn.save_model(
            model, str(folder), **_arguments(model, sample, families, Path(code))
        )


def made_up_rows(columns: pd.DataFrame) -> pd.DataFrame:
    """Two rows with the columns and types of these, and nothing of their values: how to call a model."""
    made = {}
    for name, kind in columns.dtypes.items():
        if str(kind).startswith("datetime"):
            made[name] = pd.to_datetime(["2030-01-01 08:00", "2030-01-02 16:30"]).astype(kind)
        elif str(kind).startswith("float"):
            made[name] = pd.Series([0.0, 1.0], dtype=kind)
        else:
            made[name] = pd.Series(["a", "b"], dtype=kind)
    return pd.DataFrame(made)


def digest_folder(folder: Path) -> dict[str, str]:
    """sha256 of every file of a model, by relative path; without MLflow's registration note."""
    files = sorted(p for p in folder.rglob("*") if p.is_file() and "__pycache__" not in p.parts)
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in files
        if p.name != "registered_model_meta"
    }


def load_folder(folder: Path, digests: Mapping[str, str]) -> Any:
    """Load a model whose files have exactly these digests.

    Raises
    ------
    DigestError
        A file changed, is missing or was added, or the model needs types outside the allow-list.
    PredictError
        A library that the model needs is not installed.
    """
    found = digest_folder(folder)
    changed = sorted(n for n in {*found, *digests} if found.get(n) != digests.get(n))
    if changed:
        raise DigestError(
            f"model file {changed[0]!r} differs from the one recorded in the decision ({len(changed)} files differ)",
            code="digest_mismatch",
            next_step=WITHOUT_FILES,
        )
    flavour = yaml.safe_load((folder / "MLmodel").read_text(encoding="utf-8"))["flavors"]["sklearn"]
    foreign = [n for n in flavour.get("skops_trusted_types") or [] if not n.startswith(ALLOWED)]
    if foreign or flavour.get("serialization_format") != "skops":
        raise DigestError(
            f"the model needs types outside the allow-list: {', '.join(foreign) or flavour.get('serialization_format')}",
            code="untrusted_type",
            next_step="Retrain with families whose estimators are of scikit-learn or LightGBM, or roll back: automl rollback FILE --reason R",
        )
    _refuse_missing_libraries(folder)
    alias_earlier_modules()
    return mlflow.sklearn.load_model(str(folder))


def _refuse_missing_libraries(folder: Path) -> None:
    """Refuse a model whose libraries are missing; warn if their versions differ."""
    path = folder / "requirements.txt"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    required = dict(line.split("==") for line in lines if line.count("==") == 1)
    for name, fitted_with in required.items():
        try:
            found = version(name)
        except PackageNotFoundError:
            raise PredictError(
                f"the model needs {name} {fitted_with}, which is not installed",
                code="library_missing",
                next_step=f"pip install {name}=={fitted_with}, then run the same command again.",
            ) from None
        if found != fitted_with:
            _log.warning(
                "the model was fitted with %s %s; installed is %s", name, fitted_with, found
            )


def _arguments(
    model: Any, sample: pd.DataFrame, families: Sequence[Code], folder: Path
) -> dict[str, Any]:
    # copied without their rights: MLflow keeps those of a file, and the workspace is its owner's
    code = [
        Path(shutil.copyfile(Path(features_path[0]) / f"{CARRIED}.py", folder / f"{CARRIED}.py"))
    ]
    for family in families:
        # only family files whose classes the model contains are saved with it
        if any(type(part).__module__ == family.module for part in _parts(model)):
            code.append(Path(shutil.copyfile(family.path, folder / f"{family.module}.py")))
    modules = {type(part).__module__.partition(".")[0] for part in _parts(model)}
    boosters = [m for m in ("lightgbm", "xgboost", "catboost") if m in modules and m in sys.modules]
    wanted = [*_REQUIRED, *map(_distribution, boosters)]
    return {
        "signature": _signature(model, sample),
        "input_example": made_up_rows(sample),
        "serialization_format": "skops",
        "skops_trusted_types": trusted_types(model),
        "pip_requirements": [f"{name}=={version(name)}" for name in wanted],
        "code_paths": [str(path) for path in code],
    }


def _save(path: str, mlflow_model: Model, **arguments: Any) -> None:
    """As scikit-learn's flavour saves, which does not know an option that only `Model.log` reads."""
    arguments.pop("validate_serving_input", None)
    mlflow.sklearn.save_model(path=path, mlflow_model=mlflow_model, **arguments)


_FLAVOUR = SimpleNamespace(__name__="mlflow.sklearn", save_model=_save)


def _distribution(module: str) -> str:
    """Name of the distribution that installs a module; XGBoost has several."""
    try:
        version(module)
    except PackageNotFoundError:
        return packages_distributions()[module][0]  # slow: reads the files of every distribution
    return module


def _parts(model: Any) -> list[Any]:
    """Every estimator inside a model."""
    found, waiting = [], [model]
    while waiting:
        part = waiting.pop()
        found.append(part)
        for value in vars(part).values() if hasattr(part, "__dict__") else ():
            items = value if isinstance(value, (list, tuple)) else [value]
            for item in items:
                inner = item[1] if isinstance(item, tuple) and len(item) >= 2 else item
                if hasattr(inner, "get_params") and all(inner is not f for f in found):
                    waiting.append(inner)
    return found


def _signature(model: Any, sample: pd.DataFrame) -> ModelSignature:
    kinds = {"datetime64[us]": DataType.datetime, "float64": DataType.double}
    inputs = Schema(
        [
            ColSpec(kinds.get(str(t), DataType.string), n, required=True)
            for n, t in sample.dtypes.items()
        ]
    )
    output = np.asarray(model.predict(sample.head(5)))
    output_type = (
        DataType.double
        if output.dtype.kind == "f"
        else (DataType.long if output.dtype.kind in "iu" else DataType.string)
    )
    return ModelSignature(inputs=inputs, outputs=Schema([ColSpec(output_type)]))
