"""Every row of the catalogue of bad inputs is a case, or says which test covers it."""

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


def test_every_row_of_the_catalogue_has_a_case_or_says_where_it_is() -> None:
    here = {case.row for case in CASES}
    assert here & set(NOT_HERE) == set()
    assert here | set(NOT_HERE) == ROWS
    assert len(here) >= 70


def test_no_two_cases_have_one_name() -> None:
    assert [name for name, count in Counter(map(str, CASES)).items() if count > 1] == []
