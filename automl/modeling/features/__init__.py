"""Encoders: strings, dates and gaps become matrices inside the model."""

from automl.modeling.features.encoder import (
    CARRIED,
    all_classes,
    carried,
    category_positions,
    make_encoder,
)
from automl.modeling.features.matrices import (
    Rows,
    row_weights,
    shape_of,
    thin,
    to_outcomes,
    write_matrices,
)
from automl.modeling.features.user_transformer import Columns, load_columns

__all__ = [
    "CARRIED",
    "Columns",
    "Rows",
    "all_classes",
    "carried",
    "category_positions",
    "load_columns",
    "make_encoder",
    "row_weights",
    "shape_of",
    "thin",
    "to_outcomes",
    "write_matrices",
]
