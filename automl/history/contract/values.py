"""The contract as a value, and its file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, get_args

from automl.errors import ProblemError
from automl.files import USERS_UMASK, replacing, umask
from automl.history.rows.kinds import ColumnKind
from automl.problem import Problem

__all__ = ["Contract", "Finding", "contract_file", "load_contract", "save_contract"]

VERSION = 1


class Finding(NamedTuple):
    """Something about the data that is worth a warning: a stable code and a text."""

    code: str
    text: str

    def __str__(self) -> str:
        return f"{self.text} [{self.code}]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Contract:
    """The kinds of the feature columns, and the classes of the target.

    Attributes
    ----------
    features
        Columns that models use, with their kinds.
    unused
        Columns that they do not use: column -> reason.
    classes
        Classes of the target; of a binary problem the positive one comes second. Empty for regression.
    roles
        Kinds of key, target and group columns.
    nulls, gaps
        Texts that are read as missing, in every column and in one.
    categories, ranges
        Values of each feature when the contract was written.
    allowed
        Findings that a user has accepted: column -> {code: reason}.
    """

    features: dict[str, ColumnKind]
    unused: dict[str, str] = field(default_factory=dict)
    classes: tuple[str | int, ...]
    roles: dict[str, ColumnKind] = field(default_factory=dict)
    nulls: tuple[str, ...] = ()
    gaps: dict[str, tuple[str, ...]] = field(default_factory=dict)
    categories: dict[str, tuple[str, ...]] = field(default_factory=dict)
    ranges: dict[str, tuple[float, float]] = field(default_factory=dict)
    allowed: dict[str, dict[str, str]] = field(default_factory=dict)

    def kinds(self, problem: Problem) -> dict[str, ColumnKind]:
        """Every column that a pull must return, with its kind."""
        h = problem.history
        named = [*h.key, *h.group, *problem.metric.slices]
        roles: dict[str, ColumnKind] = {
            name: self.roles.get(name, self.features.get(name, "text")) for name in named
        }
        roles |= dict.fromkeys((n for n in h.key if n in h.personal), "text")  # a hash
        roles |= dict.fromkeys((n for n in (h.weight,) if n), "number")
        roles |= dict.fromkeys((n for n in (h.label_time,) if n), "time")
        whole = bool(self.classes) and all(isinstance(c, int) for c in self.classes)
        target: ColumnKind = "whole" if whole else "text" if self.classes else "number"
        return {**roles, **self.features, h.time: "time", h.target: target}

    def allows(self, column: str, code: str) -> bool:
        """Whether the contract allows this finding about a column."""
        return code in self.allowed.get(column, {})


def contract_file(problem: Problem) -> Path:
    """`problem.toml` -> `problem.contract.json` in the same folder."""
    return problem.file.with_suffix(".contract.json")


def load_contract(problem: Problem) -> Contract | None:
    """The contract, or None before the first pull.

    Raises
    ------
    ProblemError
        The file exists but is not a contract.
    """
    path = contract_file(problem)
    if not path.exists():
        return None
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        wrong = _wrong_kinds(data)
        contract = None if wrong else _from_json(data)
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        # ValueError: not JSON, not UTF-8, not pairs
        raise ProblemError(
            f"{path}: not a contract file: {error}",
            code="contract_file",
            next_step="Restore it from version control, or delete it so that the next pull infers a new one.",
        ) from error
    if wrong:
        raise ProblemError(
            f"{path}: found kinds {wrong}; wanted number, text or time",
            code="contract_file",
            next_step='Write one line per column, such as "weight": {"kind": "number"}.',
        )
    return contract


def save_contract(problem: Problem, contract: Contract) -> None:
    """Write the contract next to the problem file, one line per column."""
    path = contract_file(problem)
    with umask(USERS_UMASK), replacing(path) as staged:
        staged.write_text(_as_text(problem, contract), encoding="utf-8")


def _wrong_kinds(data: Mapping[str, Any]) -> dict[str, Any]:
    """Columns whose entry is malformed or has an unknown kind."""
    wrong = {
        name: entry.get("kind") if isinstance(entry, dict) else entry
        for name, entry in data["features"].items()
        if not isinstance(entry, dict) or entry.get("kind") not in get_args(ColumnKind)[:3]
    }
    roles = data.get("roles", {})
    return wrong | {name: kind for name, kind in roles.items() if kind not in get_args(ColumnKind)}


def _from_json(data: Mapping[str, Any]) -> Contract:
    features, roles = data["features"], data.get("roles", {})
    columns = {name: dict(entry) for name, entry in features.items()}
    return Contract(
        features={name: entry["kind"] for name, entry in columns.items()},
        unused=dict(data["unused"]),
        classes=tuple(data["classes"]),
        roles=dict(roles),
        nulls=tuple(data.get("nulls", ())),
        gaps={name: tuple(texts) for name, texts in data.get("gaps", {}).items()},
        categories={n: tuple(t["categories"]) for n, t in columns.items() if "categories" in t},
        ranges={n: (t["range"][0], t["range"][1]) for n, t in columns.items() if "range" in t},
        allowed={n: dict(t["allowed"]) for n, t in columns.items() if "allowed" in t},
    )


def _as_text(problem: Problem, contract: Contract) -> str:
    h = problem.history
    columns: dict[str, dict[str, Any]] = {}
    for name, kind in contract.features.items():
        columns[name] = {"kind": kind}
        if name in contract.categories:
            columns[name]["categories"] = list(contract.categories[name])
        if name in contract.ranges:
            columns[name]["range"] = list(contract.ranges[name])
        if name in contract.allowed:
            columns[name]["allowed"] = contract.allowed[name]
    content: dict[str, Any] = {
        "version": VERSION,
        "time": h.time,
        "timezone": h.timezone,
        "key": list(h.key),
        "target": h.target,
        "classes": list(contract.classes),
        "nulls": list(contract.nulls),
        **({"gaps": {n: list(t) for n, t in contract.gaps.items()}} if contract.gaps else {}),
        "roles": contract.roles,
        "features": columns,
        "unused": contract.unused,
    }
    lines = []
    for name, value in content.items():
        if isinstance(value, dict) and value:
            inner = ",\n".join(f"    {_line(k)}: {_line(v)}" for k, v in value.items())
            lines.append(f"  {_line(name)}: {{\n{inner}\n  }}")
        else:
            lines.append(f"  {_line(name)}: {_line(value)}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _line(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
