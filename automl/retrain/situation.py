"""What a policy may know: plain values, all of them known at the cycle's as_of.

Reads nothing and decides nothing: `automl.retrain.consult` fills these values.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, get_args

__all__ = ["ACTIONS", "Action", "Drift", "PolicyChoice", "RealisedLoss", "Situation", "Training"]

# auto: as much as has changed calls for, see `automl.retrain.plan`
Action = Literal["skip", "auto", "refit", "warm", "full"]
ACTIONS: tuple[str, ...] = get_args(Action)


@dataclass(frozen=True, slots=True)
class PolicyChoice:
    """How much to retrain at this slot, and why in one sentence."""

    action: Action
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """An earlier retraining that was not skipped."""

    as_of: datetime
    action: str  # refit | warm | full
    outcome: str  # of its decision: first | promote | revert | keep | stay | wait
    gain: float = 0.0  # relative gain of what was promoted, shrunk; 0 if nothing was
    core_seconds: float | None = None  # of its fits and encodings
    seconds: float | None = None  # wall clock


@dataclass(frozen=True, slots=True, kw_only=True)
class RealisedLoss:
    """The loss of one published generation on the labels that have arrived."""

    as_of: datetime
    until: datetime
    model_version: int
    age: float  # blocks between the training of its model and its as_of
    rows: int
    labelled_rows: int
    loss: float
    promised: float | None = None  # loss that the evidence of the model's cycle promised
    noise: float | None = None  # standard deviation of the log loss between blocks of that evidence
    blocks: int = 0  # of that evidence
    baseline: float = 0.0  # loss of the constant baseline on them


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """Whether inputs, predictions or labels have drifted, against the problem's own past."""

    state: str  # quiet | drifted | uncalibrated
    columns: tuple[str, ...] = ()
    far: bool = False  # far beyond the threshold
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """Everything that a policy may know; durations are in blocks, lists newest first."""

    as_of: datetime
    champion: bool  # there is one that can be refitted
    version: int | None = None  # its model version
    rows: int = 0  # labelled rows
    new_rows: int = 0  # that became known since the last training
    block: float = 1.0  # days of one block
    ahead: float = 1.0  # until the next slot
    since_training: float | None = None  # None: there was none
    since_search: float | None = None  # warm or full
    since_full: float | None = None
    trainings: tuple[Training, ...] = ()
    realised: tuple[RealisedLoss, ...] = ()
    # (age, share by which published predictions lost more than a refit on the same rows)
    staleness: tuple[tuple[float, float], ...] = ()
    costs: Mapping[str, float] = field(default_factory=dict)  # action -> core-seconds, measured
    drift: Drift | None = None  # for on_drift and policies of users
