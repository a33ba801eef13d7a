"""What the data must look like: written down at the first pull, enforced ever after.

The contract is a small JSON file beside the problem file, meant to be read, changed and committed by
people. Data that breaks it is refused before any model is touched.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd
import pandera.pandas as pa

from automl.errors import ContractError, HistoryError, ProblemError
from automl.history import ROW_ID, Kind
from automl.problem import Problem

__all__ = [
    "Contract",
    "check",
    "check_batch",
    "contract_file",
    "infer",
    "load_contract",
    "save_contract",
]

MIN_ROWS = 200  # below, a time split leaves too few rows to choose anything by
MIN_PER_CLASS = 20
MOST_CATEGORIES_SHARE = 0.5  # a text column with more distinct values than this is an id
_DTYPES: Mapping[Kind, str] = {"number": "float64", "text": "str", "time": "datetime64[us]"}


@dataclass(frozen=True, slots=True)
class Contract:
    """Kinds of the columns that features are made of, and the classes of the target.

    `features` are used; `unused` says why a column is not. `classes` is empty for regression; for
    binary problems the positive class comes second.
    """

    features: dict[str, Kind]
    unused: dict[str, str]
    classes: tuple[str | int, ...]

    def kinds(self, problem: Problem) -> dict[str, Kind]:
        """Every column a pull must bring, with its kind."""
        h = problem.history
        named = [
            h.time,
            *h.key,
            *h.group,
            *problem.metric.slices,
            *([h.weight] if h.weight else []),
        ]
        roles: dict[str, Kind] = {name: self.features.get(name, "text") for name in named}
        if h.weight:
            roles[h.weight] = "number"
        if h.label_time:
            roles[h.label_time] = "time"
        return {**roles, **self.features, h.time: "time", h.target: "number"}


def contract_file(problem: Problem) -> Path:
    """`problem.toml` -> `problem.contract.json` beside it."""
    return problem.file.with_suffix(".contract.json")


def load_contract(problem: Problem) -> Contract | None:
    """The contract, or None before the first pull.

    Raises
    ------
    ProblemError
        The file is there but is not a contract.
    """
    path = contract_file(problem)
    if not path.exists():
        return None
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        contract = Contract(dict(data["features"]), dict(data["unused"]), tuple(data["classes"]))
    except (KeyError, TypeError, ValueError) as error:  # ValueError: not JSON, not UTF-8, not pairs
        raise ProblemError(
            f"{path}: not a contract file: {error}",
            code="contract_file",
            next_step="Restore it from version control, or delete it so that the next pull infers it anew.",
        ) from error
    wrong = {name: kind for name, kind in contract.features.items() if kind not in tuple(_DTYPES)}
    if wrong:
        raise ProblemError(
            f"{path}: found kinds {wrong}; wanted number, text or time", code="contract_file"
        )
    return contract


def save_contract(problem: Problem, contract: Contract) -> None:
    """Write the contract beside the problem file."""
    path = contract_file(problem)
    aside = path.with_suffix(f".{os.getpid()}.tmp")
    aside.write_text(json.dumps(asdict(contract), indent=2) + "\n", encoding="utf-8")
    os.replace(aside, path)


def infer(frame: pd.DataFrame, problem: Problem) -> Contract:
    """The contract that these labelled rows suggest.

    Raises
    ------
    HistoryError
        The target does not fit the task: constant, one class, or the positive class is missing.
    """
    h = problem.history
    roles = {h.target, h.weight, h.label_time, ROW_ID, *h.key, *h.group} - {h.time}
    features: dict[str, Kind] = {}
    unused = {name: "key" for name in h.key if name != h.time} | dict.fromkeys(h.group, "group")
    for name in frame.columns:
        if name in roles:
            continue
        column = frame[name]
        if pd.api.types.is_datetime64_any_dtype(column):
            features[name] = "time"
        elif pd.api.types.is_float_dtype(column):
            features[name] = "number"
        elif column.nunique() > max(100, MOST_CATEGORIES_SHARE * len(column)):
            unused[name] = "nearly unique text"
        else:
            features[name] = "text"
    contract = Contract(features, unused, _classes(frame, problem))
    _check_target(frame, problem, contract)
    return contract


def check(frame: pd.DataFrame, contract: Contract, problem: Problem) -> list[str]:
    """Refuse rows that would harm a champion; return warnings in plain words.

    Raises
    ------
    ContractError
        A column vanished or changed its kind.
    HistoryError
        The target is constant, has one class or unknown classes, or too few rows are left.
    """
    _check_columns(frame, contract, problem)
    _check_target(frame, problem, contract)
    empty = [name for name in contract.features if frame[name].isna().all()]
    return [f"column {name!r} is empty" for name in empty]


def check_batch(frame: pd.DataFrame, contract: Contract, problem: Problem) -> list[str]:
    """Refuse a batch that the model cannot score, or whose key is not unique."""
    _check_columns(frame, contract, problem)
    empty = [name for name in contract.features if frame[name].isna().all()]
    return [f"column {name!r} is empty in the batch" for name in empty]


def _check_columns(frame: pd.DataFrame, contract: Contract, problem: Problem) -> None:
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
            next_step=f"Mend the source, or change {contract_file(problem).name}.",
        ) from None


def _breach(law: str, name: str, frame: pd.DataFrame, contract: Contract) -> str:
    if law == "column_in_dataframe":
        return f"column {name!r} is missing"
    if law == "not_nullable":
        return f"key {name!r}: found rows without it"
    if "uniqueness" in law:
        return f"key {name!r}: found the same key more than once"
    return f"column {name!r}: found {frame[name].dtype}; wanted {contract.features[name]}"


def _classes(frame: pd.DataFrame, problem: Problem) -> tuple[str | int, ...]:
    if problem.task == "regression":
        return ()
    values = frame[problem.history.target].unique().tolist()
    found = sorted(values, key=lambda v: (str(type(v)), v))
    if (
        problem.task == "multiclass" or len(found) != 2
    ):  # one class or three: refused in words of their own
        return tuple(found)
    positive = problem.history.positive
    wanted = found[-1] if positive is None else positive
    match = [v for v in found if v == wanted or str(v) == str(wanted)]
    if not match:
        raise HistoryError(
            f"history.positive: found {positive!r}; the target {problem.history.target!r} holds "
            f"{', '.join(map(repr, found[:8]))}",
            code="positive",
            next_step="Set history.positive to the value that the prediction is about.",
        )
    return (*[v for v in found if v != match[0]], match[0])


def _check_target(frame: pd.DataFrame, problem: Problem, contract: Contract) -> None:
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
            next_step="Check history.query and history.target.",
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
