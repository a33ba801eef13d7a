"""Columns by their role: what identifies a row, what is personal, what is known only afterwards."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from automl.guessing.frames import listed
from automl.guessing.periods import BLOCKS
from automl.guessing.sample import TableSample, naive
from automl.history.contract import MIN_PER_CLASS
from automl.history.contract.leaks import LEAK, LEAK_ROWS, predictive_strength

__all__ = ["choose_ignored", "choose_key", "choose_label_delay", "choose_personal", "suspects"]

LATER = 0.9  # share of rows with a time after the row's own: the column is known only afterwards
EARLY = 0.99  # share of labels that are known after the guessed label delay
STRONG = 0.95  # AUC or correlation of a column that is asked about
BLANK, FILLED = 0.95, 0.5  # shares of missing cells: without a target at least, with one at most
MOST_JOINED = 12  # columns that are tried in pairs next to the time
LONGEST_CODE = 40  # characters; longer texts that differ in every row are prose
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


# ---------------------------------------------------------------- personal


def choose_personal(sample: TableSample) -> tuple[list[str], str]:
    """Columns whose names or cells look like names, addresses or phone numbers."""
    found = [n for n in sample.features if _looks_personal(n, sample.frame[n])]
    if not found:
        return [], "no column looks like a name, an address or a phone number"
    return found, "looks personal: not copied, not learned from"


def _looks_personal(name: str, column: pd.Series) -> bool:
    if PERSONAL.search(name):
        return True
    texts = [v for v in column.dropna().head(LEAK_ROWS) if isinstance(v, str)]
    return bool(texts) and sum(bool(EMAIL.fullmatch(v)) for v in texts) > len(texts) / 2


# ---------------------------------------------------------------- key


def choose_key(sample: TableSample, personal: Sequence[str]) -> tuple[list[str], str]:
    """The time, an id, or the time with the columns that say of what a row is, if they differ in every row."""
    frame, time = sample.frame, sample.table.time
    if frame[time].is_unique and frame[time].notna().all():
        return [time], "every row has its own time"
    usable = [n for n in sample.features if n not in personal and _may_identify(frame[n])]
    for name in sorted(usable, key=lambda n: not ID.search(n)):
        if frame[name].is_unique and _is_code(name, frame[name]):
            return [name], "differs in every row"
    for names in _joined(frame, time, usable):
        count = len(frame[list(names)].drop_duplicates())
        return [time, *names], f"{count:,} different {listed(names)}, each once at a time"
    return [], "no columns tell all rows apart; rows are numbered"


def _may_identify(column: pd.Series) -> bool:
    """Complete columns of texts or whole numbers with more than one value."""
    if column.isna().any() or pd.api.types.is_bool_dtype(column.dtype):
        return False
    if pd.api.types.is_float_dtype(column.dtype) or pd.api.types.is_datetime64_any_dtype(
        column.dtype
    ):
        return False
    return bool((column != column.iloc[0]).any())


def _is_code(name: str, column: pd.Series) -> bool:
    """Whether values that differ in every row were given out, not measured: by name, by form, or in turn."""
    if ID.search(name):
        return True
    if pd.api.types.is_numeric_dtype(column.dtype):
        return int(column.max()) - int(column.min()) + 1 == len(column)
    return bool(column.astype("str").str.len().max() <= LONGEST_CODE)


def _joined(frame: pd.DataFrame, time: str, usable: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Columns, then pairs of them, that differ in every row of the same time.

    Ids come first, then texts; of single columns those of the fewest values, of pairs those that stand first
    in the table, as keys do.
    """
    codes = {n: pd.factorize(frame[n])[0].astype("int64") for n in (time, *usable)}
    distinct = {n: int(c.max()) + 1 for n, c in codes.items()}
    most = int(np.bincount(codes[time] + 1).max())  # rows of one time

    def order(name: str) -> tuple[bool, bool]:
        return not ID.search(name), pd.api.types.is_numeric_dtype(frame[name].dtype)

    def differ(*names: str) -> bool:
        joined = codes[time]
        for name in names:
            joined = pd.factorize(joined * distinct[name] + codes[name])[0]
        return len(np.unique(joined)) == len(joined)

    for name in sorted(usable, key=lambda n: (order(n), distinct[n])):
        if distinct[name] >= most and differ(name):
            yield (name,)
    for pair in itertools.combinations(sorted(usable, key=order)[:MOST_JOINED], 2):
        if distinct[pair[0]] * distinct[pair[1]] >= most and differ(*pair):
            yield pair


# ---------------------------------------------------------------- known only afterwards


def choose_ignored(
    sample: TableSample, task: str, personal: Sequence[str]
) -> tuple[list[str], str]:
    """Columns that are known only after the prediction is made, each with what shows it."""
    found: dict[str, str] = {}
    for names, reason in (
        (_telling(sample, task), "tells the target by itself"),
        (_later_times(sample), f"later than {sample.table.time!r}"),
        (_filled_with_the_target(sample), "empty where the target is not known yet"),
    ):
        for name in names:
            if name not in personal:
                found.setdefault(name, reason)
    groups = itertools.groupby(sorted(found, key=lambda n: found[n]), key=lambda n: found[n])
    reasons = [f"{listed(names)}: {reason}" for reason, names in groups]
    return list(found), "; ".join(reasons) or "no column is plainly known only afterwards"


def _telling(sample: TableSample, task: str) -> list[str]:
    """Columns that tell the target by themselves, which the contract would refuse."""
    return [n for n, strength in _strengths(sample, task).items() if strength > LEAK]


def _strengths(sample: TableSample, task: str) -> dict[str, float]:
    """AUC or correlation of each column with the target, in the newest rows."""
    newest = sample.labelled.sort_values(kind="stable").tail(LEAK_ROWS).index
    values = sample.truth[newest].reset_index(drop=True)
    regression = task == "regression"
    truth = values.astype("float64") if regression else pd.Series(pd.factorize(values)[0])
    classes = () if regression else tuple(sorted(truth.unique()))
    found = {}
    for name in sample.features:
        column = sample.frame.loc[newest, name].reset_index(drop=True)
        if pd.api.types.is_datetime64_any_dtype(column.dtype):
            continue
        number = pd.api.types.is_numeric_dtype(column.dtype)
        cells = column.astype("float64" if number else "object")
        found[name] = predictive_strength(cells, truth, classes)
    return found


def _later_times(sample: TableSample) -> list[str]:
    """Columns of times that are after the row's own time in most rows."""
    found = []
    for name in sample.features:
        if pd.api.types.is_datetime64_any_dtype(sample.frame[name].dtype):
            lags = (naive(sample.frame[name]) - sample.times).dropna()
            if len(lags) and (lags > pd.Timedelta(0)).mean() > LATER:
                found.append(name)
    return found


def _filled_with_the_target(sample: TableSample) -> list[str]:
    """Columns that are filled where the target is, and empty in the rows at the end that have none yet."""
    waiting = sample.to_predict.index
    if len(waiting) < MIN_PER_CLASS:
        return []
    missing = sample.frame[sample.features].isna()
    blank = missing.loc[waiting].mean() >= BLANK
    filled = missing.loc[sample.labelled.index].mean() <= FILLED
    return list(np.asarray(sample.features)[(blank & filled).to_numpy()])


def suspects(sample: TableSample, task: str, settled: set[str]) -> list[str]:
    """Questions about columns that may be known only afterwards: by their names, or by how much they tell."""
    names = [n for n in sample.features if n not in settled and AFTERWARDS.search(n)]
    question = "known when the prediction is made? If not, add them to ignore"
    found = [f"{listed(names)}: {question}"] if names else []
    measure = "correlation" if task == "regression" else "AUC"
    strong = {n: s for n, s in _strengths(sample, task).items() if n not in settled and s > STRONG}
    if strong:
        shown = listed(f"{n} ({measure} {s:.2f})" for n, s in strong.items())
        found.append(f"{shown}: alone close to the target; {question}")
    return found


def choose_label_delay(sample: TableSample) -> tuple[str | None, str]:
    """How long after a row's time its later times have passed."""
    for name in _later_times(sample):
        lags = (naive(sample.frame[name]) - sample.times).dropna()
        slowest = lags.quantile(EARLY).total_seconds()
        if 0 < slowest <= sample.seconds / BLOCKS:
            days = slowest >= 36 * 3600
            delay = f"{math.ceil(slowest / 86400)}d" if days else f"{math.ceil(slowest / 3600)}h"
            return (
                delay,
                f"{EARLY:.0%} of {name!r} are at most this long after {sample.table.time!r}",
            )
    return None, "labels are known at once; if they come later, say after how long"
