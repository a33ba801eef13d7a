"""What is written with a model: its signature, and an input example that no row of data went into."""

from __future__ import annotations

import json
from pathlib import Path

import mlflow
import pandas as pd
from sklearn.linear_model import LinearRegression

from automl.tracking.models import made_up_rows, save_folder

ROWS = pd.DataFrame(
    {
        "weight": [71.25, 3.5],
        "carrier": pd.Series(["Hermine Q.", "bee"], dtype="object"),
        "sent_at": pd.to_datetime(["1987-06-05", "1987-06-06"]).astype("datetime64[us]"),
    }
)


def test_a_made_up_row_has_the_columns_and_types_and_none_of_the_values() -> None:
    made = made_up_rows(ROWS)
    assert made.dtypes.to_dict() == ROWS.dtypes.to_dict()
    assert not any(set(made[name]) & set(ROWS[name]) for name in ROWS)
    pd.testing.assert_frame_equal(made, made_up_rows(ROWS.iloc[:1]))


def test_a_model_is_saved_with_its_example_and_loads_with_it(tmp_path: Path) -> None:
    rows = ROWS[["weight"]]
    save_folder(LinearRegression().fit(rows, [1.0, 2.0]), rows, [], tmp_path / "model")
    example = json.loads((tmp_path / "model" / "input_example.json").read_text("utf-8"))
    assert example == {"columns": ["weight"], "data": [[0.0], [1.0]]}
    saved = mlflow.models.Model.load(str(tmp_path / "model"))
    assert saved.get_input_schema().input_names() == ["weight"]
    assert "71.25" not in "".join(
        f.read_text("utf-8", "replace") for f in (tmp_path / "model").glob("*.json")
    )
