"""What a cycle keeps for its report is moved, sampled, read back, and gone once the report is written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from automl.explanation import inputs
from automl.explanation.inputs import forget_inputs, keep_inputs, read_inputs
from automl.modeling.recipes import Blend, Recipe
from tests.support.sweep_work import MakeWork, write_outputs
from tests.support.sweep_work import make_work as make_work  # a fixture

RECIPE, OTHER = Recipe("linear", {"C": 1.0}), Recipe("linear", {"C": 2.0})
NAMES = {"released": "released", "rival": "challenger"}


def test_outputs_and_rows_of_all_blocks_are_kept_until_they_are_forgotten(
    make_work: MakeWork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work, folder, model = make_work(), tmp_path / "report", tmp_path / "model.pickle"
    write_outputs(work, {RECIPE: 0.1, OTHER: 0.5})
    model.write_bytes(b"a model")
    blends = {"released": Blend.single(RECIPE), "rival": Blend.single(OTHER)}

    keep_inputs(folder, work, blends, NAMES, model=model, warnings=["a warning"])
    kept = read_inputs(folder)

    assert kept is not None
    assert not model.exists()
    assert kept.model is not None
    assert kept.model.read_bytes() == b"a model"
    whole = sum(len(b.validation) for b in work.blocks)
    assert len(kept.truth) == len(kept.rows) == whole
    assert set(kept.outputs) == {"released", "rival", "baseline"}
    newest = work.blocks[0].validation
    late = work.frame["late"].iloc[newest].to_numpy()
    assert np.array_equal(kept.truth[kept.block == 0], late)
    assert "parcel" not in kept.rows  # the key
    assert kept.about["names"] == NAMES
    assert kept.about["warnings"] == ["a warning"]

    monkeypatch.setattr(inputs, "MOST_ROWS", 100)
    keep_inputs(folder, work, blends, NAMES, model=None, warnings=[])
    sampled = read_inputs(folder)
    assert sampled is not None
    assert (len(sampled.truth), sampled.about["rows"], sampled.model) == (100, whole, None)

    forget_inputs(folder)
    assert read_inputs(folder) is None
    assert list(folder.iterdir()) == []


def test_a_blend_without_outputs_keeps_what_is_known_and_nothing_is_explained(
    make_work: MakeWork, tmp_path: Path
) -> None:
    blends = {"released": Blend.single(RECIPE)}
    keep_inputs(tmp_path / "r", make_work(), blends, {"released": "x"}, model=None, warnings=[])
    assert read_inputs(tmp_path / "r") is None
