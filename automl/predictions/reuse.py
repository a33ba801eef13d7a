"""`publish.mode = "new"`: rows of an earlier generation instead of predicting them again.

A row is taken over if the same version has predicted it and nothing that the model or the published row
takes from the batch has changed: key, time and features. Both frozen batches are hashed, 64 bits for the
key and 64 for the content of each row; no more than that is held of a batch, however long.

The new generation is what mode "full" would publish, to the last bit. Linear algebra works on groups of
rows and rounds the few that are left at the end of a piece otherwise; so those are always predicted, and
the model is asked about whole groups, whose spare answers are dropped.

Reuse is a convenience: whatever is missing, of other columns or unreadable is told and predicted.
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
from automl.predictions.bulk_load import read_slices
from automl.predictions.key_checksum import hash_keys
from automl.predictions.predict import PIECE_ROWS, Predictions, read_pieces
from automl.predictions.tables import STAMPS, audited, key_of, reflected
from automl.problem import Problem
from automl.store import Release, Store
from automl.store import tables as t

__all__ = ["Kept", "find_reusable"]

GROUP = 64  # rows; a multiple of every vector width, and a divisor of a piece
Hashes = NDArray[np.uint64]
Flags = NDArray[np.bool_]
_log = logging.getLogger(__name__)


def find_reusable(
    store: Store, problem: Problem, release: Release, batch: Snapshot, contract: Contract
) -> Kept | None:
    """The rows of a batch that need not be predicted; None if all must, and why is told."""
    if problem.publish.mode != "new":
        return None
    try:
        found = _search(store, problem, release, batch, contract)
    except Exception as error:  # noqa: BLE001  without reuse all rows are predicted
        found = history.words(error, problem)
    if isinstance(found, str):
        _log.info("all %d rows are predicted: %s", batch.rows, found)
        return None
    return found


class Kept:
    """Rows that an earlier generation holds for a batch, known by the hashes of their keys."""

    def __init__(
        self, store: Store, problem: Problem, contract: Contract, generation: int, wanted: Hashes
    ) -> None:
        self.store, self.problem, self.contract = store, problem, contract
        self.generation, self.wanted = generation, wanted  # in rising order
        self.found = np.zeros(len(wanted), bool)  # which of them were really read

    @property
    def rows(self) -> int:
        """How many rows were taken over."""
        return int(self.found.sum())

    def complete(
        self,
        frames: Iterable[pd.DataFrame],
        answer: Callable[[Iterable[pd.DataFrame]], Generator[Predictions, None, None]],
    ) -> Generator[Predictions, None, None]:
        """The rows taken over, then what the model answers for the rest of the batch."""
        yield from self._taken_over()
        with closing(answer(self._rest(frames))) as pieces:
            for predictions, classes in pieces:
                new = ~self._found(hash_keys(predictions, key_of(self.problem)))
                if new.any():
                    each = len(self.contract.classes)
                    yield (
                        predictions[new],
                        None if classes is None else classes[np.repeat(new, each)],
                    )

    def _taken_over(self) -> Iterator[Predictions]:
        try:
            for predictions, classes in self._stored():
                hashes = hash_keys(predictions, key_of(self.problem))
                said = predictions["prediction"].notna().to_numpy()
                chosen, theirs = said & _place(self.wanted, hashes)[1], classes
                if classes is not None:
                    chosen, theirs = self._with_classes(hashes, chosen, classes)
                if chosen.any():
                    self.found[_place(self.wanted, hashes[chosen])[0]] = True
                    yield predictions[chosen], theirs
        except Exception as error:  # noqa: BLE001  what was not read is predicted
            _log.warning(
                "generation %d cannot be read to its end: %s [no_reuse]",
                self.generation,
                history.words(error, self.problem),
            )

    def _with_classes(
        self, hashes: Hashes, chosen: Flags, classes: pd.DataFrame
    ) -> tuple[Flags, pd.DataFrame]:
        """Only rows of which every class is there, and their classes."""
        known = classes[classes["class"].isin(list(self.contract.classes))]
        theirs = hash_keys(known, key_of(self.problem))
        told, times = np.unique(theirs, return_counts=True)
        whole = told[times == len(self.contract.classes)]
        chosen = chosen & _place(whole, hashes)[1]
        return chosen, known[_place(np.sort(hashes[chosen]), theirs)[1]]

    def _stored(self) -> Iterator[Predictions]:
        """Rows of the earlier generation as `predict` answered them."""
        with self.store.engine.connect() as connection:
            main = reflected(connection, f"{self.problem.table}_generations")
            if self.problem.task != "multiclass":
                slices = self._slices(main, PIECE_ROWS)
                yield from ((rows, None) for rows in slices)
                return
            per_class = reflected(connection, f"{self.problem.table}_classes_generations")
        each = len(self.contract.classes)
        rows = max(1, PIECE_ROWS // each)
        # both stand in the order of the key; where they do not, less is taken over
        yield from zip(self._slices(main, rows), self._slices(per_class, rows * each), strict=False)

    def _slices(self, table: sa.Table, rows: int) -> Iterator[pd.DataFrame]:
        columns = [c for c in table.columns if c.name not in STAMPS]
        return read_slices(self.store.engine, table, columns, self.generation, rows)

    def _rest(self, frames: Iterable[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        """What was not taken over, filled up to whole groups."""
        for frame in frames:
            asked = ~self._found(hash_keys(frame, key_of(self.problem)))
            if asked.any():
                yield frame[_in_groups(asked)]

    def _found(self, hashes: Hashes) -> Flags:
        place, known = _place(self.wanted, hashes)
        known[known] = self.found[place[known]]
        return known


def _search(
    store: Store, problem: Problem, release: Release, batch: Snapshot, contract: Contract
) -> Kept | str:
    """The rows that may be taken over, or why there are none."""
    if history.personal_keys(problem):
        return "their keys are personal"
    if problem.transformer is not None:
        return "features.transformer may look at several rows at once"
    earlier = _earlier(store, problem, release)
    if earlier is None:
        return f"no generation of version {release.model_version} is there"
    wanted = _wanted(store, problem, earlier, batch, contract)
    return wanted if isinstance(wanted, str) else Kept(store, problem, contract, earlier.id, wanted)


def _wanted(
    store: Store, problem: Problem, earlier: sa.Row[Any], batch: Snapshot, contract: Contract
) -> Hashes | str:
    """Hashed keys of the rows that come again unchanged, or why there are none."""
    folders = Folders(store.workspace.history(problem.name))
    before = history.frozen_batch(folders, earlier.batch)
    if before is None:
        return f"the frozen batch of generation {earlier.id} is gone"
    if _columns(before) != _columns(batch):
        return f"generation {earlier.id} was made of other columns"
    wanted = _unchanged(before, batch, problem, list(contract.features))
    return wanted if len(wanted) else f"no row of generation {earlier.id} comes again unchanged"


def _earlier(store: Store, problem: Problem, release: Release) -> sa.Row[Any] | None:
    """What readers see, if this version made it; else the newest audited generation of this version."""
    g, live = t.generation.c, store.live(problem.table)
    seen = live.id if live else 0
    query = (
        sa.select(t.generation)
        .join(audited, audited.c.generation == g.id)
        .where(
            g.problem == problem.name,
            g.model_version == release.model_version,
            g.run_id == release.run_id,
            g.state.in_(("staged", "published")),
            audited.c.found.is_not(None),
        )
        .order_by((g.id == seen).desc(), g.id.desc())
    )
    with store.engine.connect() as connection:
        if not sa.inspect(connection).has_table(audited.name):
            return None
        return connection.execute(query.limit(1)).first()


def _columns(batch: Snapshot) -> list[pa.Field]:
    return [field for field in history.scan(batch).schema if field.name != UPDATED]


def _unchanged(before: Snapshot, batch: Snapshot, problem: Problem, features: list[str]) -> Hashes:
    """Hashed keys, in rising order, of the rows that both batches hold alike."""
    keys, contents = _hashes(before, problem, features)
    alike, met = np.zeros(len(keys), bool), np.zeros(len(keys), "uint32")
    for theirs, content, whole in _hashed(batch, problem, features):
        place, same = _place(keys, theirs)
        np.add.at(met, place[same], 1)
        same[same] = contents[place[same]] == content[same]
        same[whole:] = False
        alike[place[same]] = True
    # keys of one hash, which chance brings about once in a million batches, are left alone
    alone = np.ones(len(keys), bool)
    alone[1:] &= keys[1:] != keys[:-1]
    alone[:-1] &= keys[1:] != keys[:-1]
    return keys[alike & alone & (met == 1)]


def _hashes(batch: Snapshot, problem: Problem, features: list[str]) -> tuple[Hashes, Hashes]:
    """Keys in rising order, and the contents beside them, of the rows in whole groups."""
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
    """Piece by piece: hashed keys, hashed contents, and how many rows stand in whole groups."""
    key = key_of(problem)
    names = list(dict.fromkeys([*key, problem.history.time, *features]))
    for frame in read_pieces(batch, problem):
        yield hash_keys(frame, key), _content(frame[names]), len(frame) // GROUP * GROUP


def _content(frame: pd.DataFrame) -> Hashes:
    """One hash per row; numbers by their bits, for pandas takes -0.0 for 0.0."""
    numbers = frame.select_dtypes("float64")
    bits = {name: numbers[name].to_numpy().view("int64") for name in numbers}
    return np.asarray(
        pd.util.hash_pandas_object(frame.assign(**bits), index=False).to_numpy("uint64")
    )


def _place(ordered: Hashes, hashes: Hashes) -> tuple[NDArray[np.intp], Flags]:
    """Where hashes stand among ordered ones, and whether they do."""
    if not len(ordered):
        return np.zeros(len(hashes), np.intp), np.zeros(len(hashes), bool)
    place = np.minimum(np.searchsorted(ordered, hashes), len(ordered) - 1)
    return place, ordered[place] == hashes


def _in_groups(asked: Flags) -> Flags:
    """At least one group, and none that is half asked; the rows after the last group are always asked."""
    whole = len(asked) // GROUP * GROUP
    count = int(asked[:whole].sum())
    spare = np.flatnonzero(~asked[:whole])[: max(-count % GROUP, GROUP * (count == 0))]
    filled = asked.copy()
    filled[spare] = True
    return filled
