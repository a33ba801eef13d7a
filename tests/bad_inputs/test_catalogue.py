"""Every row of the catalogue of bad inputs has a case, or names the test that covers it."""

from __future__ import annotations

from collections import Counter

from tests.bad_inputs import (
    test_columns,
    test_history,
    test_names,
    test_scoring,
    test_sources,
)
from tests.support.catalogue import Case

FILES = (
    test_history,
    test_columns,
    test_names,
    test_scoring,
    test_sources,
)
CASES: list[Case] = [case for file in FILES for case in file.CASES]
ROWS = set(range(1, 87))
NOT_HERE: dict[int, str] = {}  # row -> why it has no case, and which test covers it


def test_every_row_of_the_catalogue_has_a_case_or_names_its_test() -> None:
    covered = {case.row for case in CASES}
    assert covered & set(NOT_HERE) == set()
    assert covered | set(NOT_HERE) == ROWS
    assert len(covered) >= 70


def test_case_names_are_unique() -> None:
    assert [name for name, count in Counter(map(str, CASES)).items() if count > 1] == []
