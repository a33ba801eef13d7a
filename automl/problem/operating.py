"""The sections that say when a problem runs, how much it retrains, and what is watched in between."""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import Field, field_validator

from automl.problem.section import Section, did_you_mean, known_zone
from automl.problem.slots import cron_mistake

__all__ = ["POLICIES", "MonitoringSection", "RetrainingSection", "ScheduleSection"]

# Values of retraining.when. `full`, `warm`, `refit` and `never` do the same at every slot
POLICIES = (
    "schedule",
    "on_degradation",
    "on_drift",
    "on_new_rows",
    "cost_aware",
    "full",
    "warm",
    "refit",
    "never",
)
_SLOTS = re.compile(r"([1-9][0-9]?) slots?")


class ScheduleSection(Section):
    """Cron lines and their time zone, and what becomes of slots that were missed."""

    timezone: str = "UTC"
    retrain: str = ""
    score: str = ""
    approvals: str = ""  # when to look for the tag `approved` in MLflow; other commands look too
    monitor: str = ""
    catch_up: Literal["latest", "all", "none"] = "all"
    arrives: str = ""  # files whose arrival starts a retraining; default: those of the history

    @field_validator("timezone")
    @classmethod
    def _zone(cls, value: str) -> str:
        return known_zone(value)

    @field_validator("retrain", "score", "approvals", "monitor")
    @classmethod
    def _cron(cls, value: str) -> str:
        if value and (mistake := cron_mistake(value)):
            raise ValueError(mistake)
        return value


class RetrainingSection(Section):
    """At which slots to retrain, and how much; `--plan` of a command overrides it."""

    when: str = "schedule"  # one of POLICIES, or the path of a Python file
    mode: Literal["act", "suggest"] = "act"
    rows: int | None = Field(default=None, ge=1)  # of on_new_rows: new labelled rows ...
    share: float | None = Field(default=None, gt=0)  # ... or their share of those before
    # of cost_aware: core-minutes that one percent less loss over one block is worth
    worth: float = Field(default=1.0, ge=0, lt=1e6)

    @field_validator("when")
    @classmethod
    def _when(cls, value: str) -> str:
        if value in POLICIES or value.partition(":")[0].endswith(".py"):
            return value
        raise ValueError(
            f"found {value!r}; wanted one of {', '.join(POLICIES)}, or the path of a .py file"
            f"{did_you_mean(value, POLICIES)}"
        )

    def settings(self) -> dict[str, Any]:
        """All settings for a digest; keys of other policies do not count, so that old digests stay."""
        used = {"on_new_rows": {"rows", "share"}, "cost_aware": {"worth"}}.get(self.when, set())
        return self.model_dump(mode="json", exclude={"rows", "share", "worth"} - used)


class MonitoringSection(Section):
    """What is watched between cycles, and where alerts go."""

    alert_rate: float = Field(default=0.05, gt=0, lt=0.5)
    alerts: tuple[str, ...] = ()  # Apprise addresses with ${ENV} references
    late_after: str = "2 slots"

    @field_validator("alerts")
    @classmethod
    def _no_password(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for number, address in enumerate(value):
            found = re.search(r"://[^:/\s@]*:([^@]+)@", address)
            if found and not re.fullmatch(r"(\$\{\w+\})+", found[1]):
                raise ValueError(
                    f"found a password in address {number}; wanted a reference to an environment variable: "
                    "user:${NAME}@host, or the whole address as ${NAME}"
                )
        return value

    @field_validator("late_after")
    @classmethod
    def _slots(cls, value: str) -> str:
        if not _SLOTS.fullmatch(value):
            raise ValueError(f'found {value!r}; wanted a number of slots, such as "2 slots"')
        return value

    @property
    def late_slots(self) -> int:
        """After how many slots without the end of a cycle a problem is late."""
        return int(self.late_after.split()[0])
