"""The steps of monitoring: performance of published generations, and drift of the newest rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd

from automl import history, predictions
from automl.errors import AutomlError, UnreachableError
from automl.modeling.metrics import get_metric
from automl.monitoring.blocks import block_statistics, from_profiles, profile_of
from automl.monitoring.drift import BlockStatistics, Drift, blocks_needed, drift_of
from automl.monitoring.expected import Calibration, calibrate
from automl.monitoring.performance import Performance, by_time, likely_cause, performance_of
from automl.monitoring.promises import LEAST_ROWS, Promise, evidence_of, promise_of
from automl.monitoring.realised import Labelled, as_in_history, match_labels, published_output
from automl.monitoring.watching import Watching
from automl.store import Generation, Profile, profiles, rows_of, write_profiles

__all__ = ["Findings", "drift_rows", "find_drift", "keep_profiles", "measure"]

CALIBRATED_ON = 5  # earlier generations
MOST_PROFILES = 105


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """Rows of `<table>_performance` that are new, and what they say in sentences."""

    rows: tuple[dict[str, Any], ...]
    newest: Mapping[str, Any] | None  # main metric of the newest generation that has labels
    labelled_until: datetime | None
    expected: Mapping[str, float]  # scores of the newest generation before its labels come


def measure(watching: Watching, labelled: pd.DataFrame, drift: Drift) -> Findings:
    """Performance of every kept generation whose labels have changed since, and of those without labels."""
    store, problem = watching.store, watching.problem
    kept = watching.generations
    known = _recorded(watching, kept)
    matcher = _Matcher(watching, labelled)
    promises = _promises(watching, kept)
    rows: list[dict[str, Any]] = []
    for generation in reversed(kept):
        before = known.get(generation.id)
        if before and before["labelled_rows"] >= generation.rows:
            continue
        found = matcher.of(generation)
        count = len(found.rows) if found else 0
        if before and before["labelled_rows"] == count and count:
            continue
        calibration = matcher.calibration(generation)
        made = performance_of(
            problem,
            found,
            rows=generation.rows,
            promise=promises.get(generation.id),
            output=matcher.output(generation) if calibration else None,
            calibration=calibration,
        )
        made[0] = _with_cause(made[0], found, promises.get(generation.id), drift)
        rows += [_row(generation, performance) for performance in made]
        if found is not None:
            scores = {p.metric: p.value for p in made if not p.slice_column}
            store.record_realised(
                generation.id, count, {k: np.nan if v is None else v for k, v in scores.items()}
            )
            _log_live(watching, generation, scores, count)
    main = {g: r for g, r in known.items() if r["labelled_rows"]}
    main |= {
        r["generation"]: r for r in rows if _is_main(r, problem.metric.name) and r["labelled_rows"]
    }
    newest = next(
        (main[g.id] for g in kept if g.id in main and main[g.id]["labelled_rows"] >= LEAST_ROWS),
        None,
    )
    return Findings(
        rows=tuple(rows),
        newest=newest,
        labelled_until=matcher.newest_label(),
        expected=_expected(watching, kept[:1], rows),
    )


def _expected(
    watching: Watching, newest: Sequence[Generation], rows: Sequence[Mapping[str, Any]]
) -> dict[str, float]:
    """Expected scores of the newest generation, as found now or by an earlier run."""
    ids = [g.id for g in newest]
    earlier = rows_of(watching.store, watching.problem.table, "performance", ids)
    found = [*earlier, *(r for r in rows if r["generation"] in ids)]
    return {r["metric"]: r["expected"] for r in found if r["expected"] is not None}


class _Matcher:
    """Labels of generations, each matched once."""

    def __init__(self, watching: Watching, labelled: pd.DataFrame) -> None:
        self.watching, self.labelled = watching, labelled
        self._found: dict[int, Labelled | None] = {}

    def of(self, generation: Generation) -> Labelled | None:
        """The rows of a generation with labels, by time."""
        if generation.id not in self._found:
            w = self.watching
            found = None
            if self._has_labels(generation):
                found = match_labels(w.store, w.problem, w.contract, generation, self.labelled)
            time = w.problem.history.time
            self._found[generation.id] = by_time(found, time) if found is not None else None
        return self._found[generation.id]

    def output(self, generation: Generation) -> np.ndarray:
        """Outputs of all rows of a generation."""
        w = self.watching
        rows = predictions.read_generation(w.store, w.problem, generation.id)
        rows = as_in_history(rows, w.problem, self.labelled)
        return published_output(w.store, w.problem, w.contract, generation, rows)

    def calibration(self, generation: Generation) -> Calibration | None:
        """Learned from the newest generations before this one that have labels; None for values."""
        if not self.watching.contract.classes:
            return None
        earlier = [g for g in self.watching.generations if g.until <= generation.as_of]
        found = [x for g in earlier[: 2 * CALIBRATED_ON] if (x := self.of(g)) is not None]
        used = found[:CALIBRATED_ON]
        if not used:
            return None
        truth = np.concatenate([x.truth for x in used])
        return calibrate(truth, np.concatenate([x.output for x in used]))

    def newest_label(self) -> datetime | None:
        """Time of the newest published row that has a label."""
        time = self.watching.problem.history.time
        times = [
            x.rows[time].max() for x in self._found.values() if x is not None and time in x.rows
        ]
        return pd.Timestamp(max(times)).to_pydatetime().replace(tzinfo=UTC) if times else None

    def _has_labels(self, generation: Generation) -> bool:
        w = self.watching
        return generation.as_of < w.problem.mature(w.as_of)


def _recorded(watching: Watching, kept: Sequence[Generation]) -> dict[int, dict[str, Any]]:
    """The main rows that an earlier run wrote, by generation."""
    name = watching.problem.metric.name
    found = rows_of(watching.store, watching.problem.table, "performance", [g.id for g in kept])
    return {r["generation"]: r for r in found if _is_main(r, name)}


def _is_main(row: Mapping[str, Any], metric: str) -> bool:
    return row["metric"] == metric and row["slice_column"] == ""


def _promises(watching: Watching, kept: Sequence[Generation]) -> dict[int, Promise | None]:
    releases = watching.releases
    made = {g.id: releases[g.model_version] for g in kept if g.model_version in releases}
    evidence = evidence_of(watching.store, watching.problem, list(made.values()))
    name = watching.problem.metric.name
    return {id_: promise_of(evidence, r.blend.id, name, r.as_of) for id_, r in made.items()}


def _with_cause(
    main: Performance,
    found: Labelled | None,
    promise: Promise | None,
    drift: Drift,
) -> Performance:
    if main.state != "worse" or found is None or promise is None:
        return main
    metric = get_metric(main.metric)
    moved = drift.state == "alarm" and any(s.source == "inputs" for s in drift.shifts[:1])
    cause = likely_cause(metric, found, promise, expected=main.expected, inputs_moved=moved)
    return Performance(**{**asdict(main), "cause": cause})


def _row(generation: Generation, performance: Performance) -> dict[str, Any]:
    return {
        "generation": generation.id,
        "model_version": generation.model_version,
        "as_of": generation.as_of,
        "until": generation.until,
        **asdict(performance),
    }


def _log_live(
    watching: Watching, generation: Generation, scores: Mapping[str, float | None], rows: int
) -> None:
    release = watching.releases.get(generation.model_version)
    if watching.registry is None or release is None:
        return
    finite = {k: v for k, v in scores.items() if v is not None}
    try:
        watching.registry.log_live(release, finite, rows)
    except UnreachableError as error:
        watching.warnings.append(f"MLflow does not show what was found: {error}")


# ---- drift


def keep_profiles(watching: Watching) -> None:
    """Keep measures of the kept generations' batches and predictions, once per batch."""
    w = watching
    known = {p.generation for p in profiles(w.store, w.problem.name)}
    made = []
    for generation in w.generations:
        if generation.id in known:
            continue
        try:
            batch = _batch_rows(watching, generation)
            published = predictions.read_generation(w.store, w.problem, generation.id)
            content = profile_of(batch, published, w.problem, w.contract)
        except (
            AutomlError,
            OSError,
            KeyError,
        ):  # its files were cleaned up, or are of another contract
            continue
        made.append(
            Profile(
                start=generation.as_of,
                end=generation.until,
                generation=generation.id,
                rows=generation.rows,
                content=content,
            )
        )
    if made:
        write_profiles(w.store, w.hold, w.problem.name, made)


def _batch_rows(watching: Watching, generation: Generation) -> pd.DataFrame:
    folders = history.Folders(watching.workspace.history(watching.problem.name))
    frozen = history.frozen_batch(folders, generation.batch)
    if frozen is None:
        raise KeyError(generation.batch)
    return history.read(frozen)


def find_drift(watching: Watching, labelled: pd.DataFrame) -> tuple[str, BlockStatistics, Drift]:
    """What the newest rows show: of batches once nineteen are known, of the history's blocks before.

    Batches hold the newest inputs and the predictions of them. They are never compared with blocks of history, which
    lack rows that never get a label.
    """
    w, rate = watching, watching.problem.monitoring.alert_rate
    blocks = block_statistics(labelled, w.problem, w.contract, w.as_of)
    kept = [p for p in profiles(w.store, w.problem.name) if p.start <= w.as_of]
    if len(kept) > blocks_needed(rate):
        chosen = [((p.start, p.end), p.rows, p.content) for p in kept[-MOST_PROFILES:]]
        even = blocks.rows and _length(kept[-1]) == blocks.ends[-1] - blocks.starts[-1]
        statistics = from_profiles(chosen, blocks if even else None)
        return "batches", statistics, drift_of(statistics, rate)
    return "history", blocks, drift_of(blocks, rate)


def _length(profile: Profile) -> Any:
    return profile.end - profile.start


def drift_rows(
    watching: Watching, basis: str, statistics: BlockStatistics, drift: Drift
) -> list[dict[str, Any]]:
    """Rows of `<table>_drift` for the newest window."""
    if not statistics.rows:
        return []
    return [
        {
            "window_start": statistics.starts[-1],
            "window_end": statistics.ends[-1],
            "basis": basis,
            "source": shift.source,
            "column_name": shift.column,
            "statistic": shift.statistic,
            "as_of": watching.as_of,
            "rows": statistics.rows[-1],
            "value": shift.value,
            "reference": shift.reference,
            "effect": shift.effect,
            "p_value": shift.p_value,
            "past_blocks": shift.past,
            "state": drift.state,
            "window_p_value": drift.p_value,
        }
        for shift in drift.shifts
    ]
