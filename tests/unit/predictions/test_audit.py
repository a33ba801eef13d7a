"""Publishing: the audit before readers see a generation, and the owner of a table."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd
import pytest
import sqlalchemy as sa

from automl.errors import PredictError, ProblemError
from automl.predictions import audit, check_owner, stage_pieces, sum_keys
from tests.support.sites import Site, frame_of, pieces_of, provenance_of
from tests.support.sites import make_site as make_site
from tests.support.sites import site as site

# ---------------------------------------------------------------- audit


@pytest.mark.parametrize(
    ("harm", "found"),
    [
        (
            "delete from parcels_generations where generation = {g} and parcel = 11",
            "found 4 rows, 4 keys, 0 empty",
        ),
        ("delete from parcels_generations where generation = {g}", "found 0 rows"),
        (
            "update parcels_generations set prediction = null where generation = {g} and parcel < 12",
            "5 keys, 2 empty",
        ),
        (
            "update parcels_generations set parcel = 11 where generation = {g} and parcel = 12",
            "found 5 rows, 4 keys",
        ),
        (
            "insert into parcels_generations select * from parcels_generations "  # noqa: ISC004  one statement
            "where generation = {g} and parcel = 12",
            "found 6 rows, 5 keys",
        ),
    ],
    ids=[
        "a row is missing",
        "all rows are missing",
        "predictions are empty",
        "a key replaces another",
        "a row is there twice",
    ],
)
def test_audit_refuses_an_incomplete_generation(site: Site, harm: str, found: str) -> None:
    site.publish(9)
    _without_primary_key(site)
    with site.store.hold("parcels") as hold:
        generation = site.stage(hold, frame_of(5, week=1), week=1)
        audit(site.store, site.problem, generation)  # before the harm it is whole
    with site.store.writer.begin() as connection:
        connection.execute(sa.text(harm.format(g=generation)))

    with pytest.raises(
        PredictError, match=rf"audit of generation {generation}: .*{found}.*wanted 5 rows"
    ):
        audit(site.store, site.problem, generation)


@pytest.mark.parametrize(
    ("harm", "found"),
    [
        ("prediction = prediction, probability = 1.25 where parcel = 11", "probabilities between .* and 1.25; wanted 0 to 1"),
        ("probability = -0.5 where parcel = 11", "probabilities between -0.5 and"),
        ("probability = 9e999 where parcel < 12", "found 2 values that are not finite"),
        ("probability = null where parcel = 11", r"1 empty predictions \(20.0%\)"),
        ("parcel = 99 where parcel = 12", "5 keys that differ from those of the batch"),
    ],
)  # fmt: skip
def test_audit_refuses_impossible_predictions(site: Site, harm: str, found: str) -> None:
    site.publish(9)
    with site.store.hold("parcels") as hold:
        generation = site.stage(hold, frame_of(5, week=1), week=1)
    with site.store.writer.begin() as connection:
        connection.execute(
            sa.text(f"update parcels_generations set {harm} and generation = {generation}")
        )

    with pytest.raises(PredictError, match=found):
        audit(site.store, site.problem, generation)


def test_audit_refuses_keys_that_are_not_in_the_batch(site: Site) -> None:
    batch = sum_keys(frame_of(6), ["parcel"])
    with site.store.hold("parcels") as hold:
        pieces = pieces_of(frame_of(5), 3)  # a row has got lost on the way
        generation = stage_pieces(site.store, hold, site.problem, provenance_of(0, batch), pieces)

    with pytest.raises(PredictError, match=r"found 5 rows, 5 keys, 0 empty .*; wanted 6 rows"):
        audit(site.store, site.problem, generation)


def publish_mean(site: Site, mean: float, week: int) -> int:
    with site.store.hold("parcels") as hold:
        frame = frame_of(100, week=week).assign(probability=mean)
        generation = site.stage(hold, frame, week=week)
        audit(site.store, site.problem, generation)
        site.point(hold, generation)
    return generation


def test_a_jump_of_the_mean_warns_and_refuses_nothing(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    for week, mean in enumerate([0.30, 0.32, 0.28, 0.31, 0.29, 0.33]):
        publish_mean(site, mean, week)
    assert "mean_jump" not in caplog.text

    far = publish_mean(site, 0.9, 6)

    assert "the mean prediction is 0.9, that of generation 6 is 0.33" in caplog.text
    assert site.shown() == {far}


def test_few_generations_give_no_warning_of_a_jump(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    for week, mean in enumerate([0.30, 0.30, 0.30, 0.9]):
        publish_mean(site, mean, week)

    assert "mean_jump" not in caplog.text


def _without_primary_key(site: Site) -> None:
    """The same rows in a table that does not itself forbid what an audit must find."""
    with site.store.writer.begin() as connection:
        for statement in (
            "drop view parcels",
            "drop view parcels_history",
            "create table bare as select * from parcels_generations",
            "drop table parcels_generations",
            "alter table bare rename to parcels_generations",
        ):
            connection.execute(sa.text(statement))


def test_a_duplicate_key_stages_nothing(site: Site) -> None:
    frame = pd.concat([frame_of(3), frame_of(1)])

    with (
        site.store.hold("parcels") as hold,
        pytest.raises(sa.exc.IntegrityError, match="UNIQUE constraint"),
    ):
        site.stage(hold, frame)

    assert site.select("select count(*) from automl_generation") == [(0,)]


# ---------------------------------------------------------------- whose table


def test_a_new_name_and_the_own_table_are_fine(site: Site) -> None:
    check_owner(site.store, site.problem)
    site.publish(3)
    check_owner(site.store, site.problem)


def test_a_first_generation_that_was_only_staged_does_not_lock_its_owner_out(site: Site) -> None:
    with site.store.hold("parcels") as hold:
        site.stage(hold, frame_of(3))

    check_owner(site.store, site.problem)
    generation = site.publish(3)
    assert site.shown() == {generation}


@pytest.mark.parametrize(
    "statement",
    [
        "create table parcels (parcel integer)",
        "create view parcels as select 1 as parcel",
        "create table parcels_generations (generation integer, parcel integer)",
        "create table parcels_classes (parcel integer)",
        "create view parcels_classes as select 1 as parcel",
    ],
)
def test_a_table_of_another_program_is_refused_and_kept(
    make_site: Callable[..., Site], statement: str
) -> None:
    site = make_site("multiclass")
    with site.store.writer.begin() as connection:
        connection.execute(sa.text(statement))
    before = site.select(
        "select sql from sqlite_master where sql like 'create%parcels%' order by sql"
    )

    with pytest.raises(
        ProblemError,
        match=r"publish.table 'parcels': 'parcels\w*' exists and was not created by automl",
    ):
        check_owner(site.store, site.problem)

    assert (
        site.select("select sql from sqlite_master where sql like 'create%parcels%' order by sql")
        == before
    )
    assert before


@pytest.mark.parametrize("table", ["automl_cycle", "automl_pointer"])
def test_a_table_of_the_store_itself_is_refused(make_site: Callable[..., Site], table: str) -> None:
    site = make_site()
    publish = site.problem.publish.model_copy(
        update={"table": table}
    )  # a problem file cannot say so
    problem = site.problem.model_copy(update={"publish": publish})

    with pytest.raises(ProblemError, match="was not created by automl"):
        check_owner(site.store, problem)


@pytest.mark.parametrize("table", ["parcels", "parcels_classes", "parcels_generations"])
def test_a_table_of_another_problem_is_refused(make_site: Callable[..., Site], table: str) -> None:
    make_site("multiclass").publish(3, classes=True)
    other = make_site(name="letters", publish=f'table = "{table}"')

    with pytest.raises(ProblemError, match=f"publish.table '{table}' belongs to problem 'parcels'"):
        check_owner(other.store, other.problem)


def test_a_class_view_never_replaces_another_problems_table(
    make_site: Callable[..., Site],
) -> None:
    make_site(name="letters", publish='table = "parcels_classes"').publish(3)
    site = make_site("multiclass")

    with pytest.raises(ProblemError, match="belongs to problem 'letters'"):
        check_owner(site.store, site.problem)


def test_other_columns_than_the_table_has_are_refused_before_a_row_is_written(site: Site) -> None:
    first = site.publish(3)

    with (
        site.store.hold("parcels") as hold,
        pytest.raises(ProblemError, match=r"'parcels_generations' has columns .*probability"),
    ):
        site.stage(hold, frame_of(4).drop(columns="probability"))

    assert site.shown() == {first}
    assert site.select("select count(*) from automl_generation") == [(1,)]
