"""Every error keeps its exit code, its short name and its next step, also across a process border."""

from __future__ import annotations

import pickle

import pytest

from automl import errors
from automl.errors import AutomlError

EXIT_CODES = {  # what the command line and its callers rely on
    "AutomlError": 1,
    "ProblemError": 2,
    "SpaceError": 2,
    "HistoryError": 3,
    "ContractError": 3,
    "NoModelError": 4,
    "UnreachableError": 5,
    "DiskError": 6,
    "PredictError": 6,
    "DigestError": 6,
    "BusyError": 7,
}


def test_the_tree_has_exactly_the_documented_errors() -> None:
    assert set(errors.__all__) == set(EXIT_CODES)


@pytest.mark.parametrize(("name", "code"), EXIT_CODES.items())
def test_each_error_ends_the_command_with_its_exit_code(name: str, code: int) -> None:
    kind = getattr(errors, name)
    assert issubclass(kind, AutomlError)
    assert kind("no").exit_code == code


@pytest.mark.parametrize(
    ("narrow", "wide"),
    [
        ("SpaceError", "ProblemError"),
        ("ContractError", "HistoryError"),
        ("DigestError", "PredictError"),
    ],
)
def test_a_narrow_error_is_caught_as_the_wider_one(narrow: str, wide: str) -> None:
    with pytest.raises(getattr(errors, wide), match="no"):
        raise getattr(errors, narrow)("no")


@pytest.mark.parametrize("name", EXIT_CODES)
def test_an_error_survives_pickling_with_code_and_next_step(name: str) -> None:
    error = getattr(errors, name)("found 1; wanted 2", code="single_class", next_step="Wait.")
    back = pickle.loads(pickle.dumps(error))
    assert (type(back), str(back), back.code, back.next_step, back.exit_code) == (
        type(error),
        "found 1; wanted 2",
        "single_class",
        "Wait.",
        error.exit_code,
    )


def test_an_error_without_a_code_says_failed() -> None:
    assert (AutomlError("no").code, AutomlError("no").next_step) == ("failed", "")
