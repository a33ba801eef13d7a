"""The contract is written at the first pull and refuses data that would harm a champion."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from automl.errors import AutomlError, ContractError, HistoryError
from automl.history import ROW_ID, ColumnKind, pull, pull_batch, read
from automl.history.contract import MIN_PER_CLASS, MIN_ROWS, Contract, check, check_batch, infer
from automl.problem import Problem
from automl.workspace import open_workspace
from tests.support.parcels import AS_OF, TARGET, make_world

MakeProblem = Callable[..., Problem]
Break = Callable[[pd.DataFrame], pd.DataFrame]


def pulled(problem: Problem) -> pd.DataFrame:
    """The labelled rows of the generated world, as a cycle sees them."""
    return read(pull(problem, open_workspace(problem.file), AS_OF))


def with_late(labels: Callable[[int], Any]) -> Break:
    """Rows whose target follows from their position."""
    return lambda frame: frame.assign(late=[labels(i) for i in range(len(frame))])


# ---------------------------------------------------------------- the first pull


@pytest.mark.parametrize(
    ("task", "classes"),
    [("binary", (0, 1)), ("multiclass", ("fine", "late", "lost")), ("regression", ())],
)
def test_the_first_pull_suggests_features_and_classes(
    make_problem: MakeProblem, task: str, classes: tuple[str | int, ...]
) -> None:
    problem = make_problem(task)
    frame = pulled(problem)
    target: ColumnKind = (
        "number" if task == "regression" else "whole" if task == "binary" else "text"
    )
    assert infer(frame, problem) == Contract(
        features={"carrier": "text", "sent_at": "time", "weight": "number"},
        unused={"parcel": "key"},
        classes=classes,
        roles={"parcel": "whole", TARGET[task]: target},
        categories={"carrier": ("ant", "bee", "cat")},
        ranges={"weight": (frame["weight"].min(), frame["weight"].max())},
    )


@pytest.mark.parametrize("positive", ["0", '"0"', "false", "0.0"])
def test_the_positive_class_comes_second(make_problem: MakeProblem, positive: str) -> None:
    problem = make_problem(
        replace={'target      = "late"': f'target = "late"\npositive = {positive}'}
    )
    assert infer(pulled(problem), problem).classes == (1, 0)


def test_nearly_unique_text_is_not_used(make_problem: MakeProblem) -> None:
    problem = make_problem()
    frame = pulled(problem)
    frame["note"] = [f"note {i}" for i in range(len(frame))]
    frame["street"] = [f"street {i % 100}" for i in range(len(frame))]
    contract = infer(frame, problem)
    assert contract.unused == {"parcel": "key", "note": "nearly unique text"}
    assert contract.features["street"] == "text"


def test_columns_with_a_role_are_not_features_except_the_time(
    make_problem: MakeProblem,
) -> None:
    replace = {'["parcel"]': '["parcel", "sent_at"]\nweight = "weight"\ngroup = ["carrier"]'}
    problem = make_problem(replace=replace)
    rows = pulled(problem)
    contract = infer(rows.assign(weight=rows["weight"].fillna(1.0)), problem)
    assert contract.features == {"sent_at": "time"}
    assert contract.unused == {"parcel": "key", "carrier": "group"}


def test_a_later_pull_reads_every_column_with_a_role(make_problem: MakeProblem) -> None:
    replace = {
        'label_delay = "1d"': 'label_time = "known_at"',
        '["parcel"]': '["parcel"]\nweight = "worth"\ngroup = ["street"]',
        "[sweep]": 'slices = ["carrier"]\n[sweep]',
    }
    kinds = Contract(features={"weight": "number", "carrier": "text"}, classes=(0, 1)).kinds(
        make_problem(replace=replace)
    )
    assert set(kinds) == {
        "parcel",
        "sent_at",
        "late",
        "known_at",
        "worth",
        "street",
        "weight",
        "carrier",
    }
    assert (kinds["sent_at"], kinds["known_at"], kinds["worth"], kinds["carrier"]) == (
        "time",
        "time",
        "number",
        "text",
    )


@pytest.mark.parametrize("task", TARGET)
def test_a_pull_under_the_contract_returns_the_same_rows_and_a_batch_fits_it(
    make_problem: MakeProblem, task: str
) -> None:
    problem = make_problem(task)
    workspace = open_workspace(problem.file)
    first = pull(problem, workspace, AS_OF)
    contract = infer(read(first), problem)
    again = pull(problem, workspace, AS_OF, kinds=contract.kinds(problem))
    assert again.digest == first.digest
    assert check(read(again), contract, problem) == []
    batch = read(
        pull_batch(problem, workspace, AS_OF - timedelta(days=3), kinds=contract.kinds(problem))
    )
    assert check_batch(batch, contract, problem) == []
    assert problem.history.target not in batch.columns


# ---------------------------------------------------------------- what is refused


FIRST_PULL: list[tuple[str, Break, str, str]] = [
    (
        "binary",
        with_late(lambda _: 1),
        "single_class",
        "found 1 in every row; wanted at least two classes",
    ),
    (
        "binary",
        with_late(lambda i: i % 3),
        "too_many_classes",
        "found 3 classes, .* wanted two, because task is binary",
    ),
    (
        "binary",
        with_late(lambda i: int(i < 5)),
        "rare_class",
        f"class 1 has 5 rows; wanted at least {MIN_PER_CLASS}",
    ),
    (
        "binary",
        lambda f: f.head(MIN_ROWS - 1),
        "too_few_rows",
        f"found {MIN_ROWS - 1} labelled rows; wanted at least",
    ),
    (
        "regression",
        lambda f: f.assign(hours=7.0),
        "constant_target",
        r"found 7\.0 in every row; wanted at least two",
    ),
    (
        "regression",
        lambda f: f.assign(hours="long"),
        "target_kind",
        "found text; wanted numbers, because task is regression",
    ),
    (
        "regression",
        lambda f: f.assign(hours=f["hours"].mask(f.index < 3)),
        "infinite_target",
        "found 3 infinite values",
    ),
]


@pytest.mark.parametrize(
    ("task", "damage", "code", "match"), FIRST_PULL, ids=[row[2] for row in FIRST_PULL]
)
def test_a_target_that_does_not_fit_the_task_is_refused_at_the_first_pull_and_later(
    make_problem: MakeProblem, task: str, damage: Break, code: str, match: str
) -> None:
    problem = make_problem(task)
    frame = pulled(problem)
    contract = infer(frame, problem)
    steps: list[Callable[[], object]] = [
        lambda: infer(damage(frame), problem),
        lambda: check(damage(frame), contract, problem),
    ]
    for step in steps:
        with pytest.raises(HistoryError, match=match) as caught:
            step()
        assert (caught.value.code, caught.value.exit_code) == (code, 3)


def test_a_positive_class_without_rows_is_refused(make_problem: MakeProblem) -> None:
    problem = make_problem(replace={'target      = "late"': 'target = "late"\npositive = "yes"'})
    with pytest.raises(
        HistoryError, match="found 'yes'; wanted a value of the target 'late': 0, 1"
    ) as caught:
        infer(pulled(problem), problem)
    assert caught.value.code == "positive"


LATER: list[tuple[str, Break, type[AutomlError], str, str]] = [
    (
        "column missing",
        lambda f: f.drop(columns="weight"),
        ContractError,
        "contract",
        "column 'weight' is missing",
    ),
    (
        "kind changed",
        lambda f: f.assign(weight="heavy"),
        ContractError,
        "contract",
        "'weight': found str; wanted number",
    ),
    (
        "time became text",
        lambda f: f.assign(sent_at=f["sent_at"].astype("str")),
        ContractError,
        "contract",
        "found str; wanted time",
    ),
    (
        "new class",
        with_late(lambda i: i % 3 + 1),
        HistoryError,
        "too_many_classes",
        "found 3 classes",
    ),
    (
        "other classes",
        with_late(lambda i: i % 2 + 1),
        ContractError,
        "new_class",
        r"found the new class 2; the contract lists 0, 1",
    ),
    (
        "key twice",
        lambda f: f.assign(parcel=f["parcel"].where(f.index > 1, 7)),
        ContractError,
        "contract",
        "key 'parcel': found the same",
    ),
]


@pytest.mark.parametrize(
    ("_name", "damage", "error", "code", "match"), LATER, ids=[row[0] for row in LATER]
)
def test_rows_that_break_the_contract_are_refused(
    make_problem: MakeProblem,
    _name: str,
    damage: Break,
    error: type[AutomlError],
    code: str,
    match: str,
) -> None:
    problem = make_problem()
    frame = pulled(problem)
    contract = infer(frame, problem)
    assert check(frame, contract, problem) == []
    with pytest.raises(error, match=match) as caught:
        check(damage(frame), contract, problem)
    assert caught.value.code == code


def test_a_class_without_rows_is_refused(make_problem: MakeProblem) -> None:
    problem = make_problem("multiclass")
    frame = pulled(problem)
    contract = infer(frame, problem)
    fewer = frame[frame["fate"] != "lost"].reset_index(drop=True)
    with pytest.raises(ContractError, match="class 'lost' is missing; found ") as caught:
        check(fewer, contract, problem)
    assert caught.value.code == "class_vanished"


def test_a_new_class_of_many_is_refused_with_a_next_step(make_problem: MakeProblem) -> None:
    problem = make_problem("multiclass")
    frame = pulled(problem)
    contract = infer(frame, problem)
    frame.loc[frame.index[:30], "fate"] = "stolen"
    with pytest.raises(
        ContractError,
        match="found the new class 'stolen'; the contract lists 'fine', 'late', 'lost'",
    ) as caught:
        check(frame, contract, problem)
    assert caught.value.code == "new_class"
    assert "problem.contract.json" in caught.value.next_step


BATCHES: list[tuple[str, Break, str]] = [
    (
        "key twice",
        lambda f: pd.concat([f, f.head(1)], ignore_index=True),
        "key 'parcel': found the same key more than once",
    ),
    (
        "key missing",
        lambda f: f.assign(parcel=f["parcel"].astype("float64").mask(f.index == 0)),
        "key 'parcel': found rows without a value",
    ),
    ("column missing", lambda f: f.drop(columns="carrier"), "column 'carrier' is missing"),
    (
        "kind changed",
        lambda f: f.assign(carrier=1.0),
        "column 'carrier': found float64; wanted text",
    ),
]


@pytest.mark.parametrize(("_name", "damage", "match"), BATCHES, ids=[row[0] for row in BATCHES])
def test_a_batch_that_cannot_be_scored_is_refused(
    make_problem: MakeProblem, _name: str, damage: Break, match: str
) -> None:
    problem = make_problem()
    frame = pulled(problem)
    contract = infer(frame, problem)
    batch = frame.drop(columns="late").tail(20).reset_index(drop=True)
    assert check_batch(batch, contract, problem) == []
    with pytest.raises(ContractError, match=rf"the data break the contract:\n.*{match}") as caught:
        check_batch(damage(batch), contract, problem)
    assert (caught.value.code, caught.value.exit_code) == ("contract", 3)


def test_all_broken_columns_are_reported_at_once(make_problem: MakeProblem) -> None:
    problem = make_problem()
    frame = pulled(problem)
    contract = infer(frame, problem)
    broken = frame.drop(columns="carrier").assign(weight="heavy", sent_at=0.0)
    lines = r"'carrier' is missing\n.*'sent_at': found float64; wanted time\n.*'weight': found str; wanted number"
    with pytest.raises(ContractError, match=lines):
        check(broken, contract, problem)


def test_an_empty_column_is_a_warning(make_problem: MakeProblem) -> None:
    problem = make_problem()
    frame = pulled(problem)
    contract = infer(frame, problem)
    empty = frame.assign(weight=np.nan)
    findings = [("all_missing", "column 'weight' is empty")]
    assert check(empty, contract, problem) == findings
    assert check_batch(empty, contract, problem) == findings
    assert list(map(str, check(empty, contract, problem))) == [
        "column 'weight' is empty [all_missing]"
    ]


def test_rows_without_a_key_are_identified_by_row_id(
    make_problem: MakeProblem, tmp_path: Path, world: pd.DataFrame
) -> None:
    source = 'source      = "sqlite:///world.db"\nquery       = "select * from parcels"'
    problem = make_problem(
        replace={source: 'files = "world.csv"', 'key         = ["parcel"]\n': ""}
    )
    pd.concat([world, world.tail(3)]).drop(columns=["fate", "hours"]).to_csv(
        tmp_path / "world.csv", index=False
    )
    frame = pulled(problem)
    contract = infer(frame, problem)
    assert check(frame, contract, problem) == []
    assert ROW_ID not in contract.features
    with pytest.raises(ContractError, match=ROW_ID):
        check(frame.assign(row_id="same"), contract, problem)


def hours(zeros: int) -> pd.DataFrame:
    """Parcels, the first `zeros` of which took 0 hours."""
    frame = make_world().drop(columns=["arrived_after", "late", "fate"])
    frame = frame.assign(hours=frame["hours"].abs() + 1.0)
    return frame.assign(hours=frame["hours"].mask(frame.index < zeros, 0.0))


@pytest.mark.parametrize("zeros", [1, 700])
def test_a_relative_error_is_refused_where_a_target_is_zero(
    make_problem: MakeProblem, zeros: int
) -> None:
    problem = make_problem("regression", replace={'"rmse"': '"mape"'})
    with pytest.raises(HistoryError, match=f"found 0 in {zeros} of 2400 rows; .* metric mape") as e:
        infer(hours(zeros), problem)
    assert (e.value.code, "mae" in str(e.value.next_step)) == ("zero_target", True)
    contract = infer(hours(0), problem)
    with pytest.raises(HistoryError, match=f"found 0 in {zeros} of"):
        check(hours(zeros), contract, problem)


@pytest.mark.parametrize("zeros", [0, 3])
def test_a_further_metric_that_is_undefined_is_reported(
    make_problem: MakeProblem, zeros: int
) -> None:
    problem = make_problem("regression", replace={'"rmse"': '"rmse"\nalso = ["mape", "mae"]'})
    contract = infer(hours(zeros), problem)
    found = {f.code: f.text for f in check(hours(zeros), contract, problem)}
    assert ("3 of 2400 rows are 0" in found.get("mape_undefined", "")) is (zeros == 3)


def test_rows_of_weight_zero_may_have_a_target_of_zero(make_problem: MakeProblem) -> None:
    edits = {'"rmse"': '"mape"', '["parcel"]': '["parcel"]\nweight = "counts"'}
    problem = make_problem("regression", replace=edits)
    frame = hours(5)
    frame = frame.assign(counts=(frame["hours"] > 0).astype(float))
    assert infer(frame, problem).classes == ()
