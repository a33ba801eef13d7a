"""Bad inputs, rows 1 to 32: too little history, odd targets, keys and times."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest

from automl.history import Folders, pulls
from automl.modeling.splits import make_blocks
from automl.workspace import open_workspace
from tests.support.catalogue import (
    WEEK,
    Case,
    Catalogue,
    LeftOut,
    Place,
    Refused,
    Seen,
    SetAside,
    Warned,
    Works,
    good,
    some,
)
from tests.support.parcels import AS_OF
from tests.support.table_sources import DAY, Rows, parcel

CASES = Catalogue()


@pytest.mark.parametrize("case", CASES, ids=str)
def test_bad_history_is_refused_or_reported(
    case: Case, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    case.outcome.proves(lambda: case.run(Place(tmp_path, request)))


def hours(i: int) -> float:
    """A target for regression."""
    return 20.0 + i * 7 % 13


# ---------------------------------------------------------------- how much there is


@CASES(1, "empty-history", Refused("no_history", "found no rows at all"))
def _(place: Place) -> Seen:
    place.source().holds(good())
    place.execute("delete from rows")
    return place.cycle(place.problem())


@CASES(2, "no-new-rows", Works())
def _(place: Place) -> None:
    # a cycle without new rows still scores and refits; only the pull has nothing to do
    problem = place.problem()
    first = place.agree(problem, good())
    place.cycle(problem)
    again = place.cycle(problem, AS_OF + timedelta(hours=1))
    assert again.snapshot.digest == first.snapshot.digest
    last = pulls(Folders(open_workspace(problem.file).history(problem.name)))[-1]
    assert (last.new, last.bytes_written) == (0, 0)


@CASES(3, "few-rows", Refused("too_few_rows", "found 150 labelled rows; wanted at least 200"))
def _(place: Place) -> Seen:
    return place.agree(place.problem(), good(150))


@CASES(3, "few-of-a-class", Refused("rare_class", "class 1 has 9 rows; wanted at least 20"))
def _(place: Place) -> Seen:
    return place.agree(place.problem(), good(late=lambda i: int(i < 9)))


@CASES(4, "one-class", Refused("single_class", "found 1 in every row; wanted at least two"))
def _(place: Place) -> Seen:
    return place.agree(place.problem(), good(late=1))


@CASES(5, "one-class-in-block", Refused("one_class_in_block", "rows are 0; roc_auc needs both"))
def _(place: Place) -> object:
    problem = place.problem()
    seen = place.agree(problem, good(600, DAY / 24, late=lambda i: int(i % 3 == 0 and i < 400)))
    return make_blocks(seen.frame, problem, AS_OF)


# ---------------------------------------------------------------- the target


def fate(i: int) -> str:
    """A target of three classes."""
    return ("fine", "late", "lost")[i % 3]


# stricter than a warning: a champion cannot predict a class that it never saw, so a user decides first
@CASES(6, "new-class", Refused("new_class", "class 'stolen'; the contract lists 'fine', 'late'"))
def _(place: Place) -> Seen:
    problem = place.problem(task="multiclass")
    place.agree(problem, good(late=fate))
    place.source().holds(some(good(late=fate), 30, late="stolen"))
    return place.cycle(problem)


@CASES(
    6, "new-label-of-two", Refused("new_class", "found the new class 2; the contract lists 0, 1")
)
def _(place: Place) -> Seen:
    problem = place.problem()
    place.agree(problem, good())
    place.source().holds(good(late=lambda i: i % 2 + 1))
    return place.cycle(problem)


# stricter than a warning: probabilities of a class without rows cannot be learned again
@CASES(7, "class-vanished", Refused("class_vanished", "class 'lost' is missing"))
def _(place: Place) -> Seen:
    problem = place.problem(task="multiclass")
    place.agree(problem, good(late=fate))
    place.source().holds([row for row in good(late=fate) if row["late"] != "lost"])
    return place.cycle(problem)


# a row without a label is a row whose label is not known yet; that needs no declaration
@CASES(8, "no-label", LeftOut("no_label", 4))
def _(place: Place) -> Seen:
    return place.agree(place.problem(), some(good(), 4, late=None))


@CASES(9, "infinite-target", SetAside("infinite_target", 2))
def _(place: Place) -> Seen:
    rows = some(good(late=hours), 2, late=float("-inf"))
    return place.agree(place.problem(task="regression"), rows)


@CASES(9, "many-infinite-targets", Refused("infinite_target", r"found 4 infinite .*4 of 300 rows"))
def _(place: Place) -> Seen:
    rows = some(good(late=hours), 4, late=float("inf"))
    return place.agree(place.problem(task="regression"), rows)


@CASES(10, "constant-target", Refused("constant_target", "found 7.0 in every row"))
def _(place: Place) -> Seen:
    return place.agree(place.problem(task="regression"), good(late=7.0))


@CASES(11, "text-in-number-target", SetAside("kind_changed", 3))
def _(place: Place) -> Seen:
    problem = place.problem(task="regression")
    place.agree(problem, good(late=hours))
    place.source().holds(some(good(late=hours), 3, late="soon"))
    return place.cycle(problem)


@CASES(11, "text-target", Refused("kind_changed", "column 'late': found 300 values that are not"))
def _(place: Place) -> Seen:
    problem = place.problem(task="regression")
    place.agree(problem, good(late=hours))
    place.source().holds(good(late="soon"))
    return place.cycle(problem)


@CASES(
    11,
    "text-target-at-first",
    Refused("target_kind", "found text; wanted numbers, because task is"),
)
def _(place: Place) -> Seen:
    return place.agree(place.problem(task="regression"), good(late=fate))


@CASES(12, "target-times-100", Refused("target_jump", r"median changed from 26 to 2[5-7]00 in the"))
def _(place: Place) -> Seen:
    rows = good(late=lambda i: hours(i) * (100 if i >= 250 else 1))
    return place.agree(place.problem(task="regression"), rows)


@CASES(12, "target-times-10", Warned(r"median changed from 26 to 2[5-7]0 .*\[target_shifted\]"))
def _(place: Place) -> Seen:
    rows = good(late=lambda i: hours(i) * (10 if i >= 250 else 1))
    return place.agree(place.problem(task="regression"), rows)


# ---------------------------------------------------------------- keys


@CASES(16, "same-row-twice", Warned("2 rows repeat another row exactly and were dropped"))
def _(place: Place) -> Seen:
    seen = place.agree(place.problem(), [*good(), *good()[5:7]])
    assert seen.snapshot.rows == 300
    return seen


@CASES(17, "newest-version", Works())
def _(place: Place) -> None:
    rows = good(changed_at="2026-02-01 00:00:00")
    newer = {**rows[7], "changed_at": "2026-02-20 00:00:00", "weight": 77.0}
    seen = place.agree(place.problem(history='updated_at = "changed_at"'), [newer, *rows])
    assert seen.frame.set_index("parcel")["weight"][7] == 77.0
    assert seen.snapshot.dropped == {"older_version": 1}


@CASES(17, "two-newest-versions", SetAside("duplicate_key", 2))
def _(place: Place) -> Seen:
    rows = good(changed_at="2026-02-01 00:00:00")
    return place.agree(
        place.problem(history='updated_at = "changed_at"'), [*rows, {**rows[7], "weight": 77.0}]
    )


# equal rows without a key may be separate events, so they are kept, counted and reported
@CASES(19, "same-rows-without-key", Warned(r"6 rows \(2\.0%\) equal another.*\[same_row\]"))
def _(place: Place) -> Seen:
    problem = place.problem("parquet", key="")
    return place.agree(problem, [*good(294), *good(294)[:6]], "parquet")


@CASES(20, "null-key", SetAside("null_key", 3))
def _(place: Place) -> Seen:
    return place.agree(place.problem("parquet"), some(good(), 3, parcel=None), "parquet")


@CASES(20, "many-null-keys", Refused("null_key", "'parcel': found 4 rows without a value"))
def _(place: Place) -> Seen:
    return place.agree(place.problem(), some(good(), 4, parcel=None))


# ---------------------------------------------------------------- times


def at(*times: str) -> Rows:
    """One row for each time as written."""
    return [{**parcel(900 + i, AS_OF), "sent_at": when} for i, when in enumerate(times)]


# left out, not set aside: no cell of a future row may be read, not even to infer a kind
@CASES(21, "future-rows", LeftOut("not_before_as_of", 5))
def _(place: Place) -> Seen:
    future = [parcel(1000 + i, AS_OF + i * DAY, weight="junk") for i in range(5)]
    return place.agree(place.problem(), [*good(), *future])


@CASES(
    23, "as-of-before-first-row", Refused("no_history", r"found 300 rows from .* none is labell")
)
def _(place: Place) -> Seen:
    place.source().holds(good())
    return place.cycle(place.problem(), AS_OF - 90 * DAY)


@CASES(
    24,
    "block-longer-than-history",
    Refused("too_short", "found rows from 2026-01-09.* block of 1q"),
)
def _(place: Place) -> object:
    problem = place.edited(place.problem(), {'"7d"': '"1q"'})
    return make_blocks(place.agree(problem, good()).frame, problem, AS_OF)


@CASES(25, "some-labels-unknown", LeftOut("label_not_known_yet", 13))
def _(place: Place) -> Seen:
    return place.agree(place.problem(label_delay='"4d"'), good())


@CASES(25, "no-label-known", Refused("no_history", "300 label not known yet"))
def _(place: Place) -> Seen:
    return place.agree(place.problem(label_delay='"90d"'), good())


# times without a zone are UTC unless the problem file sets history.timezone
@CASES(26, "naive-times", Works())
def _(place: Place) -> None:
    utc = place.agree(place.problem(), good()).frame["sent_at"]
    local = place.agree(place.problem(timezone='"Asia/Tokyo"')).frame["sent_at"]
    assert set(utc - local) == {pd.Timedelta(hours=9)}


@CASES(27, "mixed-offsets", Works())
def _(place: Place) -> None:
    rows = good()
    utc = place.agree(place.problem(), rows).frame["sent_at"].tolist()
    zones = ("+02:00", "Z", "-05:30")
    written = [
        {**row, "sent_at": pd.Timestamp(row["sent_at"], tz="UTC").tz_convert(zone).isoformat()}
        for row, zone in zip(rows, (("Etc/GMT-2", "UTC", "Asia/Kolkata") * 100), strict=True)
    ]
    assert any(zones[0] in row["sent_at"] for row in written)
    place.source().holds(written)
    assert place.cycle(place.problem()).frame["sent_at"].tolist() == utc


@CASES(28, "skipped-and-repeated-hours", Warned(r"'sent_at': 1 local times .* Europe/Zurich"))
def _(place: Place) -> Seen:
    odd = ["2025-03-30 02:30:00", "2025-10-26 02:30:00"]
    rows = [*good(), *at(*odd)]
    seen = place.agree(place.problem(timezone='"Europe/Zurich"'), rows)
    assert (seen.snapshot.rows, seen.snapshot.quarantined) == (len(rows), {})
    read = {pd.Timestamp("2025-03-30 01:30"), pd.Timestamp("2025-10-26 01:30")}
    assert read < set(seen.frame["sent_at"])
    return seen


@CASES(29, "placeholder-times", SetAside("bad_time", 2))
def _(place: Place) -> Seen:
    odd = ["1970-01-01 00:00:00", "0001-01-01 00:00:00"]
    rows = [*good(), *at(*odd)]
    return place.agree(place.problem(), rows)


@CASES(29, "year-9999", LeftOut("not_before_as_of", 1))
def _(place: Place) -> Seen:
    return place.agree(place.problem(), [*good(), *at("9999-12-31 23:59:59")])


@CASES(
    29, "dates-of-a-feature", Warned("'ends': 2 placeholder dates such as .* are read as missing")
)
def _(place: Place) -> Seen:
    rows = good(ends=lambda i: "9999-12-31" if i < 2 else f"2026-01-{i % 28 + 1:02}")
    seen = place.agree(place.problem(), rows)
    assert seen.frame["ends"].isna().sum() == 2
    return seen


@CASES(30, "late-rows", Warned("1 rows of 2026-01-15 came late.*pulled again"))
def _(place: Place) -> Seen:
    problem = place.problem()
    place.agree(problem, good())
    place.cycle(problem)
    place.source().holds([*good(), parcel(900, datetime(2026, 1, 15, tzinfo=UTC))])
    return place.cycle(problem, AS_OF + DAY, verify=True)


@CASES(31, "rows-updated-after-use", Works())
def _(place: Place) -> None:
    problem = place.problem(history='updated_at = "changed_at"')
    rows = good(changed_at="2026-02-01 00:00:00")
    before = place.agree(problem, rows).snapshot
    content = before.path.read_bytes()
    place.source().holds(some(rows, 2, weight=55.0, changed_at=f"{AS_OF:%Y-%m-%d} 01:00:00"))
    after = place.cycle(problem, AS_OF + DAY).snapshot
    assert after.digest != before.digest
    assert before.path.read_bytes() == content


@CASES(32, "deleted-rows-refused", Refused("rows_deleted", "history: 1 rows .* the source"))
def _(place: Place) -> Seen:
    problem = place.problem(history='deleted = "refuse"')
    place.agree(problem, good())
    place.cycle(problem)
    place.execute("delete from rows where parcel = 9")
    return place.cycle(problem, AS_OF + DAY, verify=True)


@CASES(32, "deleted-rows-kept", Warned(r"1 rows of .* are gone from the source \(keep\)"))
def _(place: Place) -> Seen:
    problem = place.problem(history='deleted = "keep"')
    place.agree(problem, good())
    place.cycle(problem)
    place.execute("delete from rows where parcel = 9")
    seen = place.cycle(problem, AS_OF + DAY, verify=True)
    assert 9 in set(seen.frame["parcel"])
    return seen


@CASES(75, "source-behind", Refused("source_behind", "no labelled row after 2026-02-28 .* as_of"))
def _(place: Place) -> Seen:
    # the command does not wait: the scheduler runs it again
    place.source().holds(good())
    return place.cycle(place.problem(), AS_OF + 3 * WEEK)


@CASES(75, "season-without-rows", Works())
def _(place: Place) -> None:
    # a gap no longer than an earlier gap of the history is a season
    spring = [
        {**row, "parcel": 2000 + i, "sent_at": f"{pd.Timestamp(row['sent_at']) - 90 * DAY}"}
        for i, row in enumerate(good())
    ]
    place.agree(place.problem(), [*spring, *good()])
    place.cycle(place.problem(), AS_OF + 3 * WEEK)
