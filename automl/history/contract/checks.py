"""Check a snapshot or a batch against the contract: refuse it, or return findings with stable codes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

import pandas as pd
import pandera.pandas as pa

from automl.errors import ContractError, HistoryError
from automl.history.contract.leaks import refuse_leaks
from automl.history.contract.target import MIN_PER_CLASS, check_target, check_weights, counted
from automl.history.contract.values import Contract, Finding, contract_file
from automl.history.rows.kinds import ColumnKind
from automl.history.rows.local_time import utc_naive
from automl.history.rows.roles import ROW_ID, unread
from automl.problem import Problem

__all__ = ["check", "check_batch"]

# share of filled cells before the newest block, above which an empty block is a fault
FILLED = 0.99
UNSEEN = 0.05  # share of cells with a category that the contract does not list
JUMP = 30.0  # factor of a target's median between blocks that only another unit explains
SHIFT = 5.0  # ... that is reported
BEHIND = 2  # blocks that the newest label may lag before the source is refused
MANY = 1_000  # columns; each costs every fit
_DTYPES: Mapping[ColumnKind, str] = {"number": "float64", "text": "str", "time": "datetime64[us]"}


def check(
    frame: pd.DataFrame,
    contract: Contract,
    problem: Problem,
    offered: Sequence[str] = (),
    *,
    as_of: datetime | None = None,
) -> list[Finding]:
    """Refuse rows that would harm the champion; return findings that are worth a warning.

    `offered` are all columns of the source. Without `as_of`, the age of the newest row is not checked.

    Raises
    ------
    ContractError
        A column is missing, changed its kind, or is empty in the newest block.
    HistoryError
        The target is constant, has one class or unknown classes, leaks into a column, or changed its
        scale; there are too few rows, the newest one is too old, or no column is used.
    """
    _check_columns(frame, contract, problem)
    check_weights(frame, problem)
    check_target(counted(frame, problem), problem, contract)
    if as_of is not None:
        _check_behind(frame, problem, as_of)
    newest = _newest_block(frame, problem)
    _check_emptied(frame, newest, contract, problem)
    findings = _check_jump(frame, newest, problem) + _undefined(counted(frame, problem), problem)
    refuse_leaks(frame, contract, problem)
    findings += _other_columns(offered, contract, problem) + _unused_texts(contract, problem)
    findings += _same_rows(frame)
    return [*findings, *_unusual_values(frame, newest, contract)]


def check_batch(
    frame: pd.DataFrame, contract: Contract, problem: Problem, offered: Sequence[str] = ()
) -> list[Finding]:
    """Refuse a batch that the model cannot score, or whose key is not unique."""
    _check_columns(frame, contract, problem)
    target = problem.history.target
    findings = [f for f in _other_columns(offered, contract, problem) if f.code == "column_new"]
    if target in offered:
        text = f"the batch contains the target {target!r}; it was not read"
        findings.insert(0, Finding("target_in_batch", text))
    return [*findings, *_unusual_values(frame, frame, contract)]


def _newest_block(frame: pd.DataFrame, problem: Problem) -> pd.DataFrame:
    times = frame[problem.history.time]
    last = times.iloc[-1].to_pydatetime()
    return frame[times > utc_naive(problem.validation.block.before(last))]


def _unusual_values(frame: pd.DataFrame, newest: pd.DataFrame, contract: Contract) -> list[Finding]:
    """Empty columns, and newest cells outside the categories and ranges of the contract."""
    findings: list[Finding] = []
    for name in contract.features:
        column = newest[name]
        if frame[name].isna().all():
            findings.append(Finding("all_missing", f"column {name!r} is empty"))
            continue
        cells = column.dropna()
        if name in contract.categories and len(cells):
            unseen = cells[~cells.isin(contract.categories[name])]
            if len(unseen) > UNSEEN * len(cells):
                findings.append(
                    Finding(
                        "category_unseen",
                        f"column {name!r}: {len(unseen) / len(cells):.0%} of the newest cells hold categories "
                        f"that the contract does not list, such as {unseen.iloc[0]!r}",
                    )
                )
        if name in contract.ranges and len(cells):
            low, high = contract.ranges[name]
            outside = ((cells < low) | (cells > high)).mean()
            if outside > UNSEEN:
                findings.append(
                    Finding(
                        "range_left",
                        f"column {name!r}: {outside:.0%} of the newest cells lie outside {low:g} to {high:g}",
                    )
                )
    return findings


def _other_columns(offered: Sequence[str], contract: Contract, problem: Problem) -> list[Finding]:
    """New columns, and missing ones that are not used; a missing feature is refused elsewhere."""
    h = problem.history
    listed = {*contract.kinds(problem), *contract.unused, *unread(problem), h.updated_at}
    findings = [
        Finding(
            "column_new",
            f"column {name!r} is new and not used; to use it: automl contract --accept",
        )
        for name in offered
        if name not in listed
    ]
    if "" in offered:
        text = "a column without a name is not used; name it in the source or in history.query"
        findings.append(Finding("column_nameless", text))
    missing = [name for name in contract.unused if offered and name not in offered]
    findings += [
        Finding("column_removed", f"unused column {name!r} is no longer in the source")
        for name in missing
    ]
    if len(contract.features) > MANY:
        text = f"{len(contract.features):,} feature columns make fits slow; few trials may fit the budget"
        findings.append(Finding("many_columns", text))
    return findings


def _unused_texts(contract: Contract, problem: Problem) -> list[Finding]:
    """Columns that are left out because of their texts; each may be one that models need."""
    file = contract_file(problem).name
    return [
        Finding(
            "text_unused",
            f"column {name!r} is not used: {reason}; to use it, move it to features in {file}, as a "
            "number with its other texts under gaps, or as a text",
        )
        for name, reason in contract.unused.items()
        if reason.startswith(("nearly unique text", "more than"))
    ]


def _same_rows(frame: pd.DataFrame) -> list[Finding]:
    """Rows without a key that equal another row; all are kept, because each may be a real event."""
    if ROW_ID not in frame.columns:
        return []
    again = ~frame[ROW_ID].astype("str").str.endswith("-0")
    if not again.any():
        return []
    text = f"{int(again.sum())} rows ({again.mean():.1%}) equal another row; set history.key to tell copies from events"
    return [Finding("same_row", text)]


def _check_emptied(
    frame: pd.DataFrame, newest: pd.DataFrame, contract: Contract, problem: Problem
) -> None:
    """Refuse a feature that was almost always filled and is empty in the whole newest block."""
    if len(newest) == len(frame):
        return
    before = frame.iloc[: len(frame) - len(newest)]
    for name in contract.features:
        emptied = newest[name].isna().all() and before[name].notna().mean() > FILLED
        if emptied and not contract.allows(name, "feature_empty"):
            raise ContractError(
                f"column {name!r}: empty in all {len(newest)} rows of the newest block, filled before; wanted values",
                code="feature_empty",
                next_step='Fix the source, or allow it: add "allowed": {"feature_empty": "reason"} to the column '
                f"in {contract_file(problem).name}.",
            )


def _check_behind(frame: pd.DataFrame, problem: Problem, as_of: datetime) -> None:
    """Refuse a source whose newest label lags more than `BEHIND` blocks and than any earlier gap (a season)."""
    h = problem.history
    times = frame[h.time]
    mature = problem.mature(as_of)
    open_ended = h.label_time and not h.label_delay
    delay = (frame[h.label_time] - times).max() if open_ended else pd.Timedelta(0)
    lag = utc_naive(mature) - delay - times.iloc[-1]
    blocks = utc_naive(mature) - utc_naive(
        problem.validation.block.before(mature, BEHIND, zone=problem.zone)
    )
    if lag > max(blocks, times.diff().max()):
        raise HistoryError(
            f"history: found no labelled row after {times.iloc[-1]:%Y-%m-%d %H:%M}, as_of is "
            f"{as_of:%Y-%m-%d %H:%M}; wanted rows of the last {BEHIND} blocks",
            code="source_behind",
            next_step="Run the same command again when the source is up to date, or give an earlier --as-of.",
        )


def _check_jump(frame: pd.DataFrame, newest: pd.DataFrame, problem: Problem) -> list[Finding]:
    if problem.task != "regression" or not MIN_PER_CLASS <= len(newest) < len(frame):
        return []
    before = frame.iloc[: len(frame) - len(newest)][problem.history.target].abs().median()
    now = newest[problem.history.target].abs().median()
    if before > 0 and now > 0 and not 1 / JUMP < now / before < JUMP:
        raise HistoryError(
            f"target {problem.history.target!r}: its median changed from {before:g} to {now:g} in the newest "
            f"block; wanted less than a factor of {JUMP:g}",
            code="target_jump",
            next_step="Check whether its unit changed; if so, convert it in history.query.",
        )
    if before > 0 and now > 0 and not 1 / SHIFT < now / before < SHIFT:
        text = f"target {problem.history.target!r}: its median changed from {before:g} to {now:g}"
        return [Finding("target_shifted", f"{text} in the newest block")]
    return []


def _undefined(frame: pd.DataFrame, problem: Problem) -> list[Finding]:
    """Metrics of `metric.also` that are undefined on some rows."""
    zeros = int((frame[problem.history.target] == 0).sum()) if "mape" in problem.metric.also else 0
    if not zeros:
        return []
    text = f"target {problem.history.target!r}: {zeros} of {len(frame)} rows are 0, where mape is undefined"
    return [Finding("mape_undefined", f"{text}; blocks with such rows have no mape")]


def _check_columns(frame: pd.DataFrame, contract: Contract, problem: Problem) -> None:
    if not contract.features:
        raise HistoryError(
            f"{contract_file(problem).name}: found no column under features; wanted at least one",
            code="no_features",
            next_step="Move a column from unused to features, or add columns to the source.",
        )
    key = list(problem.history.key or (ROW_ID,))
    columns = {n: pa.Column(_DTYPES[k], nullable=True) for n, k in contract.features.items()}
    columns |= {name: pa.Column(nullable=False) for name in key}
    try:
        pa.DataFrameSchema(columns, unique=key).validate(frame, lazy=True)
    except pa.errors.SchemaErrors as error:
        cases = error.failure_cases
        # pandera reports a missing column as a failure case without a column
        cases["column"] = cases["column"].fillna(cases["failure_case"])
        pairs = cases[["check", "column"]].drop_duplicates().itertuples(index=False)
        lines = sorted(_breach(str(rule), str(name), frame, contract) for rule, name in pairs)
        raise ContractError(
            "the data break the contract:\n" + "\n".join(f"  {line}" for line in lines),
            code="contract",
            next_step=f"Fix the source, or accept the change: automl contract {problem.file.name} --accept",
        ) from None


def _breach(rule: str, name: str, frame: pd.DataFrame, contract: Contract) -> str:
    if rule == "column_in_dataframe":
        return f"column {name!r} is missing"
    if rule == "not_nullable":
        return f"key {name!r}: found rows without a value"
    if "uniqueness" in rule:
        return f"key {name!r}: found the same key more than once"
    return f"column {name!r}: found {frame[name].dtype}; wanted {contract.features[name]}"
