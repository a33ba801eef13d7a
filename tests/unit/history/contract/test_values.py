"""A contract read from its file equals the one saved; a malformed file is refused."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from automl.errors import ProblemError
from automl.history.contract import Contract, contract_file, load_contract, save_contract
from automl.problem import Problem

MakeProblem = Callable[..., Problem]


@pytest.mark.parametrize("classes", [(), (0, 1), ("no", "yes"), ("fine", "late", "lost")])
def test_a_contract_read_back_equals_the_saved_one(
    make_problem: MakeProblem, classes: tuple[str | int, ...]
) -> None:
    problem = make_problem()
    assert load_contract(problem) is None
    contract = Contract(
        features={"a": "number", "ü b": "text", "t": "time"},
        unused={"id": "key"},
        classes=classes,
        roles={"id": "whole"},
        nulls=("NA", ""),
        categories={"ü b": ("x", "y z", '"quoted"')},
        ranges={"a": (-1.5, 2.0)},
        allowed={"a": {"leak": "measured a day before"}},
    )
    save_contract(problem, contract)
    assert load_contract(problem) == contract
    assert contract_file(problem) == problem.file.with_name("problem.contract.json")
    assert [f.name for f in problem.file.parent.glob("*.tmp")] == []


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"3",
        b'{"features": {}}',
        b"\xff\xfe",
        b'{"features": 3, "unused": {}, "classes": []}',
        b'{"features": ["weight"], "unused": {}, "classes": []}',
        b'{"features": {"w": {"kind": "number", "range": []}}, "unused": {}, "classes": []}',
    ],
)
def test_a_malformed_contract_file_is_refused(make_problem: MakeProblem, content: bytes) -> None:
    problem = make_problem()
    contract_file(problem).write_bytes(content)
    with pytest.raises(
        ProblemError, match=r"problem\.contract\.json: not a contract file"
    ) as caught:
        load_contract(problem)
    assert caught.value.code == "contract_file"


@pytest.mark.parametrize(
    "entry",
    [
        "numbr",
        "number",
        None,
        ["number"],
        {},
        {"kind": "numbr"},
        {"kind": None},
        {"kind": ["number"]},
        {"kind": {"kind": "number"}},
        {"kind": "whole"},
    ],
)
def test_an_unknown_kind_is_refused(make_problem: MakeProblem, entry: object) -> None:
    problem = make_problem()
    features = {"weight": entry, "carrier": {"kind": "text"}}
    content = {"features": features, "unused": {}, "classes": []}
    contract_file(problem).write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(
        ProblemError, match=r"found kinds {'weight': .*}; wanted number, text or time"
    ):
        load_contract(problem)
