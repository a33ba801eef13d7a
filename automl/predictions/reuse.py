"""`publish.mode = "new"`: reuse rows of an earlier generation instead of predicting them again.

A row is reused if the same version predicted it and its key, time and features are unchanged. Both
frozen batches are hashed, 64 bits for the key and 64 for the content of each row; only the hashes are
kept in memory.

The new generation equals that of mode "full" to the last bit. Linear algebra works on groups of rows and
rounds the rows after the last group differently; so those are always predicted, and the model gets whole
groups, whose surplus predictions are dropped.

Reuse is optional: rows that are missing, of other columns or unreadable are logged and predicted.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import sqlalchemy as sa
from numpy.typing import NDArray

from automl import history
from automl.history import UPDATED, Folders, Snapshot
from automl.history.contract import Contract
from automl.modeling.tasks import task_of
from automl.predictions.bulk_load import read_slices
from automl.predictions.key_checksum import hash_keys
from automl.predictions.predict import PIECE_ROWS, Predictions, read_pieces
from automl.predictions.tables import STAMPS, audit_record, key_of, reflected
from automl.problem import Problem
from automl.store import Release, Store
from automl.store import tables as t

__all__ = ["ReusedRows", "find_reusable"]

GROUP = 64  # rows; a multiple of every vector width, and a divisor of a piece
Hashes = NDArray[np.uint64]
Flags = NDArray[np.bool_]
_log = logging.getLogger(__name__)


def find_reusable(
    store: Store, problem: Problem, release: Release, batch: Snapshot, contract: Contract
) -> ReusedRows | None:
    """The rows of a batch that need not be predicted; None, with the reason logged, if all must."""
    if problem.publish.mode != "new":
        return None
    try:
        found = _search(store, problem, release, batch, contract)
    except Exception as error:  # noqa: BLE001  without reuse all rows are predicted
        found = history.error_text(error, problem)
    if isinstance(found, str):
        _log.info("all %d rows are predicted: %s", batch.rows, found)
        return None
    return found


class ReusedRows:
    """Rows of an earlier generation that a batch reuses, identified by the hashes of their keys."""

    def __init__(
        self, store: Store, problem: Problem, contract: Contract, generation: int, wanted: Hashes
    ) -> None:
        self.store, self.problem, self.contract = store, problem, contract
        self.generation, self.wanted = generation, wanted  # ascending
        self.found = np.zeros(len(wanted), bool)  # which of them have been read

    @property
    def rows(self) -> int:
        """How many rows were reused."""
        return int(self.found.sum())

    def complete(
        self,
        frames: Iterable[pd.DataFrame],
        predict: Callable[[Iterable[pd.DataFrame]], Generator[Predictions, None, None]],
    ) -> Generator[Predictions, None, None]:
        """The reused rows, then predictions for the rest of the batch."""
        yield from self._reused()
        with closing(predict(self._rest(frames))) as pieces:
            for predictions, classes in pieces:
                new = ~self._found(hash_keys(predictions, key_of(self.problem)))
                if new.any():
                    n_classes = len(self.contract.classes)
                    yield (
                        predictions[new],
                        None if classes is None else classes[np.repeat(new, n_classes)],
                    )

    def _reused(self) -> Iterator[Predictions]:
        try:
            for predictions, classes in self._stored():
                hashes = hash_keys(predictions, key_of(self.problem))
                predicted = predictions["prediction"].notna().to_numpy()
                chosen, per_class = predicted & _place(self.wanted, hashes)[1], classes
                if classes is not None:
                    chosen, per_class = self._with_classes(hashes, chosen, classes)
                if chosen.any():
                    self.found[_place(self.wanted, hashes[chosen])[0]] = True
                    yield predictions[chosen], per_class
        except Exception as error:  # noqa: BLE001  rows that were not read are predicted
            _log.warning(
                "generation %d could only be read in part: %s [no_reuse]",
                self.generation,
                history.error_text(error, self.problem),
            )

    def _with_classes(
        self, hashes: Hashes, chosen: Flags, classes: pd.DataFrame
    ) -> tuple[Flags, pd.DataFrame]:
        """Only rows with a probability for every class, and these probabilities."""
        known = classes[classes["class"].isin(list(self.contract.classes))]
        keys = hash_keys(known, key_of(self.problem))
        distinct, counts = np.unique(keys, return_counts=True)
        complete = distinct[counts == len(self.contract.classes)]
        chosen = chosen & _place(complete, hashes)[1]
        return chosen, known[_place(np.sort(hashes[chosen]), keys)[1]]

    def _stored(self) -> Iterator[Predictions]:
        """Rows of the earlier generation in the form that `predict` returns."""
        with self.store.engine.connect() as connection:
            main = reflected(connection, f"{self.problem.table}_generations")
            if not task_of(self.contract.classes, self.problem.task).publishes_classes:
                slices = self._slices(main, PIECE_ROWS)
                yield from ((rows, None) for rows in slices)
                return
            per_class = reflected(connection, f"{self.problem.table}_classes_generations")
        n_classes = len(self.contract.classes)
        rows = max(1, PIECE_ROWS // n_classes)
        # both tables are in key order; where they are not, fewer rows are reused
        classes = self._slices(per_class, rows * n_classes)
        yield from zip(self._slices(main, rows), classes, strict=False)

    def _slices(self, table: sa.Table, rows: int) -> Iterator[pd.DataFrame]:
        columns = [c for c in table.columns if c.name not in STAMPS]
        return read_slices(self.store.engine, table, columns, self.generation, rows)

    def _rest(self, frames: Iterable[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        """Rows to predict, filled up to whole groups."""
        for frame in frames:
            missing = ~self._found(hash_keys(frame, key_of(self.problem)))
            if missing.any():
                yield frame[_in_groups(missing)]

    def _found(self, hashes: Hashes) -> Flags:
        place, known = _place(self.wanted, hashes)
        known[known] = self.found[place[known]]
        return known


def _search(
    store: Store, problem: Problem, release: Release, batch: Snapshot, contract: Contract
) -> ReusedRows | str:
    """The reusable rows, or the reason why there are none."""
    if history.personal_keys(problem):
        return "their keys are personal"
    if problem.transformer is not None:
        return "features.transformer may look at several rows at once"
    earlier = _earlier(store, problem, release)
    if earlier is None:
        return f"found no generation of version {release.model_version}"
    wanted = _reusable_keys(store, problem, earlier, batch, contract)
    return (
        wanted
        if isinstance(wanted, str)
        else ReusedRows(store, problem, contract, earlier.id, wanted)
    )


def _reusable_keys(
    store: Store, problem: Problem, earlier: sa.Row[Any], batch: Snapshot, contract: Contract
) -> Hashes | str:
    """Hashed keys of the rows that are unchanged, or the reason why there are none."""
    folders = Folders(store.workspace.history(problem.name))
    before = history.frozen_batch(folders, earlier.batch)
    if before is None:
        return f"the frozen batch of generation {earlier.id} was removed"
    if _columns(before) != _columns(batch):
        return f"the batch of generation {earlier.id} has other columns"
    wanted = _unchanged(before, batch, problem, list(contract.features))
    return (
        wanted if len(wanted) else f"no row of generation {earlier.id} is in this batch unchanged"
    )


def _earlier(store: Store, problem: Problem, release: Release) -> sa.Row[Any] | None:
    """The live generation if this version made it; else the newest audited generation of this version."""
    g, live = t.generation.c, store.live(problem.table)
    seen = live.id if live else 0
    query = (
        sa.select(t.generation)
        .join(audit_record, audit_record.c.generation == g.id)
        .where(
            g.problem == problem.name,
            g.model_version == release.model_version,
            g.run_id == release.run_id,
            g.state.in_(("staged", "published")),
            audit_record.c.found.is_not(None),
        )
        .order_by((g.id == seen).desc(), g.id.desc())
    )
    with store.engine.connect() as connection:
        if not sa.inspect(connection).has_table(audit_record.name):
            return None
        return connection.execute(query.limit(1)).first()


def _columns(batch: Snapshot) -> list[pa.Field]:
    return [field for field in history.scan(batch).schema if field.name != UPDATED]


def _unchanged(before: Snapshot, batch: Snapshot, problem: Problem, features: list[str]) -> Hashes:
    """Hashed keys, ascending, of the rows that are equal in both batches."""
    keys, contents = _hashes(before, problem, features)
    equal, count = np.zeros(len(keys), bool), np.zeros(len(keys), "uint32")
    for batch_keys, content, whole in _hashed(batch, problem, features):
        place, same = _place(keys, batch_keys)
        np.add.at(count, place[same], 1)
        same[same] = contents[place[same]] == content[same]
        same[whole:] = False
        equal[place[same]] = True
    # keys with equal hashes, by chance in one of a million batches, are not reused
    unique = np.ones(len(keys), bool)
    unique[1:] &= keys[1:] != keys[:-1]
    unique[:-1] &= keys[1:] != keys[:-1]
    return keys[equal & unique & (count == 1)]


def _hashes(batch: Snapshot, problem: Problem, features: list[str]) -> tuple[Hashes, Hashes]:
    """Hashed keys, ascending, and contents in the same order, of the rows in whole groups."""
    keys, contents = [np.empty(0, "uint64")], [np.empty(0, "uint64")]
    for key, content, whole in _hashed(batch, problem, features):
        keys.append(key[:whole])
        contents.append(content[:whole])
    key, content = np.concatenate(keys), np.concatenate(contents)
    order = np.argsort(key)
    return key[order], content[order]


def _hashed(
    batch: Snapshot, problem: Problem, features: list[str]
) -> Iterator[tuple[Hashes, Hashes, int]]:
    """Per piece: hashed keys, hashed contents, and the number of rows in whole groups."""
    key = key_of(problem)
    names = list(dict.fromkeys([*key, problem.history.time, *features]))
    for frame in read_pieces(batch, problem):
        yield hash_keys(frame, key), _content(frame[names]), len(frame) // GROUP * GROUP


def _content(frame: pd.DataFrame) -> Hashes:
    """One hash per row; numbers by their bits, because pandas hashes -0.0 as 0.0."""
    numbers = frame.select_dtypes("float64")
    bits = {name: numbers[name].to_numpy().view("int64") for name in numbers}
    return np.asarray(
        pd.util.hash_pandas_object(frame.assign(**bits), index=False).to_numpy("uint64")
    )


def _place(ordered: Hashes, hashes: Hashes) -> tuple[NDArray[np.intp], Flags]:
    """Positions of hashes in an ascending array, and whether each is in it."""
    if not len(ordered):
        return np.zeros(len(hashes), np.intp), np.zeros(len(hashes), bool)
    place = np.minimum(np.searchsorted(ordered, hashes), len(ordered) - 1)
    return place, ordered[place] == hashes


def _in_groups(missing: Flags) -> Flags:
    """Add rows until the missing ones fill whole groups, at least one; rows after the last group are missing."""
    whole = len(missing) // GROUP * GROUP
    count = int(missing[:whole].sum())
    added = np.flatnonzero(~missing[:whole])[: max(-count % GROUP, GROUP * (count == 0))]
    filled = missing.copy()
    filled[added] = True
    return filled
