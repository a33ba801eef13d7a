"""What a champion is protected from: findings on a snapshot or a batch, each with a stable code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

import numpy as np
import pandas as pd
import pandera.pandas as pa
from scipy.stats import rankdata

from automl.errors import ContractError, HistoryError
from automl.history.contract.values import Contract, Finding, contract_file
from automl.history.rows.casting import ROW_ID, Kind, unread, utc_naive
from automl.problem import Problem

__all__ = [
    "MIN_PER_CLASS",
    "MIN_ROWS",
    "check",
    "check_batch",
    "check_target",
    "check_weights",
    "counted",
    "tells_alone",
]

MIN_ROWS = 200  # below, a time split leaves too few rows to choose anything by
MIN_PER_CLASS = 20
LEAK = 0.99  # AUC or correlation of one column alone that no honest column reaches
LEAK_ROWS = 20_000  # newest rows on which leaks are looked for
UNSEEN = 0.05  # share of cells with a category that the contract does not list
JUMP = 30.0  # factor of a target's median between blocks that only another unit explains
SHIFT = 5.0  # ... that a person should know of
BEHIND = 2  # blocks that a source may lag behind before it is called behind
MANY = 1_000  # columns; each costs every fit
LABELS_OPEN = (
    " A row without history.label_time has no label: a class that is only known at the end, "
    "such as a customer who stayed, needs the time of that end."
)
_DTYPES: Mapping[Kind, str] = {"number": "float64", "text": "str", "time": "datetime64[us]"}


def check(
    frame: pd.DataFrame,
    contract: Contract,
    problem: Problem,
    offered: Sequence[str] = (),
    *,
    as_of: datetime | None = None,
) -> list[Finding]:
    """Refuse rows that would harm a champion; return what a person should know.

    `offered` are all columns of the source; without `as_of` nobody asks whether the source is behind.

    Raises
    ------
    ContractError
        A column vanished, changed its kind, or fell silent.
    HistoryError
        The target is constant, has one class or unknown classes, leaks into a column, or jumped in
        scale; too few rows are left, the newest ones are old, or no column is used.
    """
    _check_columns(frame, contract, problem)
    check_weights(frame, problem)
    check_target(counted(frame, problem), problem, contract)
    if as_of is not None:
        _check_behind(frame, problem, as_of)
    newest = _newest_block(frame, problem)
    _check_silence(frame, newest, contract, problem)
    found = _check_jump(frame, newest, problem) + _undefined(counted(frame, problem), problem)
    _check_leaks(frame, contract, problem)
    found += _other_columns(offered, contract, problem) + _same_rows(frame)
    return [*found, *_noticed(frame, newest, contract)]


def check_batch(
    frame: pd.DataFrame, contract: Contract, problem: Problem, offered: Sequence[str] = ()
) -> list[Finding]:
    """Refuse a batch that the model cannot score, or whose key is not unique."""
    _check_columns(frame, contract, problem)
    target = problem.history.target
    told = [Finding("target_in_batch", f"the batch holds the target {target!r}; it was not read")]
    fresh = [f for f in _other_columns(offered, contract, problem) if f.code == "column_new"]
    return [*(told if target in offered else []), *fresh, *_noticed(frame, frame, contract)]


def _newest_block(frame: pd.DataFrame, problem: Problem) -> pd.DataFrame:
    times = frame[problem.history.time]
    last = times.iloc[-1].to_pydatetime()
    return frame[times > utc_naive(problem.validation.block.before(last))]


def _noticed(frame: pd.DataFrame, newest: pd.DataFrame, contract: Contract) -> list[Finding]:
    found: list[Finding] = []
    for name in contract.features:
        column = newest[name]
        if frame[name].isna().all():
            found.append(Finding("all_missing", f"column {name!r} is empty"))
            continue
        known = column.dropna()
        if name in contract.categories and len(known):
            unseen = known[~known.isin(contract.categories[name])]
            if len(unseen) > UNSEEN * len(known):
                found.append(
                    Finding(
                        "category_unseen",
                        f"column {name!r}: {len(unseen) / len(known):.0%} of the newest cells hold categories "
                        f"that the contract does not list, such as {unseen.iloc[0]!r}",
                    )
                )
        if name in contract.ranges and len(known):
            low, high = contract.ranges[name]
            outside = ((known < low) | (known > high)).mean()
            if outside > UNSEEN:
                found.append(
                    Finding(
                        "range_left",
                        f"column {name!r}: {outside:.0%} of the newest cells lie outside {low:g} to {high:g}",
                    )
                )
    return found


def _other_columns(offered: Sequence[str], contract: Contract, problem: Problem) -> list[Finding]:
    """Columns that came or went and are not used; one that is used would have been refused."""
    h = problem.history
    known = {*contract.kinds(problem), *contract.unused, *unread(problem), h.updated_at}
    found = [
        Finding(
            "column_new", f"column {name!r} is new and not used; take it: automl contract --accept"
        )
        for name in offered
        if name not in known
    ]
    if "" in offered:
        said = "a column without a name is not used; name it in history.query"
        found.append(Finding("column_nameless", said))
    gone = [name for name in contract.unused if offered and name not in offered]
    found += [
        Finding("column_removed", f"column {name!r} is gone; it was not used") for name in gone
    ]
    if len(contract.features) > MANY:
        said = f"{len(contract.features):,} columns: fits take long, few of them may fit the budget"
        found.append(Finding("many_columns", said))
    return found


def _same_rows(frame: pd.DataFrame) -> list[Finding]:
    """Rows without a key that are equal to another; both are kept, for both may have happened."""
    if ROW_ID not in frame.columns:
        return []
    again = ~frame[ROW_ID].astype("str").str.endswith("-0")
    if not again.any():
        return []
    said = f"{int(again.sum())} rows ({again.mean():.1%}) equal another; a history.key would tell them apart"
    return [Finding("same_row", said)]


def _check_silence(
    frame: pd.DataFrame, newest: pd.DataFrame, contract: Contract, problem: Problem
) -> None:
    """A column that was always filled and is empty for a whole block has lost its source."""
    if len(newest) == len(frame):
        return
    before = frame.iloc[: len(frame) - len(newest)]
    for name in contract.features:
        silent = newest[name].isna().all() and before[name].notna().mean() > LEAK
        if silent and not contract.allows(name, "feature_empty"):
            raise ContractError(
                f"column {name!r}: empty in all {len(newest)} newest rows, filled before; wanted values",
                code="feature_empty",
                next_step='Mend the source, or write "allowed": {"feature_empty": "why"} beside the '
                f"column in {contract_file(problem).name}.",
            )


def _check_behind(frame: pd.DataFrame, problem: Problem, as_of: datetime) -> None:
    """A gap longer than `BEHIND` blocks, and than any gap the history has seen, is no season but a fault."""
    h = problem.history
    times = frame[h.time]
    ripe = problem.mature(as_of)
    open_ended = h.label_time and not h.label_delay
    delay = (frame[h.label_time] - times).max() if open_ended else pd.Timedelta(0)
    lag = utc_naive(ripe) - delay - times.iloc[-1]
    blocks = utc_naive(ripe) - utc_naive(
        problem.validation.block.before(ripe, BEHIND, zone=problem.zone)
    )
    if lag > max(blocks, times.diff().max()):
        raise HistoryError(
            f"history: the newest labelled row is of {times.iloc[-1]:%Y-%m-%d %H:%M}, as_of is "
            f"{as_of:%Y-%m-%d %H:%M}; wanted rows of the last {BEHIND} blocks",
            code="source_behind",
            next_step="Run the same command again when the source has caught up, or give an earlier --as-of.",
        )


def _check_jump(frame: pd.DataFrame, newest: pd.DataFrame, problem: Problem) -> list[Finding]:
    if problem.task != "regression" or not MIN_PER_CLASS <= len(newest) < len(frame):
        return []
    before = frame.iloc[: len(frame) - len(newest)][problem.history.target].abs().median()
    now = newest[problem.history.target].abs().median()
    if before > 0 and now > 0 and not 1 / JUMP < now / before < JUMP:
        raise HistoryError(
            f"target {problem.history.target!r}: its median went from {before:g} to {now:g} in the newest "
            f"block; wanted less than a factor of {JUMP:g}",
            code="target_jump",
            next_step="Its unit may have changed; convert it in history.query.",
        )
    if before > 0 and now > 0 and not 1 / SHIFT < now / before < SHIFT:
        said = f"target {problem.history.target!r}: its median went from {before:g} to {now:g}"
        return [Finding("target_shifted", f"{said} in the newest block")]
    return []


def _undefined(frame: pd.DataFrame, problem: Problem) -> list[Finding]:
    """Further metrics that have no value on some rows."""
    zeros = int((frame[problem.history.target] == 0).sum()) if "mape" in problem.metric.also else 0
    if not zeros:
        return []
    said = f"target {problem.history.target!r}: {zeros} of {len(frame)} rows are 0, where mape is not defined"
    return [Finding("mape_undefined", f"{said}; it is left out wherever one of them is judged")]


def _check_leaks(frame: pd.DataFrame, contract: Contract, problem: Problem) -> None:
    sample = frame.tail(LEAK_ROWS)
    truth = sample[problem.history.target]
    for name, kind in contract.features.items():
        if kind == "time" or contract.allows(name, "leak"):
            continue
        strength = tells_alone(sample[name], truth, contract.classes)
        if strength > LEAK:
            raise HistoryError(
                f"column {name!r}: tells the target {problem.history.target!r} by itself ({strength:.3f}); "
                "wanted what is known when the prediction is made",
                code="leak",
                next_step='Add it to history.ignore; or, if it is honest, write "allowed": {"leak": "why"} '
                f"beside the column in {contract_file(problem).name}.",
            )


def tells_alone(column: pd.Series, truth: pd.Series, classes: Sequence[object] = ()) -> float:
    """AUC of one column alone, the better direction; correlation for regression. Gaps count as a value."""
    if not classes:
        values = column if pd.api.types.is_float_dtype(column) else _mean_coded(column, truth)
        both = values.notna() & truth.notna()
        if both.sum() < MIN_PER_CLASS or values[both].nunique() < 2:
            return 0.0
        return abs(float(np.corrcoef(values[both], truth[both])[0, 1]))
    best = 0.0
    for label in classes[-1:] if len(classes) == 2 else classes:
        hit = (truth == label).astype("float64")
        values = column if pd.api.types.is_float_dtype(column) else _mean_coded(column, hit)
        seen = values.notna().to_numpy(bool)
        positive = int(hit[seen].sum())
        negative = int(seen.sum()) - positive
        if min(positive, negative) < MIN_PER_CLASS or seen.mean() < 0.5:
            continue
        ranks = rankdata(values[seen])
        ranked = ranks[hit[seen].to_numpy() == 1].sum()
        auc = (ranked - positive * (positive + 1) / 2) / (positive * negative)
        best = max(best, auc, 1 - auc)
    return best


def _mean_coded(column: pd.Series, truth: pd.Series) -> pd.Series:
    """Categories as the mean target of the older half; the newer half is then judged."""
    half = len(column) // 2
    means = truth.iloc[:half].groupby(column.iloc[:half]).mean()
    coded = column.map(means).astype("float64")
    coded.iloc[:half] = np.nan
    return coded


def _check_columns(frame: pd.DataFrame, contract: Contract, problem: Problem) -> None:
    if not contract.features:
        raise HistoryError(
            f"{contract_file(problem).name}: found no column under features; wanted at least one",
            code="no_features",
            next_step="Move a column from unused to features, or bring more columns.",
        )
    key = list(problem.history.key or (ROW_ID,))
    columns = {n: pa.Column(_DTYPES[k], nullable=True) for n, k in contract.features.items()}
    columns |= {name: pa.Column(nullable=False) for name in key}
    try:
        pa.DataFrameSchema(columns, unique=key).validate(frame, lazy=True)
    except pa.errors.SchemaErrors as error:
        cases = error.failure_cases
        # a missing column is told as a failure case of no column
        cases["column"] = cases["column"].fillna(cases["failure_case"])
        pairs = cases[["check", "column"]].drop_duplicates().itertuples(index=False)
        lines = sorted(_breach(str(law), str(name), frame, contract) for law, name in pairs)
        raise ContractError(
            "the data breaks the contract:\n" + "\n".join(f"  {line}" for line in lines),
            code="contract",
            next_step=f"Mend the source, or take the change: automl contract {problem.file.name} --accept",
        ) from None


def _breach(law: str, name: str, frame: pd.DataFrame, contract: Contract) -> str:
    if law == "column_in_dataframe":
        return f"column {name!r} is missing"
    if law == "not_nullable":
        return f"key {name!r}: found rows without it"
    if "uniqueness" in law:
        return f"key {name!r}: found the same key more than once"
    return f"column {name!r}: found {frame[name].dtype}; wanted {contract.features[name]}"


def check_weights(frame: pd.DataFrame, problem: Problem) -> None:
    """Refuse row weights that are negative or missing, and those that leave no row."""
    name = problem.history.weight
    if not name:
        return
    weight = frame[name].to_numpy("float64")
    below, missing = int((weight < 0).sum()), int((~np.isfinite(weight)).sum())
    found = [f"{below} negative"] if below else []
    found += [f"{missing} missing or infinite"] if missing else []
    if found:
        raise HistoryError(
            f"history.weight {name!r}: found {' and '.join(found)} values in {len(frame)} rows; wanted "
            "numbers of at least 0",
            code="bad_weight",
            next_step="Correct them in the source, or in history.query: where the weight is unknown, 1 counts "
            "the row once, and 0 leaves it out.",
        )
    if not weight.any():
        raise HistoryError(
            f"history.weight {name!r}: found 0 in all {len(frame)} rows; wanted some above 0",
            code="no_weight",
            next_step="Correct history.query, or leave history.weight out so that all rows count alike.",
        )


def counted(frame: pd.DataFrame, problem: Problem) -> pd.DataFrame:
    """The rows that count: those of weight 0 are as if they were not there."""
    name = problem.history.weight
    if not name or (frame[name] > 0).all():
        return frame
    return frame[frame[name] > 0].reset_index(drop=True)


def check_target(frame: pd.DataFrame, problem: Problem, contract: Contract) -> None:
    """Refuse a target that nothing can be learned from, or whose classes are not the agreed ones."""
    target = problem.history.target
    column = frame[target]
    if len(frame) < MIN_ROWS:
        raise HistoryError(
            f"history: found {len(frame)} labelled rows; wanted at least {MIN_ROWS}",
            code="too_few_rows",
            next_step="Wait for more labels, or raise history.keep.",
        )
    if problem.task == "regression":
        if not pd.api.types.is_float_dtype(column):
            raise HistoryError(
                f"target {target!r}: found text; task regression wants numbers", code="target_kind"
            )
        if column.isna().any():  # rows without a label never come this far
            raise HistoryError(
                f"target {target!r}: found {int(column.isna().sum())} infinite values; wanted numbers",
                code="infinite_target",
                next_step="Mend them in the source, or leave them out in history.query.",
            )
        zeros = int((column == 0).sum())
        if zeros and problem.metric.name == "mape":
            raise HistoryError(
                f"target {target!r}: found {zeros} rows of 0 among {len(frame)}; metric mape divides by the "
                "target and wants none",
                code="zero_target",
                next_step='Set metric.name = "mae" (or rmse), or leave these rows out in history.query.',
            )
        if column.nunique() < 2:
            raise HistoryError(
                f"target {target!r}: every row holds {column.iloc[0]}; wanted at least two values",
                code="constant_target",
                next_step="Check history.query and history.target.",
            )
        return
    _check_classes(column.value_counts(), problem, contract)


def _check_classes(counts: pd.Series, problem: Problem, contract: Contract) -> None:
    target = problem.history.target
    if len(counts) < 2:
        raise HistoryError(
            f"target {target!r}: every row is {counts.index.tolist()[0]!r}; wanted at least two classes",
            code="single_class",
            next_step="Check history.query and history.target."
            + (LABELS_OPEN if problem.history.label_time else ""),
        )
    if problem.task == "binary" and len(counts) > 2:
        raise HistoryError(
            f"target {target!r}: found {len(counts)} classes, {', '.join(map(repr, counts.index[:8]))}; "
            "task binary wants two",
            code="too_many_classes",
            next_step='Set task = "multiclass", or make the query return two classes.',
        )
    unknown = [value for value in counts.index if value not in contract.classes]
    if unknown:
        raise ContractError(
            f"target {target!r}: found class {unknown[0]!r}; the contract knows "
            f"{', '.join(map(repr, contract.classes))}",
            code="new_class",
            next_step=f"If the class is right, add it to classes in {contract_file(problem).name}.",
        )
    gone = [value for value in contract.classes if value not in counts.index]
    if gone:
        raise ContractError(
            f"target {target!r}: class {gone[0]!r} has vanished; found {', '.join(map(repr, counts.index))}",
            code="class_vanished",
            next_step=f"Raise history.keep, or take the class out of {contract_file(problem).name}.",
        )
    if counts.min() < MIN_PER_CLASS:
        raise HistoryError(
            f"target {target!r}: class {counts.index.tolist()[-1]!r} has {counts.min()} rows; "
            f"wanted at least {MIN_PER_CLASS}",
            code="rare_class",
            next_step="Wait for more labels, raise history.keep, or merge rare classes in the query.",
        )
