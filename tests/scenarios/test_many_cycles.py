"""A thousand cycles: the last hundred cost what the second hundred did."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.many_cycles import ratios, run_many, write_many

CYCLES = int(os.environ.get("MANY_CYCLES", "1000"))  # a smaller number for a quick look
MOST = 1.1


@pytest.mark.slow
def test_the_last_tenth_of_a_thousand_cycles_costs_what_the_second_tenth_did(
    tmp_path: Path,
) -> None:
    costs = run_many(write_many(tmp_path, CYCLES), CYCLES)
    found = ratios(costs)
    assert {name: ratio for name, ratio in found.items() if ratio > MOST} == {}, found
