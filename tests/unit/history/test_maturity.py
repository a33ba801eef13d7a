"""Rows are trained on and scored only when every label of their cohort is known, late labels included."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from automl import history
from automl.cycles.job import Job
from automl.errors import HistoryError
from automl.history import utc_naive
from automl.history.maturity import (
    Maturity,
    complete_after,
    estimate,
    mature_rows,
    missing_outcomes,
    with_maturity,
)
from automl.modeling.splits import make_blocks
from automl.problem import Problem, Span, load_problem
from automl.report.data_tables import contract_document, history_document
from automl.retrain import pipeline, training_data
from automl.store import Store
from automl.workspace import open_workspace
from tests.support.parcels import AS_OF, make_world, write_problem
from tests.support.workspaces import rows, run_cycle

DAY = 86_400 * 1_000_000  # in microseconds
SHARE = 0.23  # of the outcome that is known early
Delays = Callable[[np.ndarray, np.ndarray, np.random.Generator], np.ndarray]
LABEL_TIME = {'label_delay = "1d"': 'label_time = "known_at"'}


def cohorts(
    delays: Delays, days: int, count: int, share: float = SHARE, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ages in days, delays and outcomes of rows, known or not."""
    rng = np.random.default_rng(seed)
    ages = rng.uniform(0, days, count)
    outcomes = (rng.random(count) < share).astype("int64")
    return ages, delays(ages, outcomes, rng), outcomes


def days_until_complete(ages: np.ndarray, delays: np.ndarray, outcomes: np.ndarray) -> float | None:
    """The estimate from the rows whose label is known."""
    known = delays < ages
    found = complete_after(
        (ages[known] * DAY).astype("int64"),
        (delays[known] * DAY).astype("int64"),
        outcomes[known],
    )
    return None if found is None else found / DAY


def exponential(mean: float) -> Delays:
    return lambda ages, _, rng: rng.exponential(mean, len(ages))


def early_and(late: float) -> Delays:
    """One outcome known after 2 days on average, the other after exactly `late` days."""
    return lambda ages, y, rng: np.where(y == 1, rng.exponential(2, len(ages)), late)


def lognormal(ages: np.ndarray, _: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.asarray(3 * np.exp(rng.normal(0, 1, len(ages))))


def month_ends(ages: np.ndarray, _: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.asarray((ages % 30) + 1.0)


def growing(ages: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The late outcome took 21 days 120 days ago, and takes 28 now."""
    return np.where(y == 1, rng.exponential(2, len(ages)), 28 - 7 * ages / 120)


def rare_and_late(ages: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Fraud is known late, its absence after a week."""
    return np.where(y == 1, rng.exponential(6, len(ages)), 7.0)


# ---------------------------------------------------------------- the estimate


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    ("delays", "share", "low", "high"),
    [
        pytest.param(early_and(21), SHARE, 21, 21, id="depends-on-outcome"),
        pytest.param(lambda _, y, __: np.where(y == 1, 3.0, 21.0), SHARE, 21, 21, id="both-fixed"),
        pytest.param(exponential(5), SHARE, 21, 29, id="same-for-both"),
        pytest.param(lognormal, SHARE, 26, 42, id="heavy-tail"),
        pytest.param(month_ends, SHARE, 30.5, 31, id="month-ends"),
        pytest.param(growing, SHARE, 26, 28, id="growing"),
        pytest.param(rare_and_late, 0.02, 20, 40, id="rare-and-late"),
    ],
)
def test_at_the_estimated_age_almost_all_labels_of_each_outcome_are_known(
    delays: Delays, share: float, low: float, high: float, seed: int
) -> None:
    ages, waits, outcomes = cohorts(delays, 121, 8000, share, seed)
    age = days_until_complete(ages, waits, outcomes)
    assert age is not None
    assert low - 1e-6 <= age <= high + 1e-6
    mature = ages > np.ceil(age - 1e-6)
    for outcome in (0, 1):
        assert (waits < ages)[mature & (outcomes == outcome)].mean() > 0.985


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    ("delays", "days"),
    [
        pytest.param(exponential(40), 121, id="tail-longer-than-history"),
        pytest.param(early_and(60), 62, id="late-outcome-just-known"),
        pytest.param(
            lambda _, y, rng: np.where((y == 1) & (rng.random(len(y)) < 0.1), 100.0, 2.0),
            121,
            id="a-tenth-of-an-outcome-very-late",
        ),
    ],
)
def test_a_history_too_short_for_its_delays_gives_no_estimate(
    delays: Delays, days: int, seed: int
) -> None:
    assert days_until_complete(*cohorts(delays, days, 8000, seed=seed)) is None


def test_an_outcome_of_30_rows_counts_and_one_of_5_does_not() -> None:
    ages = np.linspace(0, 100, 5000)[1:]
    for count, expected in ((5, 2.0), (30, 20.0)):
        outcomes = np.zeros(len(ages), dtype="int64")
        outcomes[-count:] = 1
        assert days_until_complete(
            ages, np.where(outcomes == 1, 20.0, 2.0), outcomes
        ) == pytest.approx(expected)


# ---------------------------------------------------------------- what depends on it


@pytest.fixture(scope="module")
def problem(tmp_path_factory: pytest.TempPathFactory) -> Problem:
    """A problem whose labels are known at `known_at`, in blocks of a week."""
    return load_problem(write_problem(tmp_path_factory.mktemp("maturity"), replace=LABEL_TIME))


def frame_of(ages: np.ndarray, delays: np.ndarray, outcomes: np.ndarray) -> pd.DataFrame:
    """The rows known at AS_OF, as in a snapshot."""
    times = pd.Timestamp(utc_naive(AS_OF)) - pd.to_timedelta(ages, unit="D")
    frame = pd.DataFrame(
        {
            "sent_at": times.astype("datetime64[us]"),
            "known_at": (times + pd.to_timedelta(delays, unit="D")).astype("datetime64[us]"),
            "late": outcomes,
        }
    )
    known = frame["known_at"] < pd.Timestamp(utc_naive(AS_OF))
    return frame[known].sort_values("sent_at", ignore_index=True)


@pytest.mark.parametrize(
    ("delay", "block", "previous", "age"),
    [
        (21.0, "7d", "", "21d"),
        (20.2, "7d", "", "21d"),
        (20.2, "1d", "", "486h"),
        (20.2, "1mo", "", "21d"),
        (0.01, "1h", "", "15m"),
        (0.01, "7d", "", "1d"),
        (20.2, "7d", "23d", "23d"),  # the last cycle's, a little too long
        (20.2, "7d", "20d", "21d"),  # too short
        (20.2, "7d", "40d", "21d"),  # much too long
        (-0.5, "7d", "3d", None),  # known before its row
    ],
)
def test_the_age_is_whole_steps_of_a_block_and_steady_from_cycle_to_cycle(
    problem: Problem, delay: float, block: str, previous: str, age: str | None
) -> None:
    validation = problem.validation.model_copy(update={"block": Span.parse(block)})
    blocked = problem.model_copy(update={"validation": validation})
    ages = np.linspace(0, 100, 2000)[1:]
    frame = frame_of(ages, np.full(len(ages), delay), np.arange(len(ages)) % 2)
    before = Span.parse(previous) if previous else None
    found = estimate(frame, blocked, AS_OF, before)
    assert (str(found.age) if found.age else None) == age
    assert found.seconds == pytest.approx(delay * 86400)
    assert Maturity.from_json(found.to_json()) == found
    assert with_maturity(blocked, found).history.label_delay == found.age


def test_a_large_number_that_is_known_late_counts_for_a_regression(tmp_path: Path) -> None:
    regression = load_problem(write_problem(tmp_path, "regression", replace=LABEL_TIME))
    ages = np.linspace(0, 100, 4000)[1:]
    hours = np.random.default_rng(0).gamma(1.0, 10.0, len(ages))
    delays = np.where(hours > np.quantile(hours, 0.995), 25.0, 2.0)
    frame = frame_of(ages, delays, hours).rename(columns={"late": "hours"})
    assert str(estimate(frame, regression, AS_OF).age) == "25d"


def test_a_declared_age_is_used_without_an_estimate(tmp_path: Path) -> None:
    both = {'label_delay = "1d"': 'label_delay = "30d"\nlabel_time = "known_at"'}
    declared = load_problem(write_problem(tmp_path, replace=both))
    frame = frame_of(*cohorts(exponential(40), 121, 8000))
    assert estimate(frame, declared, AS_OF) == Maturity(Span(30, "d"), 30 * 86400.0, declared=True)
    mature = mature_rows(frame, declared, AS_OF)
    assert mature["sent_at"].max() < utc_naive(AS_OF) - timedelta(days=30)
    block = make_blocks(mature, declared, AS_OF)[0]
    assert block.end == AS_OF - timedelta(days=30)
    train = mature.iloc[block.train]
    assert train["sent_at"].max() < utc_naive(block.start) - timedelta(days=30)
    assert (train["known_at"] < utc_naive(block.start)).all()


def test_a_refusal_names_the_key_the_delays_and_the_next_step(problem: Problem) -> None:
    frame = frame_of(*cohorts(early_and(60), 62, 8000))
    wanted = r"history\.label_time: found labels that became known 60\.0 days .* a history of 6\d\.\d days"
    with pytest.raises(HistoryError, match=wanted) as caught:
        estimate(frame, problem, AS_OF)
    assert caught.value.code == "label_time_open"
    assert "Set history.label_delay" in caught.value.next_step


def test_labels_that_are_all_younger_than_the_age_are_refused(problem: Problem) -> None:
    frame = frame_of(*cohorts(exponential(1), 20, 500))
    matured = with_maturity(problem, Maturity(Span(21, "d"), 0.0))
    with pytest.raises(
        HistoryError, match=r"labelled rows, all after 2026-02-09 00:00; wanted rows"
    ):
        mature_rows(frame, matured, AS_OF)


def test_a_class_that_is_missing_from_the_newest_block_is_reported(problem: Problem) -> None:
    frame = frame_of(*cohorts(exponential(1), 100, 8000))
    assert missing_outcomes(frame, problem) == []
    slower = frame[(frame["late"] == 1) | (frame["sent_at"] < utc_naive(AS_OF) - timedelta(days=9))]
    [warning] = missing_outcomes(slower, problem)
    assert "class 0 has" in warning


def test_labels_not_known_yet_change_nothing(tmp_path: Path) -> None:
    world = make_world().assign(known_at=lambda f: f["sent_at"] + pd.Timedelta(days=9))
    pulled: list[tuple[str, Maturity]] = []
    for poison in (False, True):
        later = world["known_at"] >= utc_naive(AS_OF)
        changed = world.copy()
        if poison:
            changed.loc[later, "late"] = 1 - changed.loc[later, "late"]
            changed.loc[later, "known_at"] += pd.Timedelta(days=400)
        folder = tmp_path / f"poisoned-{poison}"
        folder.mkdir()
        file = write_problem(folder, replace=LABEL_TIME, frame=changed)
        found = load_problem(file)
        snapshot = history.pull(found, open_workspace(file), AS_OF)
        pulled.append((snapshot.digest, estimate(history.read(snapshot), found, AS_OF)))
    assert pulled[0] == pulled[1]
    assert str(pulled[0][1].age) == "9d"


# ---------------------------------------------------------------- whole cycles


@pytest.fixture(scope="module")
def parcels() -> pd.DataFrame:
    """Parcels of which it is known within days that they are late, and after 14 days that they are not."""
    world = make_world(2700)
    delays = np.where(world["late"] == 1, np.random.default_rng(5).exponential(2, len(world)), 14.0)
    return world.assign(known_at=world["sent_at"] + pd.to_timedelta(delays, unit="D"))


@pytest.fixture(scope="module")
def cycles(tmp_path_factory: pytest.TempPathFactory, parcels: pd.DataFrame) -> Path:
    """The problem file of two cycles, three weeks apart."""
    replace = {
        **LABEL_TIME,
        'name = "roc_auc"': 'name = "log_loss"',
        "[metric]": '[batch]\nhorizon = "14d"\n\n[metric]',
        "trials   = 4": "trials   = 2",
    }
    file = write_problem(tmp_path_factory.mktemp("late"), replace=replace, frame=parcels)
    for weeks in (3, 0):
        run_cycle(file, AS_OF - timedelta(weeks=weeks))
    return file


def test_published_probabilities_are_as_frequent_as_their_outcome(
    cycles: Path, parcels: pd.DataFrame
) -> None:
    published = dict(rows(cycles, "select parcel, probability from parcels"))
    batch = parcels[parcels["parcel"].isin(list(published))]
    assert len(batch) == 14 * 36
    assert np.mean(list(published.values())) == pytest.approx(batch["late"].mean(), abs=0.03)


def test_every_block_is_mature_and_holds_all_of_its_rows(
    cycles: Path, parcels: pd.DataFrame
) -> None:
    blocks = rows(cycles, "select distinct cycle, start, end, rows from automl_evidence")
    assert len(blocks) >= 3
    for cycle, start, end, count in blocks:
        assert pd.Timestamp(end) <= pd.Timestamp(cycle) - pd.Timedelta(days=14)
        assert count == parcels["sent_at"].between(start, end, inclusive="left").sum()


def test_blocks_after_the_labels_that_chose_a_champion_are_out_of_sample_for_it(
    cycles: Path,
) -> None:
    _, first = Store(open_workspace(cycles)).releases("parcels")
    assert first.labels_until == AS_OF - timedelta(weeks=3, days=14)
    kinds = rows(
        cycles,
        f"select kind from automl_evidence where blend = '{first.blend.id}' and cycle > '2026-03-01'",
    )
    assert kinds == [("out_of_sample",)] * 2


def test_published_predictions_are_compared_with_mature_rows_alone(
    cycles: Path, parcels: pd.DataFrame
) -> None:
    [first] = [
        g
        for g in Store(open_workspace(cycles)).generations("parcels")
        if g.as_of == AS_OF - timedelta(weeks=3)
    ]
    mature = parcels["sent_at"].between(
        utc_naive(first.as_of), utc_naive(AS_OF) - timedelta(days=14), inclusive="left"
    )
    assert 0 < mature.sum() < first.rows
    assert first.labelled_rows == mature.sum()


def test_the_age_is_a_receipt_of_the_cycle_and_shown(cycles: Path) -> None:
    problem, workspace = load_problem(cycles), open_workspace(cycles)
    for weeks in (3, 0):
        cycle = Store(workspace).find_cycle("parcels", "retrain", AS_OF - timedelta(weeks=weeks))
        assert cycle is not None
        assert cycle.receipts["maturity"]["age"] == "14d"
        assert cycle.problem_digest == problem.digest
    assert history_document(problem, workspace)["labels"].startswith(
        "complete after 14d (estimated"
    )
    compared = contract_document(problem, workspace, None, accept=False)
    assert compared["since"][:10] == "2026-01-19"  # four weeks before the last mature row
    assert compared["rows"] == 28 * 36


def test_an_interrupted_cycle_keeps_its_age(
    tmp_path: Path, parcels: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write_problem(tmp_path, replace=LABEL_TIME, frame=parcels)
    ages: list[str] = []

    def interrupt(job: Job, *_: object) -> None:
        ages.append(str(job.problem.history.label_delay))
        raise RuntimeError("interrupted here")

    monkeypatch.setattr(pipeline, "make_work", interrupt)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="interrupted here"):
            run_cycle(file, AS_OF)
        # calling it again would fail
        monkeypatch.setattr(training_data, "estimate", None)
    assert ages == ["14d", "14d"]


def test_a_class_that_never_becomes_known_is_refused_with_the_reason(
    tmp_path: Path, parcels: pd.DataFrame
) -> None:
    never = parcels.assign(known_at=parcels["known_at"].where(parcels["late"] == 1))
    file = write_problem(tmp_path, replace=LABEL_TIME, frame=never)
    with pytest.raises(
        HistoryError, match="found 1 in every row; wanted at least two classes"
    ) as caught:
        run_cycle(file, AS_OF)
    assert "without history.label_time has no label" in caught.value.next_step
