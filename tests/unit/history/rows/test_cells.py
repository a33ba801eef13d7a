"""Cells as databases without column types return them, such as SQLite: any mixture has a kind, or is set aside."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from typing import Any

import pytest

from automl.history.rows.casting import Cast, as_kind
from automl.history.rows.kinds import Column, infer_key, infer_kind, infer_label
from automl.history.rows.layout import infer_layout
from automl.history.sources.cells import typed_cells
from automl.problem import Problem, load_problem
from tests.support.parcels import write_problem

ODD = (
    b"\xff\x00", b"ok", b"12", "txt", "", "\0x", "\udcff", "12", "2024-01-01", 3, 2**70, 1.5, True,
    float("inf"), None,
)  # fmt: skip
MIXTURES = [m for size in (1, 2) for m in combinations(ODD, size)]


@pytest.fixture(scope="module")
def problem(tmp_path_factory: pytest.TempPathFactory) -> Problem:
    return load_problem(write_problem(tmp_path_factory.mktemp("cells")))


@pytest.mark.parametrize("infer", [infer_kind, infer_label, lambda c: infer_key(c, loose=False)])
def test_every_mixture_of_cells_has_a_kind(infer: Callable[[Column], str]) -> None:
    kinds = {infer(typed_cells(mixture * 3)) for mixture in MIXTURES}
    assert kinds <= {"number", "text", "time", "whole"}
    assert len(kinds) > 1


@pytest.mark.parametrize("kind", ["number", "text", "time", "whole"])
def test_every_mixture_of_cells_is_read_or_set_aside(kind: Any) -> None:
    for mixture in MIXTURES:
        cast: Cast = as_kind(typed_cells(mixture * 3), kind)
        assert len(cast.cells) == len(cast.bad) == 3 * len(mixture)
        assert not any(
            bad and cell.is_valid for bad, cell in zip(cast.bad, cast.cells, strict=True)
        )


def test_bytes_that_are_no_text_do_not_end_the_first_pull(problem: Problem) -> None:
    names = [problem.history.time, problem.history.target, "odd"]
    odd = [b"\xff\x00", *["a", "b", "c"] * 40]
    cells = dict.fromkeys(names, typed_cells([0, 1] * 60 + [1])) | {"odd": typed_cells(odd)}
    layout = infer_layout(problem, cells, names, loose=False, every=False)
    assert layout.kinds["odd"] == "text"
    assert as_kind(typed_cells(odd), "text").bad.tolist() == [True] + [False] * 120
