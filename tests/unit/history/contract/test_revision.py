"""`contract --accept` is a way on for every column with a role whose kind has changed: it becomes text."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pandas as pd
import pytest

from automl.errors import HistoryError
from automl.history import pull, pull_batch, read
from automl.history.contract import Contract, accept, changes, check, infer, save_contract
from automl.problem import Problem
from automl.report.data_tables import contract_document
from automl.workspace import open_workspace
from tests.support.parcels import AS_OF, make_world, write_world

MakeProblem = Callable[..., Problem]
WORLD = make_world().drop(columns=["fate", "hours"])
LETTERS_FROM = pd.Timestamp("2026-02-20")


def with_letters(frame: pd.DataFrame, name: str, every: int = 2) -> pd.DataFrame:
    """The world after its shop has moved to another system: newer values of the column have a letter."""
    texts = frame[name].astype("str")
    new = (frame["sent_at"] >= LETTERS_FROM) & (frame.index % every == 0)
    return frame.assign(**{name: texts.where(~new, "W" + texts)})


def test_a_key_that_gets_letters_becomes_text_and_everything_is_pulled_once(
    make_problem: MakeProblem,
) -> None:
    problem = make_problem(replace={'"parcel"]': '"parcel"]\nkeep = "400d"'})
    workspace = open_workspace(problem.file)
    first = pull(problem, workspace, AS_OF)
    save_contract(problem, infer(read(first), problem))
    whole: Contract = infer(read(first), problem)
    write_world(with_letters(WORLD, "parcel"), problem.file.parent)

    with pytest.raises(HistoryError, match=r"column 'parcel': found \d+ values that") as caught:
        pull(problem, workspace, AS_OF, kinds=whole.kinds(problem), verify=True)
    assert "contract FILE --accept" in caught.value.next_step
    document = contract_document(problem, workspace, AS_OF, accept=True)
    assert document["changes"][0]["text"] == "parcel: kind whole -> text"

    revised = replace(whole, roles={**whole.roles, "parcel": "text"})
    again = pull(problem, workspace, AS_OF, kinds=revised.kinds(problem))
    keys = read(again)["parcel"]
    assert {type(k) for k in keys} == {str}
    assert keys.str.startswith("W").any()
    assert len(keys) == first.rows
    assert check(read(again), revised, problem) == []
    assert pull_batch(problem, workspace, AS_OF, kinds=revised.kinds(problem)).rows > 0


@pytest.mark.parametrize(
    ("column", "edits", "task", "found"),
    [
        ("depot", {'"parcel"]': '"parcel"]\ngroup = ["depot"]'}, "binary", "number"),
        ("fate", {}, "multiclass", "whole"),
    ],
)
def test_groups_and_classes_become_text(
    column: str, edits: dict[str, str], task: str, found: str, make_problem: MakeProblem
) -> None:
    problem = make_problem(task, replace=edits)
    world = make_world().assign(depot=lambda f: f.index % 7, fate=lambda f: f.index % 3)
    write_world(world, problem.file.parent)
    workspace = open_workspace(problem.file)
    before = infer(read(pull(problem, workspace, AS_OF)), problem)
    assert before.roles[column] == found
    write_world(with_letters(world, column), problem.file.parent)
    fresh = read(pull(problem, workspace, AS_OF))

    found_changes = [f.text for f in changes(fresh, before, problem)]
    after = accept(fresh, before, problem)

    assert f"{column}: kind {found} -> text" in found_changes
    assert after.roles[column] == "text"
    assert after.kinds(problem)[column] == "text"
    if task == "multiclass":
        assert after.classes == ("0", "1", "2", "W0", "W1", "W2")
    again = read(pull(problem, workspace, AS_OF, kinds=after.kinds(problem)))
    assert set(again[column]) == set(with_letters(world, column)[column])


def test_a_few_strays_change_no_kind(make_problem: MakeProblem) -> None:
    problem = make_problem()
    workspace = open_workspace(problem.file)
    before = infer(read(pull(problem, workspace, AS_OF)), problem)
    write_world(with_letters(WORLD, "parcel", every=400), problem.file.parent)
    fresh = read(pull(problem, workspace, AS_OF))
    assert changes(fresh, before, problem) == []
    assert accept(fresh, before, problem).roles == before.roles
