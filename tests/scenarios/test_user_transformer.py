"""A user's own columns are fitted per origin, travel with the model, and say what is wrong with them."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import sqlalchemy as sa

from automl.cycles.options import RunOptions
from automl.errors import ProblemError, SpaceError
from automl.history.contract import Contract
from automl.modeling.features.matrices import Rows, shape_of, write_matrices
from automl.modeling.features.user_transformer import kinds_of, load_columns
from automl.problem import load_problem
from automl.score import cycle
from automl.workspace import open_workspace
from tests.scenarios.test_cycles import WITHOUT_AUTOML
from tests.support.parcels import AS_OF, write_problem

OWN = '''"""Weight over the carrier's usual weight, and a band of weights."""
import pandas as pd
from sklearn.base import BaseEstimator, TransformerMixin


class Own(TransformerMixin, BaseEstimator):
    def fit(self, X, y=None):
        self.usual_ = X.groupby("carrier")["weight"].median().to_dict()
        return self

    def transform(self, X):
        usual = X["carrier"].map(self.usual_).astype("float64")
        band = pd.cut(X["weight"], [0, 2, 5, 100], labels=["light", "middle", "heavy"])
        return X.assign(relative=X["weight"] / usual, band=band.astype("str"))


transformer = Own()
'''


def write_own(folder: Path, text: str = OWN) -> Path:
    """The transformer's file."""
    file = folder / "own.py"
    file.write_text(text, encoding="utf-8")
    return file


def problem_file(folder: Path) -> Path:
    """The made-up problem with columns of its own."""
    edits = {"[sweep]": '[features]\ntransformer = "own.py"\n\n[sweep]'}
    return write_problem(folder, replace=edits)


def rows_of(frame: pd.DataFrame) -> Rows:
    """Rows that differ in nothing but their columns."""
    count = len(frame)
    return Rows(
        frame=frame, y=np.arange(count) % 2.0, weight=np.ones(count), age=np.linspace(1, 0, count)
    )


def test_transformed_columns_are_encoded_by_kind_and_fitted_on_training_rows_alone(
    tmp_path: Path, world: pd.DataFrame
) -> None:
    columns = load_columns(write_own(tmp_path))
    kinds = {"weight": "number", "carrier": "text"}
    train, newest = world.iloc[:400], world.iloc[400:500].assign(weight=1e6)
    for name, rows in (("with", rows_of(newest)), ("without", None)):
        encoder = write_matrices(
            rows_of(train), rows, kinds, "trees", tmp_path / name, classes=2, columns=columns
        )
    X = np.load(tmp_path / "with" / "train_X.npy")
    assert np.array_equal(X, np.load(tmp_path / "without" / "train_X.npy"), equal_nan=True)
    usual = train.groupby("carrier")["weight"].median()
    relative = (train["weight"] / train["carrier"].map(usual)).to_numpy("float32")
    assert any(np.allclose(X[:, i], relative, equal_nan=True) for i in range(X.shape[1]))
    assert encoder.transform(newest[list(kinds)]).shape == (100, X.shape[1])
    problem = load_problem(write_problem(tmp_path, frame=world))
    shape = shape_of(tmp_path / "with", problem, Contract(features=dict(kinds), classes=(0, 1)))  # type: ignore[arg-type]
    assert len(shape.categories) == 2  # carrier, and the band that was made


def test_a_model_predicts_the_published_probabilities_where_only_the_libraries_are_installed(
    tmp_path: Path,
) -> None:
    write_own(tmp_path)
    file = problem_file(tmp_path)
    done = cycle(load_problem(file), open_workspace(file), RunOptions(as_of=AS_OF))
    assert done.status == "published"
    manifests = sorted((tmp_path / ".automl/history/parcels/batches").glob("*.json"))
    part = json.loads(manifests[-1].read_text(encoding="utf-8"))["parts"][0]["name"]
    rows = tmp_path / f".automl/history/parcels/parts/{part}.parquet"
    outside = tmp_path / "outside"
    outside.mkdir()
    uri = f"sqlite:///{tmp_path / '.automl/mlflow.db'}"
    command = [sys.executable, "-c", WITHOUT_AUTOML, uri, str(rows), str(outside / "out.npy")]
    subprocess.run(command, check=True, cwd=outside, capture_output=True)
    engine = sa.create_engine(f"sqlite:///{tmp_path / '.automl/automl.db'}")
    published = pd.read_sql("select parcel, probability from parcels", engine)
    engine.dispose()
    keys = pd.read_parquet(rows)["parcel"]
    wanted = published.set_index("parcel").loc[keys, "probability"]
    assert np.load(outside / "out.npy")[:, 1].tolist() == wanted.tolist()


@pytest.mark.slow
def test_a_changed_file_makes_earlier_searches_worth_another(tmp_path: Path) -> None:
    own = write_own(tmp_path)
    file = problem_file(tmp_path)
    workspace, problem = open_workspace(file), load_problem(file)
    cycle(problem, workspace, RunOptions(as_of=AS_OF - timedelta(days=7)))
    write_own(tmp_path, OWN.replace("[0, 2, 5, 100]", "[0, 3, 6, 100]"))
    assert own.exists()
    done = cycle(load_problem(file), workspace, RunOptions(as_of=AS_OF))
    assert done.leaderboard is not None
    assert {t.source for t in done.leaderboard.trials} >= {"start"}
    assert all(t.seconds > 0 for t in done.leaderboard.trials)  # no kept fit knows the new columns


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("transformer = 3", "found no `transformer`"),
        ("raise ValueError('no')", "loading raised ValueError: no"),
        ("", "found no `transformer`"),
    ],
)
def test_a_file_without_a_transformer_is_refused_before_any_data(
    tmp_path: Path, text: str, message: str
) -> None:
    with pytest.raises(SpaceError, match=message):
        load_columns(write_own(tmp_path, text))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            ("return X.assign(", "raise KeyError('gone') or X.assign("),
            "transformer raised KeyError",
        ),
        (("return X.assign(", "return X.head(3).assign("), "returned a DataFrame of 3 rows"),
        (("return X.assign(", "return 3 or X.assign("), "returned a int"),
    ],
)
def test_a_transformer_that_goes_wrong_is_named_with_what_was_wanted(
    tmp_path: Path, world: pd.DataFrame, change: tuple[str, str], message: str
) -> None:
    columns = load_columns(write_own(tmp_path, OWN.replace(*change)))
    kinds = {"weight": "number", "carrier": "text"}
    with pytest.raises(SpaceError, match=message) as caught:
        write_matrices(rows_of(world), None, kinds, "trees", tmp_path / "m", columns=columns)
    assert "own.py" in str(caught.value)


def test_a_missing_file_is_one_of_the_mistakes_of_a_problem_file(tmp_path: Path) -> None:
    with pytest.raises(
        ProblemError, match=r"features\.transformer: found 'own\.py', which is not a file"
    ):
        load_problem(problem_file(tmp_path))


def test_kinds_follow_from_the_transformed_columns() -> None:
    made = pd.DataFrame(
        {
            "n": [1.5],
            "b": [True],
            "t": pd.to_datetime(["2026-01-01"]),
            "s": ["x"],
            "c": pd.Categorical(["x"]),
        }
    )
    kinds = {"n": "number", "b": "number", "t": "time", "s": "text", "c": "text"}
    assert dict(kinds_of(made)) == kinds
