"""Encoders: strings, dates and gaps become matrices inside the model."""

from automl.modeling.features.encoder import (
    CARRIED,
    all_classes,
    carried,
    category_positions,
    make_encoder,
)

__all__ = ["CARRIED", "all_classes", "carried", "category_positions", "make_encoder"]
