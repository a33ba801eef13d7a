"""Lengths of time: how long a block is, where the rows to predict begin, how far they reach."""

from __future__ import annotations

import math
from datetime import datetime
from zoneinfo import ZoneInfo

import pandas as pd

from automl.guessing.sample import TableSample, few_rows
from automl.history.contract import MIN_ROWS
from automl.problem import Span

__all__ = ["BLOCKS", "choose_as_of", "choose_block", "choose_horizon"]

BLOCKS = 12  # blocks that a history is best divided into
BLOCK_ROWS = 100  # the pipeline merges smaller blocks; to merge two of them is fine
YEAR = "12mo"
SPANS = ("1m", "10m", "1h", "6h", "1d", "7d", "1mo", "1q", YEAR, "60mo", "120mo")


def choose_block(sample: TableSample) -> tuple[str, str]:
    """A calendar period of which the history has about twelve, each with enough rows."""
    step = sample.labelled.drop_duplicates().sort_values().diff().median().total_seconds()
    length = {s: Span.parse(s).seconds for s in SPANS}
    fitting = [s for s in SPANS if step <= length[s] <= sample.seconds / 3] or [SPANS[0]]
    filled = [s for s in fitting if sample.rows_in(s) >= BLOCK_ROWS / 2]
    if YEAR in filled:  # a longer one only where a year holds too few rows
        filled = filled[: filled.index(YEAR) + 1]
    best = sample.seconds / BLOCKS
    chosen = min(filled or fitting[-1:], key=lambda s: abs(math.log(length[s] / best)))
    periods = sample.seconds / length[chosen]
    return chosen, f"one of {periods:.0f} periods, about {sample.rows_in(chosen):,.0f} rows each"


def choose_as_of(sample: TableSample, block: str, delay: str | None) -> tuple[datetime, str]:
    """Where the rows to predict begin: those without a target at the end, or the newest block."""
    last = sample.labelled.max()
    to_predict = sample.to_predict
    if len(to_predict):
        first = to_predict.min()
        midnight = _edge(first, "1d", sample.zone)
        start = midnight if midnight > _aware(last) else _aware(first)
        return start, f"{len(to_predict)} rows from there on have no target: they are predicted"
    for span in _batches(sample, block):
        start = _start(sample, span, last)
        mature = Span.parse(delay).before(start, zone=sample.zone) if delay else start
        if (sample.labelled < mature.replace(tzinfo=None)).sum() >= MIN_ROWS:
            return start, "the newest rows are predicted as if their target were not known yet"
    raise few_rows(sample)


def _start(sample: TableSample, span: str, last: pd.Timestamp) -> datetime:
    """Where the newest period of that length begins; of a table of months, with a month."""
    length, day = Span.parse(span), Span.parse("1d")
    local = sample.labelled.dt.tz_localize("UTC").dt.tz_convert(sample.zone).dt.tz_localize(None)
    monthly = bool((local.dt.is_month_start & (local == local.dt.normalize())).all())
    newest = last + pd.offsets.MonthBegin() if monthly else last + pd.Timedelta(1, "us")
    end = _edge(newest, span, sample.zone, up=True)
    start = length.before(end, zone=sample.zone)
    while length.after(start, zone=sample.zone) < end:  # a month before the 31st is the 30th
        start = day.after(start, zone=sample.zone)
    return start


def _batches(sample: TableSample, block: str) -> list[str]:
    """Lengths that a batch may have, the best first."""
    if "batch.horizon" in sample.given:
        return [sample.given["batch.horizon"]]
    shorter = [s for s in SPANS if Span.parse(s).seconds < Span.parse(block).seconds]
    return [block, *reversed(shorter)]


def choose_horizon(sample: TableSample, as_of: datetime) -> tuple[str, str]:
    """The shortest usual period from there to the end of the table."""
    last = _aware(sample.times.max())
    reaching = (s for s in SPANS if Span.parse(s).after(as_of, zone=sample.zone) > last)
    count = int((sample.times >= as_of.replace(tzinfo=None)).sum()) * sample.every
    return next(reaching, SPANS[-1]), f"reaches the end of the table: {count:,} rows to predict"


def _edge(moment: pd.Timestamp, span: str, zone: ZoneInfo, *, up: bool = False) -> datetime:
    """The local minute, hour or midnight at or before a moment; with `up` at or after it."""
    unit = {"m": "min", "h": "h"}.get(Span.parse(span).unit, "D")
    local = moment.tz_localize("UTC").tz_convert(zone).tz_localize(None)
    edge = local.ceil(unit) if up else local.floor(unit)
    placed = edge.tz_localize(zone, ambiguous=True, nonexistent="shift_forward")
    return placed.tz_convert("UTC").to_pydatetime()


def _aware(moment: pd.Timestamp) -> datetime:
    return moment.tz_localize("UTC").to_pydatetime()
