"""A problem file is read as one frozen value, or refused with every mistake at once."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from automl.errors import ProblemError
from automl.problem import METRICS, Problem, Span, family_names, load_problem
from tests.support.parcels import PROBLEM, write_problem

MakeProblem = Callable[..., Problem]

EXAMPLE = Path(__file__).parents[3] / "examples" / "flights" / "problem.toml"
TEXT = PROBLEM.format(name="parcels", task="binary", target="late", metric="roc_auc")

SOURCE = 'source      = "sqlite:///world.db"\nquery       = "select * from parcels"'

MISTAKES = """
name   = "1st"
task   = "binary"
colour = "red"
file   = "other.toml"

[history]
source      = "postgresql://me:secret@host/db"
files       = "*.csv"
time        = "sent_at"
target      = "late"
timezon     = "UTC"
timezone    = "Europe/Zurch"
keep        = "3 weeks"
label_delay = "1d"
label_time  = "known_at"
key         = ["late"]
ignore      = ["late", 3]
positive    = [1]
personal    = ["name", "sent_at", "known_at"]

[metric]
name   = "rmse"
also   = ["log_los"]
slices = ["late"]

[sweep]
families = ["lightgb", "./mine.py"]
budget   = "5s"
trials   = 0

[validation]
block   = "0d"
origins = 99
season  = "yearly"

[promotion]
mode       = "reviewed"
confidence = 0.5

[publish]
mode  = "newest"
table = "Parcels"
keep  = 1

[schedule]
timezone = "Mars"
retrain  = "every monday"
score    = "0 3 * * 1 30"
"""

LINES = [  # key, what was found, what was wanted
    r"name: found '1st'; wanted a letter",
    r"colour: unknown key; wanted one of name, question, task",
    r"file: unknown key",
    r"history\.timezon: unknown key; wanted one of source, .*Did you mean 'timezone'\?",
    r"history\.source: found a password; wanted .*\$\{PGPASSWORD\}",
    r"history\.timezone: found 'Europe/Zurch'; wanted a time zone, .* Did you mean 'Europe/Zurich'\?",
    r"history\.keep: found '3 weeks'; wanted a duration, for example 90s, 90m, 12h, 7d, 4w, 1mo, 1q",
    r"history\.ignore: found 3; wanted a valid string",
    r"history\.positive: found \[1\]; wanted a number, a text, true or false",
    r"history\.personal: found 'sent_at', which is history\.time; wanted key columns, or columns",
    r"history\.personal: found 'known_at', which is history\.label_time; wanted key columns",
    r"history: found source, files; wanted exactly one of source, files, python",
    r"history: found source without query; wanted query",
    r"history: found column late in two of time, target and ignore; wanted one role",
    r"history: found target 'late' in key; wanted a key without",
    r"metric\.slices: found late, which history\.ignore keeps from being read",
    r"metric\.name: found 'rmse', which does not fit task 'binary'; wanted one of roc_auc, average_precision, log_loss",
    r"metric\.also: found 'log_los', which does not fit .* Did you mean 'log_loss'\?",
    r"sweep\.families: found 'lightgb'; wanted .* Did you mean 'lightgbm'\?",
    r"sweep\.families: found '\./mine\.py', which is not a file in the folder of problem\.toml",
    r"sweep\.budget: found 5s; wanted at least 10s and less than a day",
    r"sweep\.trials: found 0; wanted greater than or equal to 1",
    r"validation\.block: found '0d'; wanted a duration",
    r"validation\.origins: found 99; wanted \"auto\", or a whole number from 1 to 12",
    r"validation\.season: found 'yearly'; wanted a duration, for example .*, or \"none\"",
    r"promotion\.mode: found 'reviewed'; wanted 'auto' or 'review'. Did you mean 'review'?",
    r"promotion\.confidence: found 0\.5; wanted greater than 0\.5",
    r"publish\.mode: found 'newest'; wanted 'full' or 'new'. Did you mean 'new'\?",
    r"publish\.table: found 'Parcels'; wanted lower-case letters",
    r"publish\.keep: found 1; wanted greater than or equal to 2",
    r"schedule\.timezone: found 'Mars'; wanted a time zone",
    r"schedule\.retrain: found 'every monday', which is not a cron line; wanted five fields",
    r"schedule\.score: found '0 3 \* \* 1 30', which is not a cron line; wanted five fields",
]


def refused(folder: Path, text: str) -> ProblemError:
    """The refusal of a problem file of this text."""
    file = folder / "problem.toml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ProblemError, match="mistake") as caught:
        load_problem(file)
    return caught.value


@pytest.fixture(scope="module")
def error(tmp_path_factory: pytest.TempPathFactory) -> ProblemError:
    """The error of the file with every mistake."""
    return refused(tmp_path_factory.mktemp("mistakes"), MISTAKES)


@pytest.mark.parametrize("line", LINES)
def test_every_mistake_is_reported_with_key_found_and_wanted(
    error: ProblemError, line: str
) -> None:
    assert re.search(rf"(?m)^  {line}", str(error))


def test_each_mistake_is_reported_once_and_no_secret_is(error: ProblemError) -> None:
    assert f": {len(LINES)} mistakes\n" in str(error)
    assert len(str(error).splitlines()) == len(LINES) + 1
    assert "secret" not in str(error)
    assert (error.code, error.exit_code) == ("problem", 2)
    assert "automl check" in error.next_step


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        (
            'metric]\nname = "roc_auc"',
            'metric]\nname = "roc_auk"',
            r"metric\.name: found 'roc_auk', .* mean 'roc_auc'\?",
        ),
        (
            'task     = "binary"',
            'task     = "binry"',
            r"task: found 'binry'; wanted 'binary', .* mean 'binary'\?",
        ),
        ('time        = "sent_at"\n', "", r"history\.time: missing; wanted a value"),
        ("trials   = 4\n", "", r"sweep: found neither budget nor trials; wanted"),
        (
            "trials   = 4",
            'budget   = "1d"',
            r"sweep\.budget: found 1d; wanted at least 10s and less than a day",
        ),
        ('["baseline", "linear"]', "[]", r"sweep\.families: found none; wanted at least one"),
        (
            '["baseline", "linear"]',
            '["linear", "linear"]',
            r"sweep\.families: found a family twice",
        ),
        (SOURCE, "", r"history: found none; wanted exactly one of source"),
        (
            'source      = "sqlite:///world.db"',
            'files = "*.csv"',
            r"history: found query without source; wanted a database",
        ),
        (
            'key         = ["parcel"]\n',
            "",
            r"history: found no key; wanted the columns that identify a row",
        ),
        (
            'target      = "late"',
            'target      = "sent_at"',
            r"history: found column sent_at in two of",
        ),
        (
            "[sweep]",
            '[batch]\nquery = "select 1"\nhorizons = "7d"\n[sweep]',
            r"batch\.horizons: .* mean 'horizon'\?",
        ),
        (
            "[validation]",
            "[publish]\nkeep = 3.5\n[validation]",
            r"publish\.keep: found 3\.5; wanted a valid integer",
        ),
        (
            'label_delay = "1d"',
            'label_delay = "9999999d"',
            r"history\.label_delay: found '9999999d'; wanted at most 200 years",
        ),
        ("\n[metric]", "[[metric]]", r"metric: found \[.*\]; wanted a valid dictionary"),
    ],
)
def test_one_mistake_is_one_line(tmp_path: Path, old: str, new: str, line: str) -> None:
    assert TEXT.count(old) == 1
    error = refused(tmp_path, TEXT.replace(old, new))
    assert re.search(rf"problem\.toml: 1 mistake\n  {line}", str(error))


@pytest.mark.parametrize(
    ("task", "replace", "line"),
    [
        (
            "regression",
            {'target      = "hours"': 'target = "hours"\npositive = 1'},
            r"history\.positive: found 1; wanted none, because only",
        ),
        (
            "multiclass",
            {'"log_loss"': '"roc_auc"'},
            r"metric\.name: found 'roc_auc', which does not fit task 'multiclass'",
        ),
        (
            "regression",
            {'"rmse"': '"rmse"\nalso = ["mae", "brier"]'},
            r"metric\.also: found 'brier', which does not fit",
        ),
    ],
)
def test_mistakes_that_depend_on_the_task_are_reported(
    make_problem: MakeProblem, task: str, replace: dict[str, str], line: str
) -> None:
    with pytest.raises(ProblemError, match=line):
        make_problem(task, replace=replace)


def test_a_file_source_takes_no_batch_query(make_problem: MakeProblem) -> None:
    replace = {
        SOURCE: 'files = "*.csv"',
        "[metric]": '[batch]\nquery = "select 1"\n[metric]',
    }
    with pytest.raises(
        ProblemError, match=r"1 mistake\n  batch\.query: found a query; wanted none"
    ):
        make_problem(replace=replace)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:${PGPASSWORD}@host/db",
        "postgresql://host/db",
        "postgresql://me@host/db",
        "sqlite:///w.db",
    ],
)
def test_a_source_without_a_password_is_accepted(make_problem: MakeProblem, url: str) -> None:
    assert make_problem(replace={"sqlite:///world.db": url}).history.source == url


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://:secret@host/db",
        "postgresql://me:s/ecret@host/db",
        "postgresql://me:${A}secret@host/db",
    ],
)
def test_a_password_is_found_wherever_the_driver_would_find_it(
    make_problem: MakeProblem, url: str
) -> None:
    with pytest.raises(ProblemError, match=r"history\.source: found a password"):
        make_problem(replace={"sqlite:///world.db": url})


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"name = ", "not valid TOML"),
        (b"a = 1\na = 2\n", "not valid TOML"),
        (b"\xff\xfe", "cannot be read"),
    ],
)
def test_a_file_that_is_not_toml_is_refused(tmp_path: Path, content: bytes, line: str) -> None:
    file = tmp_path / "problem.toml"
    file.write_bytes(content)
    with pytest.raises(ProblemError, match=line):
        load_problem(file)


def test_a_missing_file_is_named_with_a_next_step(tmp_path: Path) -> None:
    with pytest.raises(
        ProblemError, match=r"nowhere\.toml: this problem file does not exist"
    ) as caught:
        load_problem(tmp_path / "nowhere.toml")
    assert "TOML" in caught.value.next_step


def test_a_folder_is_no_problem_file(tmp_path: Path) -> None:
    with pytest.raises(ProblemError, match="cannot be read"):
        load_problem(tmp_path)


# ---------------------------------------------------------------- spans


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90),
        ("90m", 5400),
        ("12h", 43200),
        ("7d", 604800),
        (" 7 d ", 604800),
        ("4w", 2419200),
        ("1mo", 2630016),
        ("1q", 7890048),
    ],
)
def test_a_duration_is_a_count_and_a_unit(text: str, seconds: float) -> None:
    assert Span.parse(text).seconds == seconds
    assert Span.parse(str(Span.parse(text))) == Span.parse(text)


@pytest.mark.parametrize(
    "text", ["", "7", "d", "0d", "-7d", "1.5h", "7y", "7 days", "7D", "1d12h", 7, None]
)
def test_other_texts_are_refused_as_durations(text: object) -> None:
    with pytest.raises(ValueError, match="wanted a duration, for example 90s"):
        Span.parse(text)


MOMENTS = st.integers(-(10**9) // 2, 4 * 10**9).map(
    lambda seconds: datetime.fromtimestamp(seconds, UTC)
)


@given(MOMENTS, st.integers(1, 500), st.sampled_from("smhd"), st.integers(0, 20))
def test_before_undoes_after_for_units_of_fixed_length(
    moment: datetime, count: int, unit: str, times: int
) -> None:
    span = Span(count, unit)
    assert span.before(span.after(moment, times), times) == moment
    assert span.after(moment, times) - moment == times * timedelta(seconds=span.seconds)


@given(MOMENTS, st.integers(1, 40), st.sampled_from(["mo", "q"]))
def test_calendar_units_keep_the_day_or_take_the_last_of_the_month(
    moment: datetime, count: int, unit: str
) -> None:
    later = Span(count, unit).after(moment)
    months = 12 * (later.year - moment.year) + later.month - moment.month
    last = (later + timedelta(days=1)).month != later.month
    assert months == count * (3 if unit == "q" else 1)
    assert later.day == moment.day or (last and later.day < moment.day)
    assert later.time() == moment.time()


@given(MOMENTS, st.integers(1, 40), st.sampled_from(["mo", "q"]), st.integers(1, 100_000))
def test_a_moment_before_a_calendar_span_is_over_after_it(
    moment: datetime, count: int, unit: str, back: int
) -> None:
    span = Span(count, unit)
    earlier = span.before(moment) - timedelta(seconds=back)
    assert span.after(earlier) <= moment  # so a label with that delay is known


@pytest.mark.parametrize(
    ("span", "moment", "after"),
    [
        ("1mo", "2026-01-31", "2026-02-28"),
        ("1mo", "2028-01-31", "2028-02-29"),
        ("1q", "2026-11-30", "2027-02-28"),
        ("12mo", "2028-02-29", "2029-02-28"),
        ("1d", "2026-12-31", "2027-01-01"),
    ],
)
def test_months_and_quarters_follow_the_calendar(span: str, moment: str, after: str) -> None:
    assert Span.parse(span).after(datetime.fromisoformat(moment)) == datetime.fromisoformat(after)


def test_weeks_follow_the_calendar_as_seven_days_do() -> None:
    berlin, monday = ZoneInfo("Europe/Berlin"), datetime(2026, 10, 18, 22, tzinfo=UTC)
    four = Span.parse("4w").after(monday, zone=berlin)
    assert four == Span.parse("28d").after(monday, zone=berlin)
    assert four - monday == timedelta(weeks=4, hours=1), "across a clock change"


# ---------------------------------------------------------------- digest and defaults


def test_comments_order_and_folder_do_not_change_the_digest(
    make_problem: MakeProblem, tmp_path: Path
) -> None:
    plain = make_problem()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    head, *sections = TEXT.split("\n[")
    keys = "\n".join(reversed(head.splitlines()))
    reordered = keys + "\n# a comment\n[" + "\n[".join(reversed(sections))
    (elsewhere / "other.toml").write_text(reordered, encoding="utf-8")
    assert load_problem(elsewhere / "other.toml").digest == plain.digest


@pytest.mark.parametrize("season", ["", 'season = "3mo"\n', 'season = "none"\n'])
def test_a_digest_is_made_without_a_warning(make_problem: MakeProblem, season: str) -> None:
    old = "[validation]\n"
    assert old in TEXT
    problem = make_problem(replace={old: old + season})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(problem.digest) == 64


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("Which parcels will be late?", "Which parcels?"),
        ("seed     = 3", "seed     = 4"),
        ('block   = "7d"', 'block   = "8d"'),
        ('["baseline", "linear"]', '["linear", "baseline"]'),
        ('"select * from parcels"', '"select * from parcels where 1"'),
    ],
)
def test_a_changed_value_changes_the_digest(make_problem: MakeProblem, old: str, new: str) -> None:
    assert make_problem(replace={old: new}).digest != make_problem().digest


def test_defaults_are_those_of_the_design(make_problem: MakeProblem) -> None:
    problem = make_problem(name="Late-Parcels")
    as_of = datetime(2026, 3, 2, tzinfo=UTC)
    assert problem.table == "late_parcels"
    assert problem.horizon == problem.validation.block
    assert problem.until(as_of) == datetime(2026, 3, 9, tzinfo=UTC)
    assert problem.mature(as_of) == datetime(2026, 3, 1, tzinfo=UTC)
    assert (problem.promotion.mode, problem.publish.mode, problem.publish.keep) == (
        "auto",
        "full",
        12,
    )


def test_without_a_delay_labels_are_known_at_once(make_problem: MakeProblem) -> None:
    as_of = datetime(2026, 3, 2, tzinfo=UTC)
    assert make_problem(replace={'label_delay = "1d"\n': ""}).mature(as_of) == as_of


def test_a_problem_cannot_be_changed(make_problem: MakeProblem) -> None:
    with pytest.raises(ValueError, match="frozen"):
        make_problem().name = "other"


def test_a_users_family_is_a_path_relative_to_the_problem(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("", encoding="utf-8")
    file = write_problem(tmp_path, replace={'"linear"]': '"mine.py"]'})
    assert load_problem(file).sweep.families == ("baseline", "mine.py")


def test_shipped_families_are_offered_by_name() -> None:
    assert {"baseline", "linear", "lightgbm"} <= set(family_names())


@pytest.mark.parametrize("task", METRICS)
def test_every_metric_of_a_task_is_accepted(make_problem: MakeProblem, task: str) -> None:
    problem = make_problem(task, replace={"[sweep]": f"also = {list(METRICS[task])}\n[sweep]"})
    assert problem.metric.also == METRICS[task]


@pytest.mark.skipif(not EXAMPLE.exists(), reason="the example is not part of an installed package")
def test_the_shipped_example_is_a_valid_problem() -> None:
    assert load_problem(EXAMPLE).name == "flight-delays"
