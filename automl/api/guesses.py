"""What a problem file would say about a table, guessed from a sample of its rows, each guess with its reason.

Pure functions: nothing here reads a source, writes a file or runs a cycle. What the caller already knows
is passed as `given` and not guessed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd

from automl.api.frames import Table, listed
from automl.api.guess_values import Guess, Guesses
from automl.errors import ProblemError
from automl.history.contract import MIN_PER_CLASS, MIN_ROWS
from automl.history.contract.leaks import LEAK, LEAK_ROWS, predictive_strength
from automl.problem import METRICS, Span, did_you_mean

__all__ = ["guess"]

MOST_CLASSES = 50  # more distinct texts are names, not classes
MOST_CODES = 10  # whole numbers 0, 1, 2, ... are read as classes up to here
BLOCKS = 12  # blocks that a history is best divided into
BLOCK_ROWS = 100  # the pipeline merges smaller blocks; to merge two of them is fine
SPANS = ("1m", "10m", "1h", "6h", "1d", "7d", "1mo", "1q", "12mo", "60mo", "120mo")
LATER = 0.9  # share of rows with a time after the row's own: the column is known only afterwards
EARLY = 0.99  # share of labels that are known after the guessed label delay
ID = re.compile(r"(^|_)(id|key|uuid|guid|row|number|no|nr)$", re.IGNORECASE)
PERSONAL = re.compile(
    r"(^|_)(e?mail|phone|mobile|fax|ssn|passport|iban|street|address|ip|birth\w*|dob|"
    r"(first|last|full|sur|family|given|user|customer|person|patient|driver)_?name)(_|$)",
    re.IGNORECASE,
)
EMAIL = re.compile(r"[^@\s]+@[^@\s]+\.[A-Za-z]{2,}")
AFTERWARDS = re.compile(
    r"(^|_)(actual|final|outcome|result|resolved|resolution|closed|completed|delivered|arrived|arrival|"
    r"returned|cancell?ed|churned|settled|finished|ended|after)(_|$)",
    re.IGNORECASE,
)
T = TypeVar("T")


def guess(table: Table, target: str, given: Mapping[str, Any]) -> Guesses:
    """Guess what the problem file of a table says; `given` holds known values by key of the problem file.

    Raises
    ------
    ProblemError
        The target is missing or constant, all times are equal, or there are too few rows.
    """
    sample = _Sample(table, target, {k: v for k, v in given.items() if v is not None})
    _refuse_target(sample)
    _refuse_times(sample)
    settled = _Settled(sample.given)
    settle = settled.settle
    settle("history.time", lambda: (table.time, "the only column of dates"))
    settle("history.timezone", lambda: (table.timezone, _zone_reason(sample)))
    task = settle("task", lambda: _task(sample))
    settle("history.positive", lambda: _positive(sample, task))
    settle("metric.name", lambda: _metric(task))
    personal = settle("history.personal", lambda: _personal(sample))
    settle("history.key", lambda: _key(sample, personal))
    ignored = settle("history.ignore", lambda: _ignore(sample, task, personal))
    delay = settle("history.label_delay", lambda: _label_delay(sample))
    block = settle("validation.block", lambda: _block(sample))
    as_of = settle("as_of", lambda: _as_of(sample, block, delay))
    settle("batch.horizon", lambda: _horizon(sample, as_of))
    settle("validation.origins", lambda: ("auto", "as many as history and budget allow"))
    warnings = (*table.notes, *_suspects(sample, {*ignored, *personal}))
    return Guesses(entries=tuple(settled.entries), warnings=warnings)


@dataclass(frozen=True)
class _Sample:
    """The rows that are looked at, with what several guesses need."""

    table: Table
    target: str
    given: Mapping[str, Any]

    @property
    def frame(self) -> pd.DataFrame:
        return self.table.frame

    @property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.given.get("history.timezone", self.table.timezone))

    @property
    def features(self) -> list[str]:
        return [n for n in self.frame.columns if n not in (self.target, self.table.time)]

    @cached_property
    def times(self) -> pd.Series:
        """Times of all rows, UTC without zone."""
        return _naive(self.frame[self.table.time])

    @cached_property
    def truth(self) -> pd.Series:
        """The target of the labelled rows."""
        return self.frame[self.target].dropna()

    @cached_property
    def labelled(self) -> pd.Series:
        """Times of the labelled rows."""
        return self.times[self.truth.index].dropna()

    @cached_property
    def seconds(self) -> float:
        """From the first to the last row."""
        return max(1.0, float((self.times.max() - self.times.min()).total_seconds()))

    def rows_in(self, span: str) -> float:
        """Labelled rows in such a span, on average."""
        return len(self.labelled) * Span.parse(span).seconds / self.seconds


class _Settled:
    """Guesses in the order in which they are made; given values are not guessed."""

    def __init__(self, given: Mapping[str, Any]) -> None:
        self.given = given
        self.entries: list[Guess] = []

    def settle(self, key: str, find: Callable[[], tuple[Any, str]]) -> Any:
        given = key in self.given
        value, reason = (self.given[key], "given") if given else find()
        self.entries.append(Guess(key=key, value=value, reason=reason, given=given))
        return value


def _refuse_target(sample: _Sample) -> None:
    name, frame = sample.target, sample.frame
    if name not in frame.columns:
        raise ProblemError(
            f"target {name!r} is not a column; found {listed(frame.columns)}"
            f"{did_you_mean(name, list(frame.columns))}",
            code="missing_column",
        )
    if name == sample.table.time:
        raise ProblemError(f"target {name!r} is also the time; wanted two columns", code="usage")
    distinct = sample.truth.nunique()
    if distinct < 2:
        found = f"only {sample.truth.tolist()[0]!r}" if distinct else "no value"
        raise ProblemError(
            f"target {name!r}: found {found} in {len(frame)} rows; wanted at least two values",
            code="single_class",
        )
    if pd.api.types.is_datetime64_any_dtype(frame[name].dtype):
        raise ProblemError(
            f"target {name!r}: found times; wanted numbers or classes",
            code="bad_target",
            next_step="Predict a duration instead, such as the days since the row's time.",
        )


def _refuse_times(sample: _Sample) -> None:
    times = sample.times.dropna()
    if times.nunique() < 2:
        raise ProblemError(
            f"time {sample.table.time!r}: all rows hold {times.iloc[0]}; wanted different times, because models "
            "are validated on rows later than those they learn from",
            code="single_time",
        )
    if len(sample.truth) < MIN_ROWS:
        raise _few_rows(sample)


def _few_rows(sample: _Sample) -> ProblemError:
    return ProblemError(
        f"found {len(sample.truth)} rows with a target; wanted at least {MIN_ROWS} before those to predict",
        code="few_rows",
        next_step="Bring more rows.",
    )


def _naive(times: pd.Series) -> pd.Series:
    """Times as UTC without zone."""
    aware = isinstance(times.dtype, pd.DatetimeTZDtype)
    return times.dt.tz_convert("UTC").dt.tz_localize(None) if aware else times


# ---------------------------------------------------------------- task and metric


def _zone_reason(sample: _Sample) -> str:
    if sample.table.timezone != "UTC":
        return f"the zone of {sample.table.time!r}"
    return "times without a zone are taken for UTC"


def _task(sample: _Sample) -> tuple[str, str]:
    name, values, distinct = sample.target, sample.truth, sample.truth.nunique()
    if distinct == 2:
        pair = sorted(map(str, values.unique()))
        return "binary", f"{name!r} has two values, {pair[0]} and {pair[1]}"
    if not pd.api.types.is_numeric_dtype(values.dtype):
        if distinct > MOST_CLASSES:
            raise ProblemError(
                f"target {name!r}: found {distinct} different texts; wanted numbers, or at most "
                f"{MOST_CLASSES} classes",
                code="many_classes",
                next_step="Group the classes, or convert the target to numbers.",
            )
        return "multiclass", f"{name!r} has {distinct} classes"
    counts = values.astype("float64").value_counts().sort_index()
    codes = counts.index.to_numpy()
    in_turn = codes[0] in (0.0, 1.0) and (np.diff(codes) == 1).all()
    if in_turn and distinct <= MOST_CODES and counts.min() >= MIN_PER_CLASS:
        span = f"{codes[0]:g} to {codes[-1]:g}"
        return "multiclass", f"{name!r} holds only {span}; if these are amounts: task='regression'"
    return "regression", f"{name!r} is a number with {distinct} different values"


def _positive(sample: _Sample, task: str) -> tuple[Any, str]:
    if task != "binary":
        return None, "only binary tasks have one"
    if pd.api.types.is_numeric_dtype(sample.truth.dtype):
        return None, "the larger value"
    counts = sample.truth.value_counts()
    return str(
        counts.index[-1]
    ), f"the rarer value, {counts.iloc[-1] / counts.sum():.0%} of the rows"


def _metric(task: str) -> tuple[str, str]:
    name = {"binary": "roc_auc", "multiclass": "log_loss", "regression": "rmse"}[task]
    return (
        name,
        f"usual for {task}; the others are {', '.join(m for m in METRICS[task] if m != name)}",
    )


# ---------------------------------------------------------------- columns


def _personal(sample: _Sample) -> tuple[list[str], str]:
    found = [n for n in sample.features if _looks_personal(n, sample.frame[n])]
    if not found:
        return [], "no column looks like a name, an address or a phone number"
    return found, "looks personal: not copied, not learned from"


def _looks_personal(name: str, column: pd.Series) -> bool:
    if PERSONAL.search(name):
        return True
    texts = [v for v in column.dropna().head(LEAK_ROWS) if isinstance(v, str)]
    return bool(texts) and sum(bool(EMAIL.fullmatch(v)) for v in texts) > len(texts) / 2


def _key(sample: _Sample, personal: list[str]) -> tuple[list[str], str]:
    frame, time = sample.frame, sample.table.time
    if frame[time].is_unique and frame[time].notna().all():
        return [time], "every row has its own time"
    for name in sample.features:
        column = frame[name]
        number = pd.api.types.is_numeric_dtype(column.dtype)
        whole = pd.api.types.is_integer_dtype(column.dtype)
        named = ID.search(name) and name not in personal and (whole or not number)
        if named and column.notna().all() and column.is_unique:
            return [name], "differs in every row"
    return [], "no column differs in every row; rows are numbered"


def _ignore(sample: _Sample, task: str, personal: list[str]) -> tuple[list[str], str]:
    later = [n for n in _later_times(sample) if n not in personal]
    telling = [n for n in _telling(sample, task) if n not in personal]
    reasons = [f"{listed(telling)}: tells the target by itself"] if telling else []
    reasons += [f"{listed(later)}: later than {sample.table.time!r}"] if later else []
    return [*telling, *later], "; ".join(reasons) or "no column is plainly known only afterwards"


def _telling(sample: _Sample, task: str) -> list[str]:
    """Columns that tell the target by themselves, which the contract would refuse."""
    newest = sample.labelled.sort_values(kind="stable").tail(LEAK_ROWS).index
    values = sample.truth[newest].reset_index(drop=True)
    regression = task == "regression"
    truth = values.astype("float64") if regression else pd.Series(pd.factorize(values)[0])
    classes = () if regression else tuple(sorted(truth.unique()))
    found = []
    for name in sample.features:
        column = sample.frame.loc[newest, name].reset_index(drop=True)
        if pd.api.types.is_datetime64_any_dtype(column.dtype):
            continue
        number = pd.api.types.is_numeric_dtype(column.dtype)
        cells = column.astype("float64" if number else "object")
        if predictive_strength(cells, truth, classes) > LEAK:
            found.append(name)
    return found


def _later_times(sample: _Sample) -> list[str]:
    """Columns of times that are after the row's own time in most rows."""
    found = []
    for name in sample.features:
        if pd.api.types.is_datetime64_any_dtype(sample.frame[name].dtype):
            lags = (_naive(sample.frame[name]) - sample.times).dropna()
            if len(lags) and (lags > pd.Timedelta(0)).mean() > LATER:
                found.append(name)
    return found


def _suspects(sample: _Sample, settled: set[str]) -> list[str]:
    """A question about columns whose names sound as if they were known only afterwards."""
    names = [n for n in sample.features if n not in settled and AFTERWARDS.search(n)]
    question = f"{listed(names)}: known when the prediction is made? If not, add them to ignore"
    return [question] if names else []


def _label_delay(sample: _Sample) -> tuple[str | None, str]:
    for name in _later_times(sample):
        lags = (_naive(sample.frame[name]) - sample.times).dropna()
        slowest = lags.quantile(EARLY).total_seconds()
        if 0 < slowest <= sample.seconds / BLOCKS:
            days = slowest >= 36 * 3600
            delay = f"{math.ceil(slowest / 86400)}d" if days else f"{math.ceil(slowest / 3600)}h"
            return (
                delay,
                f"{EARLY:.0%} of {name!r} are at most this long after {sample.table.time!r}",
            )
    return None, "labels are taken to be known at once; if they come later, say after how long"


# ---------------------------------------------------------------- periods


def _block(sample: _Sample) -> tuple[str, str]:
    step = sample.labelled.drop_duplicates().sort_values().diff().median().total_seconds()
    length = {s: Span.parse(s).seconds for s in SPANS}
    fitting = [s for s in SPANS if step <= length[s] <= sample.seconds / 3] or [SPANS[0]]
    filled = [s for s in fitting if sample.rows_in(s) >= BLOCK_ROWS / 2]
    best = sample.seconds / BLOCKS
    chosen = min(filled or fitting[-1:], key=lambda s: abs(math.log(length[s] / best)))
    periods = sample.seconds / length[chosen]
    return chosen, f"one of {periods:.0f} periods, about {sample.rows_in(chosen):,.0f} rows each"


def _as_of(sample: _Sample, block: str, delay: str | None) -> tuple[datetime, str]:
    """Where the rows to predict begin: those without a target at the end, or the newest block."""
    last = sample.labelled.max()
    to_predict = sample.times[sample.frame[sample.target].isna() & (sample.times > last)]
    if len(to_predict):
        first = to_predict.min()
        midnight = _edge(first, "1d", sample.zone)
        start = midnight if midnight > _aware(last) else _aware(first)
        return start, f"{len(to_predict)} rows from there on have no target: they are predicted"
    for span in _batches(sample, block):
        end = _edge(last + pd.Timedelta(1, "us"), span, sample.zone, up=True)
        start = Span.parse(span).before(end, zone=sample.zone)
        mature = Span.parse(delay).before(start, zone=sample.zone) if delay else start
        if (sample.labelled < mature.replace(tzinfo=None)).sum() >= MIN_ROWS:
            return start, "the newest rows are predicted as if their target were not known yet"
    raise _few_rows(sample)


def _batches(sample: _Sample, block: str) -> list[str]:
    """Lengths that a batch may have, the best first."""
    if "batch.horizon" in sample.given:
        return [sample.given["batch.horizon"]]
    shorter = [s for s in SPANS if Span.parse(s).seconds < Span.parse(block).seconds]
    return [block, *reversed(shorter)]


def _horizon(sample: _Sample, as_of: datetime) -> tuple[str, str]:
    last = _aware(sample.times.max())
    reaching = (s for s in SPANS if Span.parse(s).after(as_of, zone=sample.zone) > last)
    count = int((sample.times >= as_of.replace(tzinfo=None)).sum())
    return next(reaching, SPANS[-1]), f"reaches the end of the table: {count} rows to predict"


def _edge(moment: pd.Timestamp, span: str, zone: ZoneInfo, *, up: bool = False) -> datetime:
    """The local minute, hour or midnight at or before a moment; with `up` at or after it."""
    unit = {"m": "min", "h": "h"}.get(Span.parse(span).unit, "D")
    local = moment.tz_localize("UTC").tz_convert(zone).tz_localize(None)
    edge = local.ceil(unit) if up else local.floor(unit)
    placed = edge.tz_localize(zone, ambiguous=True, nonexistent="shift_forward")
    return placed.tz_convert("UTC").to_pydatetime()


def _aware(moment: pd.Timestamp) -> datetime:
    return moment.tz_localize("UTC").to_pydatetime()
