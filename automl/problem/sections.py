"""The sections of a problem file as frozen values; each key is validated by itself."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Iterator
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Any, Literal
from zoneinfo import ZoneInfo

from pydantic import Field, field_validator, model_validator

from automl.problem.operating import MonitoringSection, RetrainingSection, ScheduleSection
from automl.problem.section import Section, known_zone
from automl.problem.slots import Slots
from automl.problem.spans import Duration, Span
from automl.problem.table_names import table_mistake

__all__ = [
    "HIGHER_IS_BETTER",
    "LEAST_SHARE",
    "METRICS",
    "Problem",
]

Task = Literal["binary", "multiclass", "regression"]

# Share of the constant baseline's loss that is added to losses before they are compared, and the least unit of
# a relative gain, so that rounding does not rank near-perfect models
LEAST_SHARE = 0.05
METRICS: dict[str, tuple[str, ...]] = {
    "binary": ("roc_auc", "average_precision", "log_loss", "brier"),
    "multiclass": ("log_loss", "accuracy", "balanced_accuracy", "f1_macro"),
    "regression": ("rmse", "mae", "mape", "r2"),
}
HIGHER_IS_BETTER = frozenset(
    {"roc_auc", "average_precision", "accuracy", "balanced_accuracy", "f1_macro", "r2"}
)

MOST_ORIGINS = 12
WATCHING = {"monitor", "catch_up", "arrives"}  # keys of `schedule` that no cycle depends on
MIN_OVERLAP = 300  # seconds; a shorter one loses rows of slow transactions
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,62}")


class HistorySection(Section):
    """Where labelled, dated rows come from, and what each column means."""

    source: str = ""
    files: str = ""
    python: str = ""
    query: str = ""
    delimiter: str = ""
    decimal: Literal["", ".", ","] = ""
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
        return known_zone(value)

    @field_validator("source")
    @classmethod
    def _no_password(cls, value: str) -> str:
        # as SQLAlchemy reads a URL: a password may contain a slash
        match = re.search(r"://[^:/\s]*:([^@]+)@", value)
        if re.search(r"[?&](sslpassword|password|passwd|pwd|token)=", value, re.IGNORECASE):
            raise ValueError(
                "found a password as an option of the URL; wanted user:${PGPASSWORD}@host, with a reference "
                "to an environment variable"
            )
        if match and not re.fullmatch(r"(\$\{\w+\})+", match[1]):
            raise ValueError(
                "found a password; wanted a reference to an environment variable, such as ${PGPASSWORD}"
            )
        return value

    @field_validator("delimiter")
    @classmethod
    def _one_character(cls, value: str) -> str:
        if value and (len(value) != 1 or value in '"\r\n'):
            raise ValueError(f"found {value!r}; wanted one character, such as ; or \\t")
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
                f"found {value}; wanted at least 5m, and longer than any transaction of the source"
            )
        return value

    def settings(self, *, without: Collection[str] = ()) -> dict[str, Any]:
        """All settings for a digest; keys that came later count once they are set, so that old digests stay."""
        content = self.model_dump(mode="json", exclude={*without})
        return {k: v for k, v in content.items() if v or k not in ("delimiter", "decimal")}


class BatchSection(Section):
    """The rows to predict: from `as_of` to the next slot, or to `as_of + horizon`."""

    query: str = ""
    horizon: Duration | None = None
    resize: Literal["refuse", "allow"] = "refuse"


class MetricSection(Section):
    """The metric that is optimised, and metrics that are reported in addition."""

    name: str
    also: tuple[str, ...] = ()
    slices: tuple[str, ...] = ()


class FeaturesSection(Section):
    """How columns are transformed before they are encoded."""

    transformer: str = ""


class SweepSection(Section):
    """How much a cycle may search."""

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
            raise ValueError("found a family twice; wanted each once")
        return value

    @field_validator("budget")
    @classmethod
    def _budget(cls, value: Span | None) -> Span | None:
        if value and (value.unit in ("mo", "q", "w", "d") or not 10 <= value.seconds < 86400):
            raise ValueError(f"found {value}; wanted at least 10s and less than a day")
        return value


class ValidationSection(Section):
    """Blocks of one retraining period each, newest last."""

    block: Duration
    origins: int | Literal["auto"] = "auto"
    season: Span | Literal["none"] = Span(12, "mo")

    @field_validator("origins", mode="plain")
    @classmethod
    def _origins(cls, value: object) -> int | Literal["auto"]:
        if value == "auto":
            return "auto"
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MOST_ORIGINS:
            raise ValueError(
                f'found {value!r}; wanted "auto", or a whole number from 1 to {MOST_ORIGINS}'
            )
        return value

    @field_validator(
        "season", mode="before"
    )  # after a plain one pydantic would warn when it serialises
    @classmethod
    def _season(cls, value: object) -> Span | Literal["none"]:
        if value == "none":
            return "none"
        try:
            return Span.parse(value)
        except ValueError as error:
            raise ValueError(f'{error}, or "none"') from error


class PromotionSection(Section):
    """When a challenger replaces the champion."""

    mode: Literal["auto", "review"] = "auto"
    confidence: float = Field(default=0.8, gt=0.5, lt=1)


class PublishSection(Section):
    """Where predictions are published."""

    table: str = ""
    parquet: str = ""
    mode: Literal["full", "new"] = "full"
    keep: int = Field(default=12, ge=2)

    @field_validator("parquet")
    @classmethod
    def _parquet(cls, value: str) -> str:
        if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/|~", value) or "${" in value:
            raise ValueError(
                f"found {value!r}; wanted the path of a folder on this machine, relative to the problem file "
                "or absolute; addresses such as s3:// are not supported"
            )
        return value

    @field_validator("table")
    @classmethod
    def _table(cls, value: str) -> str:
        if value and (mistake := table_mistake(value)):
            raise ValueError(mistake)
        return value


class Problem(Section):
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
    retraining: RetrainingSection = RetrainingSection()
    monitoring: MonitoringSection = MonitoringSection()

    @field_validator("name")
    @classmethod
    def _name(cls, value: str) -> str:
        if not _NAME.fullmatch(value):
            raise ValueError(
                f"found {value!r}; wanted a letter, then letters, digits, - or _, at most 63"
            )
        return value

    @model_validator(mode="after")
    def _default_table(self) -> Problem:
        if mistake := table_mistake(self.table):
            raise ValueError(
                f"publish.table: {mistake}; set publish.table, its default is the name"
            )
        return self

    @property
    def table(self) -> str:
        """The published table; default: the name with `_` for `-`."""
        return self.publish.table or re.sub(r"[^a-z0-9_]", "_", self.name.lower())[:40]

    @property
    def transformer(self) -> Path | None:
        """The Python file of `features.transformer`."""
        given = self.features.transformer
        return (self.file.parent / given).resolve() if given else None

    @property
    def policy_file(self) -> tuple[Path | None, str]:
        """The Python file of `retraining.when` and the name of its function; None for a policy with a name."""
        path, _, function = self.retraining.when.partition(":")
        file = (self.file.parent / path).resolve() if path.endswith(".py") else None
        return file, function or "policy"

    @property
    def horizon(self) -> Span:
        """Length of the batch window; default: one block."""
        return self.batch.horizon or self.validation.block

    @property
    def zone(self) -> ZoneInfo:
        """The zone in which days begin: the schedule's, or without a schedule the history's."""
        scheduled = self.schedule.retrain or self.schedule.score
        return ZoneInfo(self.schedule.timezone if scheduled else self.history.timezone)

    def slots(self, verb: str) -> Slots | None:
        """The slots of `verb`: `score` has its own cron line, all others that of `retrain`.

        Each falls back to the other line; `monitor` and `approvals` have their own lines alone. None without a
        schedule.
        """
        s = self.schedule
        own = {"monitor": s.monitor, "approvals": s.approvals, "score": s.score or s.retrain}
        cron = own.get(verb, s.retrain or s.score)
        return Slots(cron, s.timezone) if cron else None

    def until(self, as_of: datetime) -> datetime:
        """End of the batch that starts at `as_of`: the next slot of scoring, so that batches meet.

        A longer declared horizon makes them overlap. Without a schedule: `as_of` plus the horizon.
        """
        slots = self.slots("score")
        if slots is None:
            return self.horizon.after(as_of, zone=self.zone)
        meets = slots.after(as_of)
        declared = self.batch.horizon
        return max(meets, declared.after(as_of, zone=self.zone)) if declared else meets

    def mature(self, as_of: datetime) -> datetime:
        """Rows before this moment have their label at `as_of`; without a label delay, `as_of` itself."""
        delay = self.history.label_delay
        return delay.before(as_of, zone=self.zone) if delay else as_of

    def block_edges(self, as_of: datetime) -> Iterator[datetime]:
        """Ends and starts of the blocks that are known at `as_of`, newest first, without end.

        If a block is as long as the time between retrainings, a block holds the rows that became mature
        between two slots. Otherwise edges are multiples of the block, counted back from what is mature now.
        """
        block, cron = self.validation.block, self.schedule.retrain
        slots = Slots(cron, self.schedule.timezone) if cron else None
        if slots is not None and slots.apart_by(block):
            newer = None
            for edge in map(self.mature, slots.backwards(as_of)):
                # a month before the 29th is the 28th, at any hour
                if newer is None or edge <= newer:
                    yield edge
                    newer = edge
            return
        anchor = self.mature(as_of)
        yield anchor
        for times in count(1):
            yield block.before(anchor, times, zone=self.zone)

    def newest_block_end(self, as_of: datetime) -> datetime:
        """End of the newest block at `as_of`: labels of later rows are not used to choose."""
        return next(self.block_edges(as_of))

    @property
    def digest(self) -> str:
        """sha256 of what a cycle depends on; comments and order do not count, nor what is only watched."""
        content = self.model_dump(mode="json", exclude={"monitoring": True, "schedule": WATCHING})
        content["history"] = self.history.settings()
        # a section that came later counts once it is used, so that old digests stay
        content["retraining"] = self.retraining.settings()
        if content["retraining"] == RetrainingSection().settings():
            del content["retraining"]
        text = json.dumps(content, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()
