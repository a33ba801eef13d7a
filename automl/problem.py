"""The problem file as one frozen value; outside text meets validation here and nowhere else.

Every mistake of a file is reported at once, with the key, what was found, what was wanted, and a
suggestion for a typo. Nothing here opens a database, reads data or loads a family.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, available_timezones

from dateutil.relativedelta import relativedelta
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
)

from automl.errors import ProblemError

__all__ = ["METRICS", "Problem", "Span", "family_folder", "family_names", "load_problem"]

Task = Literal["binary", "multiclass", "regression"]

# Columns of every predictions table beside key and time
PUBLISHED = {
    "prediction", "probability", "low", "high", "generation", "model_version", "run_id", "as_of", "scored_at", "class",
}  # fmt: skip

METRICS: dict[str, tuple[str, ...]] = {
    "binary": ("roc_auc", "average_precision", "log_loss", "brier"),
    "multiclass": ("log_loss", "accuracy", "balanced_accuracy", "f1_macro"),
    "regression": ("rmse", "mae", "mape", "r2"),
}

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "mo": "months", "q": "months"}
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_LONGEST = 200 * 365.25 * 86400  # longer ones leave the calendar when they are counted back
LONGEST_NAME = 63  # bytes of a column's name that PostgreSQL keeps
MIN_OVERLAP = 300  # seconds; a shorter one loses rows of slow transactions
_NAME = re.compile(r"^[A-Za-z][A-Za-z0-9_-]{0,62}$")
_TABLE = re.compile(
    r"^[a-z][a-z0-9_]{0,39}$"
)  # leaves room for suffixes below PostgreSQL's 63 bytes


@dataclass(frozen=True, slots=True)
class Span:
    """A duration as people write it: `90m 12h 7d 1mo 1q`; months and quarters follow the calendar."""

    count: int
    unit: str

    @classmethod
    def parse(cls, text: object) -> Span:
        """Read `7d`; raises ValueError with the forms that are allowed."""
        if isinstance(text, Span):
            return text
        match = re.fullmatch(r"(\d+)\s*(mo|s|m|h|d|q)", str(text).strip())
        if not match or int(match[1]) < 1:
            raise ValueError(
                f"{text!r} is not a duration; wanted for example 90s, 90m, 12h, 7d, 1mo, 1q"
            )
        span = cls(int(match[1]), match[2])
        if span.seconds > _LONGEST:
            raise ValueError(f"{text!r} is longer than 200 years")
        return span

    def after(self, moment: datetime, times: int = 1) -> datetime:
        """`moment` plus `times` of this span."""
        count = self.count * times * (3 if self.unit == "q" else 1)
        return moment + relativedelta(**{_UNITS[self.unit]: count})  # type: ignore[arg-type]

    def before(self, moment: datetime, times: int = 1) -> datetime:
        """`moment` minus `times` of this span."""
        return self.after(moment, -times)

    @property
    def seconds(self) -> float:
        """Length in seconds; a month counts 30.44 days (only for budgets and estimates)."""
        if self.unit in _SECONDS:
            return float(self.count * _SECONDS[self.unit])
        return self.count * 30.44 * 86400 * (3 if self.unit == "q" else 1)

    def __str__(self) -> str:
        return f"{self.count}{self.unit}"


Duration = Annotated[Span, BeforeValidator(Span.parse)]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)


class HistorySection(_Table):
    """Where labelled, dated rows come from, and what each column means."""

    source: str = ""
    files: str = ""
    python: str = ""
    query: str = ""
    time: str
    timezone: str = "UTC"
    key: tuple[str, ...] = ()
    updated_at: str = ""
    target: str
    positive: int | float | str | bool | None = None
    label_delay: Duration | None = None
    label_time: str = ""
    keep: Duration | None = None
    overlap: Duration | None = None
    deleted: Literal["drop", "keep", "refuse"] = "drop"
    late: Literal["take", "refuse"] = "take"
    quarantine: float = Field(default=0.01, ge=0, lt=0.5)
    ignore: tuple[str, ...] = ()
    personal: tuple[str, ...] = ()
    weight: str = ""
    group: tuple[str, ...] = ()

    @field_validator("timezone")
    @classmethod
    def _zone(cls, value: str) -> str:
        return _known_zone(value)

    @field_validator("source")
    @classmethod
    def _no_password(cls, value: str) -> str:
        match = re.search(
            r"://[^:/@\s]*:([^@]+)@", value
        )  # as SQLAlchemy reads it: a slash may be part of it
        if match and not re.fullmatch(r"(\$\{\w+\})+", match[1]):
            raise ValueError(
                "holds a password; wanted a reference to the environment such as ${PGPASSWORD}"
            )
        return value

    @field_validator("positive", mode="before")
    @classmethod
    def _positive(cls, value: object) -> object:
        if isinstance(value, (int, float, str)):
            return value
        raise ValueError(f"found {value!r}; wanted a number, a text, true or false")

    @field_validator("overlap")
    @classmethod
    def _overlap(cls, value: Span | None) -> Span | None:
        if value and value.seconds < MIN_OVERLAP:
            raise ValueError(
                f"found {value}; wanted at least 5m, longer than any transaction of the source"
            )
        return value


class BatchSection(_Table):
    """The rows to predict: `as_of <= time < as_of + horizon`."""

    query: str = ""
    horizon: Duration | None = None
    resize: Literal["refuse", "allow"] = "refuse"


class MetricSection(_Table):
    """What is optimised, what is reported beside it."""

    name: str
    also: tuple[str, ...] = ()
    slices: tuple[str, ...] = ()


class FeaturesSection(_Table):
    """What becomes of the columns before they are encoded."""

    transformer: str = ""


class SweepSection(_Table):
    """How much search a cycle may spend."""

    families: tuple[str, ...] = (
        "baseline",
        "linear",
        "lightgbm",
        "hist_gradient_boosting",
        "extra_trees",
        "mlp",
    )
    budget: Duration | None = None
    trials: int | None = Field(default=None, ge=1)
    seed: int = Field(default=0, ge=0, lt=2**31)

    @field_validator("families")
    @classmethod
    def _families(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value:
            raise ValueError("found none; wanted at least one name or path")
        if len(set(value)) < len(value):
            raise ValueError("found a family twice")
        return value

    @field_validator("budget")
    @classmethod
    def _budget(cls, value: Span | None) -> Span | None:
        if value and (value.unit in ("mo", "q", "d") or not 10 <= value.seconds < 86400):
            raise ValueError(f"found {value}; wanted at least 10s and less than a day")
        return value


class ValidationSection(_Table):
    """Blocks of one retraining period each, newest last."""

    block: Duration
    origins: int = Field(default=2, ge=1, le=12)


class PromotionSection(_Table):
    """When the challenger takes the champion's place."""

    mode: Literal["auto", "review"] = "auto"
    confidence: float = Field(default=0.8, gt=0.5, lt=1)


class PublishSection(_Table):
    """Where analysts read."""

    table: str = ""
    parquet: str = ""
    mode: Literal["full", "new"] = "full"
    keep: int = Field(default=12, ge=2)

    @field_validator("table")
    @classmethod
    def _table(cls, value: str) -> str:
        if value and not _TABLE.match(value):
            raise ValueError(f"{value!r}: wanted lower-case letters, digits and _, at most 40")
        return value


class ScheduleSection(_Table):
    """Cron lines, and the zone in which they are meant."""

    timezone: str = "UTC"
    retrain: str = ""
    score: str = ""
    approvals: str = ""  # when to look for the tag `approved` in MLflow, beside every other command

    @field_validator("timezone")
    @classmethod
    def _zone(cls, value: str) -> str:
        return _known_zone(value)

    @field_validator("retrain", "score", "approvals")
    @classmethod
    def _cron(cls, value: str) -> str:
        if value and not _is_cron(value):
            raise ValueError(
                f'{value!r} is not a cron line; wanted five fields such as "0 3 * * 1"'
            )
        return value


class Problem(_Table):
    """One prediction task: one TOML file, one MLflow experiment, one registered model."""

    file: Path = Field(exclude=True)
    name: str
    question: str = ""
    task: Task
    history: HistorySection
    batch: BatchSection = BatchSection()
    metric: MetricSection
    features: FeaturesSection = FeaturesSection()
    sweep: SweepSection
    validation: ValidationSection
    promotion: PromotionSection = PromotionSection()
    publish: PublishSection = PublishSection()
    schedule: ScheduleSection = ScheduleSection()

    @field_validator("name")
    @classmethod
    def _name(cls, value: str) -> str:
        if not _NAME.match(value):
            raise ValueError(
                f"{value!r}: wanted a letter, then letters, digits, - or _, at most 63"
            )
        return value

    @property
    def table(self) -> str:
        """The table analysts read; default: the name with `_` for `-`."""
        return self.publish.table or re.sub(r"[^a-z0-9_]", "_", self.name.lower())[:40]

    @property
    def transformer(self) -> Path | None:
        """The file of the user's own columns."""
        given = self.features.transformer
        return (self.file.parent / given).resolve() if given else None

    @property
    def horizon(self) -> Span:
        """Length of the batch window; default: one block."""
        return self.batch.horizon or self.validation.block

    def until(self, as_of: datetime) -> datetime:
        """End of the batch that starts at `as_of`."""
        return self.horizon.after(as_of)

    def mature(self, as_of: datetime) -> datetime:
        """Rows before this moment have their label at `as_of` (with `label_time`: at the latest)."""
        return self.history.label_delay.before(as_of) if self.history.label_delay else as_of

    @property
    def digest(self) -> str:
        """sha256 of what the file says; comments and order do not count."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()


def load_problem(path: str | Path) -> Problem:
    """Read and validate a problem file.

    Raises
    ------
    ProblemError
        The file is missing, is not TOML, or breaks rules; the message lists every mistake.
    """
    file = Path(path).resolve()
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ProblemError(
            f"{path}: no such problem file",
            code="no_file",
            next_step="Give the path of a TOML file; examples/flights/problem.toml is one.",
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ProblemError(f"{path}: cannot be read: {error}", code="no_file") from None
    except tomllib.TOMLDecodeError as error:
        raise ProblemError(f"{path}: not valid TOML: {error}", code="toml") from None
    lines = _conflicts(content, file)
    try:
        problem = Problem(**{**content, "file": file})
    except ValidationError as error:
        lines = [*_explain(error), *lines]
    if lines:
        raise ProblemError(
            f"{path}: {len(lines)} mistake{'s' if len(lines) > 1 else ''}\n"
            + "\n".join(f"  {line}" for line in lines),
            code="problem",
            next_step=f"Mend the lines above, then: automl check {path}",
        )
    return problem


def family_folder() -> Path:
    """The folder of the families that ship with this product."""
    spec = importlib.util.find_spec("search_spaces")
    if spec is None or not spec.submodule_search_locations:
        raise ProblemError("the package search_spaces is not installed", code="installation")
    return Path(next(iter(spec.submodule_search_locations)))


def family_names() -> tuple[str, ...]:
    """Names of the families that ship with this product."""
    return tuple(sorted(p.stem for p in family_folder().glob("*.py") if not p.stem.startswith("_")))


def _is_path(entry: str) -> bool:
    return "/" in entry or entry.endswith(".py")


def _known_zone(value: str) -> str:
    if value not in available_timezones():
        hint = _did_you_mean(value, tuple(available_timezones()))
        raise ValueError(
            f"{value!r} is not a time zone; wanted for example UTC or Europe/Zurich{hint}"
        )
    ZoneInfo(value)
    return value


def _is_cron(value: str) -> bool:
    from cronsim import CronSim, CronSimError  # noqa: PLC0415  40 ms that most commands never need

    if (
        len(value.split()) != 5
    ):  # CronSim would read a sixth field as seconds, which schedulers do not know
        return False
    try:
        CronSim(value, datetime(2026, 1, 1, tzinfo=UTC))
    except CronSimError:
        return False
    return True


def _conflicts(content: Mapping[str, Any], file: Path) -> list[str]:
    """Keys that contradict each other; reads raw values, so that it speaks up beside other mistakes."""
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
        f"history.personal: found {name!r}, which is {role}; wanted columns that nothing else names, or "
        "a key"
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
            f"{where}: {name!r} does not fit task {task!r}; wanted one of "
            f"{', '.join(METRICS[task])}{_did_you_mean(name, METRICS[task])}"
            for where, names in named
            for name in _texts(names)
            if name not in METRICS[task]
        ]
    wrong += _missing_files(content, file)
    if sweep and "budget" not in sweep and "trials" not in sweep:
        wrong.append('sweep: found neither budget nor trials; wanted for example budget = "3m"')
    if _section(content, "batch").get("query") and h and not h.get("source"):
        wrong.append("batch.query: found a query; wanted none, because history has no source URL")
    if task in ("multiclass", "regression") and h.get("positive") is not None:
        wrong.append(f"history.positive: found {h['positive']!r}; only task 'binary' has one")
    return wrong


def _missing_files(content: Mapping[str, Any], file: Path) -> list[str]:
    """Families and transformers that are not where the file says."""
    wrong = []
    for entry in _texts([_section(content, "features").get("transformer")]):
        if entry and not (file.parent / entry).is_file():
            wrong.append(f"features.transformer: {entry!r} is not a file beside {file.name}")
    for entry in _texts(_section(content, "sweep").get("families")):
        if not _is_path(entry) and entry not in family_names():
            wrong.append(
                f"sweep.families: {entry!r} is no family; wanted one of {', '.join(family_names())}, "
                f"or the path of a .py file{_did_you_mean(entry, family_names())}"
            )
        elif _is_path(entry) and not (file.parent / entry).is_file():
            wrong.append(f"sweep.families: {entry!r} is not a file beside {file.name}")
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
        wrong.append("found query without source; a query needs a database URL in source")
    if h.get("source") and not h.get("key"):
        wrong.append("found no key; wanted the columns that make a row of the source unique")
    if h.get("label_delay") and h.get("label_time"):
        wrong.append("found label_delay and label_time; wanted one of them")
    roles = _texts([h.get("time"), h.get("target"), *_texts(h.get("ignore"))])
    twice = sorted({name for name in roles if roles.count(name) > 1})
    if twice:
        wrong.append(f"column {', '.join(twice)} has two roles among time, target and ignore")
    published = {*_texts([h.get("time")]), *_texts(h.get("key"))}
    ours = sorted(name for name in published if name.casefold() in PUBLISHED)
    long = sorted(n for n in published if len(n.encode()) > LONGEST_NAME)
    if long:
        wrong.append(
            f"column {long[0]!r} is published and longer than {LONGEST_NAME} bytes, which PostgreSQL would "
            "cut; rename it in the query"
        )
    if ours:
        wrong.append(
            f"column {', '.join(ours)} is also a column of the predictions; rename it in the query"
        )
    if h.get("target") in _texts(h.get("key")):
        wrong.append(f"target {h['target']!r} cannot be part of key")
    return wrong


def _section(content: Mapping[str, Any], name: str) -> dict[str, Any]:
    section = content.get(name)
    return section if isinstance(section, dict) else {}


def _texts(values: object) -> list[str]:
    return [v for v in values if isinstance(v, str)] if isinstance(values, list) else []


def _explain(error: ValidationError) -> list[str]:
    lines: list[str] = []
    for item in error.errors():
        where = ".".join(str(part) for part in item["loc"] if not isinstance(part, int))
        kind, found = item["type"], item.get("input")
        if kind == "extra_forbidden":
            known = _known_keys(item["loc"])
            lines.append(
                f"{where}: unknown key; wanted one of {', '.join(known)}"
                f"{_did_you_mean(str(item['loc'][-1]), known)}"
            )
        elif kind == "missing":
            lines.append(f"{where}: missing; wanted a value")
        elif kind == "value_error":
            lines.append(f"{where}: {item['ctx']['error']}")
        else:
            said = item["msg"][0].lower() + item["msg"][1:]
            hint = _did_you_mean(str(found), re.findall(r"'([^']+)'", item["msg"]))
            lines.append(
                f"{where}: found {found!r}; {said.replace('input should be', 'wanted')}{hint}"
            )
    return lines


def _known_keys(loc: tuple[int | str, ...]) -> tuple[str, ...]:
    model: type[BaseModel] = Problem
    for part in loc[:-1]:
        inner = model.model_fields[str(part)].annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            model = inner
    return tuple(name for name in model.model_fields if name != "file")


def _did_you_mean(word: str, known: tuple[str, ...] | list[str]) -> str:
    close = get_close_matches(word, known, n=1, cutoff=0.6)
    return f". Did you mean {close[0]!r}?" if close else ""
