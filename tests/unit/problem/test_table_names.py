"""Names that databases would refuse or confuse are mistakes of the problem file."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from automl.errors import ProblemError
from automl.predictions.tables import metadata
from automl.problem import Problem
from automl.problem.table_names import OURS
from automl.store import tables
from automl.store.migrate import REVISIONS

MakeProblem = Callable[..., Problem]
KEY = 'key         = ["parcel"]'


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        ({KEY: 'key = ["parcel", "parcel"]'}, "history: found 'parcel' twice in key"),
        ({KEY: f'{KEY}\ngroup = ["depot", "depot"]'}, "history: found 'depot' twice in group"),
        ({KEY: 'key = ["parcel", ""]'}, "history: found a column without a name in key"),
        ({KEY: 'key = ["late"]'}, "history: found target 'late' in key"),
        (
            {KEY: 'key = ["parcel", "done_at"]', 'label_delay = "1d"': 'label_time = "done_at"'},
            "found label_time 'done_at' in key.*a row to predict has no label yet",
        ),
        (
            {KEY: 'key = ["parcel", "seen_at"]\nupdated_at = "seen_at"'},
            "found updated_at 'seen_at' in key.*every update of a row would be another row",
        ),
        ({KEY: 'key = ["parcel", "Parcel"]'}, "found 'parcel' and 'Parcel', which databases take"),
        ({KEY: 'key = ["Sent_At"]'}, "found 'Sent_At' and 'sent_at', which databases take for one"),
        ({KEY: 'key = ["a\\nb"]'}, r"found column 'a\\nb', whose name holds a line break"),
        ({'"late"': '"la\\tte"'}, r"found column 'la\\tte', whose name holds a line break"),
        ({'"parcels"': '"parcels\\n"'}, "name: found 'parcels\\\\n'; wanted a letter, then"),
    ],
)
def test_columns_that_databases_cannot_tell_apart_are_refused(
    edit: dict[str, str], message: str, make_problem: MakeProblem
) -> None:
    with pytest.raises(ProblemError, match=message):
        make_problem(replace=edit)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("sqlite_master", "SQLite keeps names that begin with sqlite_"),
        ("automl_release", "which is a table of the store"),
        ("parcels\\n", "wanted lower-case letters, digits and _, at most 40"),
        ("p" * 41, "wanted lower-case letters, digits and _, at most 40"),
    ],
)
def test_tables_that_are_not_ours_to_name_are_refused(
    table: str, message: str, make_problem: MakeProblem
) -> None:
    end = f'origins = 2\n\n[publish]\ntable = "{table}"'
    with pytest.raises(ProblemError, match=f"publish.table: found .*{message}"):
        make_problem(replace={"origins = 2": end})


def test_words_of_sql_and_other_names_with_our_prefix_are_tables(make_problem: MakeProblem) -> None:
    assert make_problem(name="Order").table == "order"
    assert make_problem(name="automl-churn").table == "automl_churn"
    with pytest.raises(ProblemError, match=r"\n  publish.table: found 'automl_cycle'.*set"):
        make_problem(name="automl-cycle")


def test_every_table_of_the_store_is_known_by_name() -> None:
    assert {*tables.metadata.tables, *metadata.tables, REVISIONS} == {*OURS.split()}
