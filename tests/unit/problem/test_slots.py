"""Slots, batches and blocks meet in every zone, and are those of the scheduler."""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise
from zoneinfo import ZoneInfo

import pytest
from prefect.server.schemas.schedules import CronSchedule

from automl.cycles.options import default_as_of
from automl.problem import Problem, Slots, Span, load_problem
from automl.problem.operating import ScheduleSection
from automl.problem.sections import ValidationSection
from automl.problem.slots import cron_mistake
from tests.support.parcels import write_problem

ZONES = (
    "UTC", "Etc/GMT-11", "Europe/Berlin", "America/New_York", "America/St_Johns", "Asia/Kolkata",
    "Australia/Adelaide", "Australia/Lord_Howe", "America/Santiago", "Pacific/Chatham", "Africa/Casablanca",
)  # fmt: skip
CADENCES = {
    "*/15 * * * *": "15m", "0 * * * *": "1h", "30 */6 * * *": "6h", "30 2 * * *": "1d", "0 0 * * *": "1d",
    "0 3 * * 1": "7d", "0 0 1 * *": "1mo", "0 5 L * *": "1mo", "0 0 1 1,4,7,10 *": "1q",
}  # fmt: skip
LONGER = {"15m": "1d", "1h": "1d", "6h": "2d", "1d": "7d", "7d": "1mo", "1mo": "1q", "1q": "12mo"}
FIRST, LAST = datetime(2026, 1, 1, tzinfo=UTC), datetime(2028, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Problem:
    """A problem without schedule and without label delay."""
    folder = tmp_path_factory.mktemp("slots")
    return load_problem(write_problem(folder, replace={'label_delay = "1d"\n': ""}))


def scheduled(plain: Problem, cron: str, zone: str, block: str, delay: str | None) -> Problem:
    """The problem on a schedule."""
    late = Span.parse(delay) if delay else None
    return plain.model_copy(
        update={
            "schedule": ScheduleSection(timezone=zone, retrain=cron),
            "validation": ValidationSection(block=Span.parse(block)),
            "history": plain.history.model_copy(update={"label_delay": late}),
        }
    )


def clock_changes(zone: str) -> Iterator[datetime]:
    """Moments of two years at which the clocks of a zone have just changed."""
    at, step = FIRST, timedelta(hours=1)
    while at < LAST:
        if (
            at.astimezone(ZoneInfo(zone)).utcoffset()
            != (at - step).astimezone(ZoneInfo(zone)).utcoffset()
        ):
            yield at
        at += step


def month_ends(zone: str) -> Iterator[datetime]:
    """Local midnights that begin the months of two years, leap days among them."""
    for month in range(24):
        yield datetime(2027 + month // 12, 1 + month % 12, 1, tzinfo=ZoneInfo(zone)).astimezone(UTC)


def four_slots(slots: Slots, moment: datetime) -> list[datetime]:
    """The slot before the newest one, that, and the next two."""
    four = list(islice(slots.backwards(moment), 2))[::-1]
    while len(four) < 4:
        four.append(slots.after(four[-1]))
    return four


def prefect_slots(cron: str, zone: str, start: datetime, end: datetime) -> list[datetime]:
    """Slots of Prefect's own iterator, which begins well before a clock change."""
    dates = CronSchedule(cron=cron, timezone=zone).get_dates(n=1000, start=start, end=end)
    return sorted({d.astimezone(UTC) for d in asyncio.run(dates)})


def check(plain: Problem, cron: str, zone: str, moment: datetime, delay: str | None) -> None:
    """Batches meet, blocks meet, and slots are Prefect's around a moment."""
    block = CADENCES[cron]
    problem = scheduled(plain, cron, zone, block, delay)
    slots = problem.slots("cycle")
    assert slots is not None
    four = four_slots(slots, moment)
    where = (cron, zone, moment, delay)
    for slot, following in pairwise(four):
        assert problem.until(slot) == following, where
        assert list(islice(problem.block_edges(following), 2)) == [
            problem.mature(following),
            problem.mature(slot),
        ], where
    for slot in four:
        assert slots.newest(slot) == slots.newest(slot + timedelta(seconds=59)) == slot, where
        assert default_as_of(problem, "score", slot + timedelta(milliseconds=1)) == slot, where
    wide = scheduled(plain, cron, zone, LONGER[block], delay)
    blocks = [tuple(islice(wide.block_edges(slot), 2)) for slot in four]
    for (end, start), (later_end, later_start), (slot, following) in zip(
        blocks, blocks[1:], pairwise(four), strict=False
    ):
        assert (end, later_end) == (problem.mature(slot), problem.mature(following)), where
        assert start <= later_start <= end <= later_end, where
    begin = four[0] - timedelta(days=1)
    expected = prefect_slots(cron, zone, begin, four[-1])
    assert [s for s in expected if s > begin] == slots.between(begin, four[-1]), where


def sampled(moments: Sequence[datetime], count: int, seed: str) -> list[datetime]:
    return random.Random(seed).sample(list(moments), min(count, len(moments)))


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin"])
def test_a_date_as_prefect_hands_it_out_is_its_own_newest_slot(zone: str) -> None:
    slots, start = Slots("0 0 */2 * 1", zone), datetime(2026, 3, 20, tzinfo=UTC)
    dates = asyncio.run(CronSchedule(cron=slots.cron, timezone=zone).get_dates(8, start))
    newest = [slots.newest(date) for date in dates]
    assert newest == dates
    assert {type(slot) for slot in newest} == {datetime}
    assert [slots.after(date) for date in dates[:-1]] == dates[1:]
    assert slots.between(dates[0], dates[-1]) == dates[1:]


@pytest.mark.parametrize("zone", ZONES)
def test_batches_and_blocks_meet_around_clock_changes_and_month_ends(
    plain: Problem, zone: str
) -> None:
    changes, ends = list(clock_changes(zone)), list(month_ends(zone))
    for cron in CADENCES:
        for moment in [*sampled(changes, 2, cron), *sampled(ends, 1, cron)]:
            check(plain, cron, zone, moment, "1d")


@pytest.mark.slow
@pytest.mark.parametrize("delay", [None, "1d", "90m", "9d"])
@pytest.mark.parametrize("zone", ZONES)
def test_batches_and_blocks_meet_at_every_clock_change_month_end_and_random_slot(
    plain: Problem, zone: str, delay: str | None
) -> None:
    rng = random.Random(f"{zone} {delay}")
    anywhere = [FIRST + rng.random() * (LAST - FIRST) for _ in range(500 // len(CADENCES))]
    for cron in CADENCES:
        for moment in [*clock_changes(zone), *month_ends(zone), *anywhere]:
            check(plain, cron, zone, moment, delay)


def test_a_declared_horizon_lets_batches_overlap_and_a_short_one_leaves_no_hole(
    plain: Problem,
) -> None:
    weekly = scheduled(plain, "0 0 * * 1", "Europe/Berlin", "7d", None)
    slot = datetime(2026, 10, 18, 22, tzinfo=UTC)  # the week in which clocks are set back
    for horizon, until in (("2d", "2026-10-25T23:00"), ("8d", "2026-10-26T23:00")):
        batch = plain.batch.model_copy(update={"horizon": Span.parse(horizon)})
        problem = weekly.model_copy(update={"batch": batch})
        assert problem.until(slot) == datetime.fromisoformat(until).replace(tzinfo=UTC)


def test_block_edges_stay_in_order_where_several_days_lie_a_month_after_one(plain: Problem) -> None:
    problem = scheduled(plain, "30 */6 * * *", "Europe/Berlin", "6h", "1mo")
    edges = list(islice(problem.block_edges(datetime(2026, 4, 2, tzinfo=UTC)), 40))
    assert edges == sorted(edges, reverse=True)


def test_where_both_have_a_cron_a_batch_ends_at_the_next_scoring(plain: Problem) -> None:
    both = ScheduleSection(retrain="0 3 * * 1", score="0 5 * * *")
    problem = plain.model_copy(update={"schedule": both})
    assert problem.until(datetime(2026, 3, 2, 5, tzinfo=UTC)) == datetime(2026, 3, 3, 5, tzinfo=UTC)
    moment = datetime(2026, 3, 4, 4, tzinfo=UTC)
    assert default_as_of(problem, "score", moment) == datetime(2026, 3, 3, 5, tzinfo=UTC)
    assert default_as_of(problem, "retrain", moment) == datetime(2026, 3, 2, 3, tzinfo=UTC)


@pytest.mark.parametrize(
    ("zone", "span", "start", "end"),
    [
        ("Europe/Berlin", "1d", "2026-10-24T22:00", "2026-10-25T23:00"),
        ("Europe/Berlin", "1d", "2026-03-28T23:00", "2026-03-29T22:00"),
        ("Europe/Berlin", "24h", "2026-10-24T22:00", "2026-10-25T22:00"),
        ("Europe/Zurich", "1mo", "2026-03-31T22:00", "2026-04-30T22:00"),
        ("America/Sao_Paulo", "1d", "2017-10-14T03:00", "2017-10-15T03:00"),  # it begins at one
    ],
)
def test_without_a_schedule_days_are_those_of_the_history(
    plain: Problem, zone: str, span: str, start: str, end: str
) -> None:
    problem = plain.model_copy(
        update={
            "history": plain.history.model_copy(update={"timezone": zone}),
            "batch": plain.batch.model_copy(update={"horizon": Span.parse(span)}),
        }
    )
    begins, ends = (datetime.fromisoformat(text).replace(tzinfo=UTC) for text in (start, end))
    assert problem.until(begins) == ends
    assert default_as_of(problem, "cycle", begins + timedelta(minutes=50)) == begins


@pytest.mark.parametrize(
    ("zone", "day"),
    [("Europe/Berlin", 29), ("Australia/Lord_Howe", 4), ("America/St_Johns", 8), ("UTC", 8)],
)
def test_a_later_moment_never_leads_to_an_earlier_one(zone: str, day: int) -> None:
    local = datetime(2026, 10 if "Lord" in zone else 3, day, 22, tzinfo=ZoneInfo(zone))
    moments = [local.astimezone(UTC) + timedelta(minutes=5 * n) for n in range(12 * 30)]
    before = [Span.parse("1d").before(moment, zone=ZoneInfo(zone)) for moment in moments]
    assert before == sorted(before)
    assert all(
        timedelta(hours=22) < m - b < timedelta(hours=26)
        for m, b in zip(moments, before, strict=True)
    )


def test_spans_are_counted_from_their_anchor_and_not_chained() -> None:
    may = datetime(2026, 5, 31, tzinfo=UTC)
    month = Span.parse("1mo")
    assert [month.before(may, n).day for n in (1, 2, 3, 4)] == [30, 31, 28, 31]
    assert Span.parse("1q").before(may) == datetime(2026, 2, 28, tzinfo=UTC)


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ("0 0 * * 5L", r'Prefect cannot run.*the last Friday is "L5"'),
        ("0 0 LW * *", "Prefect cannot run"),
        ("0 0 15W * *", "Prefect cannot run"),
        ("H 0 * * *", "Prefect cannot run"),
        ("@daily", "is not a cron line"),
        ("0 0 0 * * *", "is not a cron line"),
        ("0 0 31 2 *", "a day that no month has"),
        ("0 0 */15 * *", "skips a day at the beginning of March"),
        ("0 0 1,15,31 * *", "skips a day at the beginning of March"),
        ("0 0 * * L5", ""),
        ("0 0 L * *", ""),
        ("0 0 */2 * 1", ""),
        ("0 0 29 2 *", ""),
        ("0 0 1,15 * 1", ""),
        ("*/7 1-3 * jan-mar mon#2", ""),
    ],
)
def test_cron_lines_that_prefect_cannot_run_are_refused(line: str, wrong: str) -> None:
    found = cron_mistake(line)
    if wrong:
        assert re.search(wrong, found)
    else:
        assert not found
        CronSchedule(cron=line, timezone="UTC")


@pytest.mark.parametrize(
    ("line", "span", "apart"),
    [
        ("0 0 1 * *", "1mo", True),
        ("0 0 L * *", "1mo", True),
        ("0 0 31 * *", "1mo", False),
        ("0 0 1 */3 *", "1q", True),
        ("0 0 1 */3 *", "3mo", True),
        ("0 0 * * 1", "7d", True),
        ("0 0 * * 1-5", "1d", False),
        ("*/15 * * * *", "15m", True),
        ("0 */5 * * *", "5h", False),
    ],
)
def test_a_block_is_as_long_as_slots_are_apart_or_not(line: str, span: str, apart: bool) -> None:
    assert Slots(line, "UTC").apart_by(Span.parse(span)) is apart
