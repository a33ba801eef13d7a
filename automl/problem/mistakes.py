"""Find every mistake of a problem file at once: wrong values, contradicting keys, missing files.

Works on the raw content of the file, before it is valid.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from automl.problem.places import family_names
from automl.problem.section import did_you_mean
from automl.problem.sections import METRICS, Problem

__all__ = ["conflicts", "explain"]

# Columns of every predictions table besides key and time
PUBLISHED = {
    "prediction", "probability", "low", "high", "generation", "model_version", "run_id", "as_of", "scored_at", "class",
}  # fmt: skip

LONGEST_NAME = 63  # bytes; PostgreSQL cuts longer column names


def conflicts(content: Mapping[str, Any], file: Path) -> list[str]:
    """Keys that contradict each other, found even if the file has other mistakes."""
    task, h, sweep = content.get("task"), _section(content, "history"), _section(content, "sweep")
    wrong = ["file: unknown key"] if "file" in content else []
    if h:
        wrong += [f"history: {line}" for line in _history_conflicts(h)]
    metric = _section(content, "metric")
    hidden = sorted({*_texts(metric.get("slices"))} & {*_texts(h.get("ignore"))})
    if hidden:
        wrong.append(
            f"metric.slices: found {', '.join(hidden)}, which history.ignore keeps from being read"
        )
    wrong += [
        f"history.personal: found {name!r}, which is {role}; wanted key columns, or columns without another "
        "role"
        for role, names in (
            ("history.time", [h.get("time")]),
            ("the target", [h.get("target")]),
            ("history.label_time", [h.get("label_time")]),
            ("history.updated_at", [h.get("updated_at")]),
            ("history.weight", [h.get("weight")]),
            ("part of history.group", h.get("group")),
            ("part of metric.slices", metric.get("slices")),
        )
        for name in dict.fromkeys(_texts(names))
        if name in _texts(h.get("personal"))
    ]
    if task in METRICS:
        named = [("metric.name", [metric.get("name")]), ("metric.also", metric.get("also"))]
        wrong += [
            f"{where}: found {name!r}, which does not fit task {task!r}; wanted one of "
            f"{', '.join(METRICS[task])}{did_you_mean(name, METRICS[task])}"
            for where, names in named
            for name in _texts(names)
            if name not in METRICS[task]
        ]
    wrong += _missing_files(content, file)
    if sweep and "budget" not in sweep and "trials" not in sweep:
        wrong.append('sweep: found neither budget nor trials; wanted for example budget = "3m"')
    if _section(content, "batch").get("query") and h and not h.get("source"):
        wrong.append("batch.query: found a query; wanted none, because history.source is not set")
    if task in ("multiclass", "regression") and h.get("positive") is not None:
        wrong.append(
            f"history.positive: found {h['positive']!r}; wanted none, because only task 'binary' uses it"
        )
    return wrong


def _missing_files(content: Mapping[str, Any], file: Path) -> list[str]:
    """Families and transformers whose file does not exist."""
    wrong = []
    for entry in _texts([_section(content, "features").get("transformer")]):
        if entry and not (file.parent / entry).is_file():
            wrong.append(
                f"features.transformer: found {entry!r}, which is not a file in the folder of {file.name}"
            )
    for entry in _texts(_section(content, "sweep").get("families")):
        if not _is_path(entry) and entry not in family_names():
            wrong.append(
                f"sweep.families: found {entry!r}; wanted one of {', '.join(family_names())}, "
                f"or the path of a .py file{did_you_mean(entry, family_names())}"
            )
        elif _is_path(entry) and not (file.parent / entry).is_file():
            wrong.append(
                f"sweep.families: found {entry!r}, which is not a file in the folder of {file.name}"
            )
    when = _section(content, "retraining").get("when")
    path = when.partition(":")[0] if isinstance(when, str) else ""
    if path.endswith(".py") and not (file.parent / path).is_file():
        wrong.append(
            f"retraining.when: found {path!r}, which is not a file in the folder of {file.name}"
        )
    return wrong


def _history_conflicts(h: Mapping[str, Any]) -> list[str]:
    wrong: list[str] = []
    origins = [name for name in ("source", "files", "python") if h.get(name)]
    if len(origins) != 1:
        wrong.append(
            f"found {', '.join(origins) or 'none'}; wanted exactly one of source, files, python"
        )
    if h.get("source") and not h.get("query"):
        wrong.append('found source without query; wanted query = "select ..."')
    if h.get("query") and not h.get("source"):
        wrong.append("found query without source; wanted a database URL in source")
    if h.get("source") and not h.get("key"):
        wrong.append("found no key; wanted the columns that identify a row of the source")
    wrong += [
        f"found {name} without files; wanted it for CSV files alone"
        for name in ("delimiter", "decimal")
        if h.get(name) and not h.get("files")
    ]
    if h.get("delimiter") and h.get("delimiter") == h.get("decimal"):
        wrong.append(f"found {h['delimiter']!r} as delimiter and decimal; wanted two marks")
    roles = _texts([h.get("time"), h.get("target"), *_texts(h.get("ignore"))])
    twice = sorted({name for name in roles if roles.count(name) > 1})
    if twice:
        wrong.append(
            f"found column {', '.join(twice)} in two of time, target and ignore; wanted one role for each column"
        )
    published = {*_texts([h.get("time")]), *_texts(h.get("key"))}
    reserved = sorted(name for name in published if name.casefold() in PUBLISHED)
    long = sorted(n for n in published if len(n.encode()) > LONGEST_NAME)
    if long:
        wrong.append(
            f"found the published column {long[0]!r}, longer than {LONGEST_NAME} bytes; PostgreSQL would cut its "
            "name; rename it in the query"
        )
    if reserved:
        wrong.append(
            f"found column {', '.join(reserved)}, a reserved column of the predictions; rename it in the query"
        )
    wrong += _wrong_names(h)
    wrong += _wrong_keys(h)
    return wrong


def _wrong_keys(h: Mapping[str, Any]) -> list[str]:
    """Columns that do not stay the same, or are not known of a row to predict."""
    wrong = []
    if h.get("target") in _texts(h.get("key")):
        wrong.append(f"found target {h['target']!r} in key; wanted a key without the target")
    reasons = {
        "label_time": "a row to predict has no label yet",
        "updated_at": "every update of a row would be another row",
    }
    for role, reason in reasons.items():
        if h.get(role) in _texts(h.get("key")) and h.get(role) != h.get("time"):
            wrong.append(f"found {role} {h[role]!r} in key; wanted a key without it: {reason}")
    return wrong


def _wrong_names(h: Mapping[str, Any]) -> list[str]:
    """Columns without a name, listed twice, or that databases or text files cannot tell apart."""
    wrong = []
    for role in ("key", "group"):
        names = _texts(h.get(role))
        twice = sorted({n for n in names if names.count(n) > 1})
        if twice:
            wrong.append(f"found {twice[0]!r} twice in {role}; wanted each column once")
        if "" in names:
            wrong.append(f"found a column without a name in {role}; wanted names")
    published = list(dict.fromkeys(_texts([*_texts(h.get("key")), h.get("time")])))
    seen: dict[str, str] = {}
    for name in published:
        other = seen.setdefault(unicodedata.normalize("NFC", name).casefold(), name)
        if other != name:
            wrong.append(
                f"found {other!r} and {name!r}, which databases take for one column; wanted distinct names"
            )
    named = [h.get(k) for k in ("time", "target", "label_time", "updated_at", "weight")]
    for name in dict.fromkeys(_texts([*named, *_texts(h.get("key")), *_texts(h.get("group"))])):
        if any(unicodedata.category(c) == "Cc" for c in name):
            wrong.append(
                f"found column {name!r}, whose name holds a line break or another control character; "
                "rename it in the query"
            )
    return wrong


def _section(content: Mapping[str, Any], name: str) -> dict[str, Any]:
    section = content.get(name)
    return section if isinstance(section, dict) else {}


def _texts(values: object) -> list[str]:
    return [v for v in values if isinstance(v, str)] if isinstance(values, list) else []


def explain(error: ValidationError) -> list[str]:
    """The errors of pydantic in plain words: one line per mistake, each beginning with its key."""
    lines: list[str] = []
    for item in error.errors():
        where = ".".join(str(part) for part in item["loc"] if not isinstance(part, int))
        kind, found = item["type"], item.get("input")
        if kind == "extra_forbidden":
            keys = _keys_of_section(item["loc"])
            lines.append(
                f"{where}: unknown key; wanted one of {', '.join(keys)}"
                f"{did_you_mean(str(item['loc'][-1]), keys)}"
            )
        elif kind == "missing":
            lines.append(f"{where}: missing; wanted a value")
        elif kind == "value_error":
            lines.append(f"{where}: {item['ctx']['error']}".removeprefix(": "))
        else:
            message = item["msg"][0].lower() + item["msg"][1:]
            hint = did_you_mean(str(found), re.findall(r"'([^']+)'", item["msg"]))
            lines.append(
                f"{where}: found {found!r}; {message.replace('input should be', 'wanted')}{hint}"
            )
    return lines


def _keys_of_section(loc: tuple[int | str, ...]) -> tuple[str, ...]:
    model: type[BaseModel] = Problem
    for part in loc[:-1]:
        inner = model.model_fields[str(part)].annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            model = inner
    return tuple(name for name in model.model_fields if name != "file")


def _is_path(entry: str) -> bool:
    return "/" in entry or entry.endswith(".py")
