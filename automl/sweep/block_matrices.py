"""Matrices of the blocks, encoded once per block and encoding."""

from __future__ import annotations

from collections.abc import Sequence

from automl.modeling.families import Encoding, Family, Shape
from automl.modeling.features import Rows, shape_of, thin
from automl.modeling.recipes import Recipe
from automl.sweep.encoding import Matrices
from automl.sweep.leaderboard import Plan, Work

__all__ = ["BlockMatrices"]


class BlockMatrices(Matrices[Shape]):
    """The matrices that fits on blocks read; at most `row_cap` training rows each."""

    def __init__(self, work: Work, rows: Rows, row_cap: int) -> None:
        super().__init__(self._encode, work.workers)
        self._work, self._rows, self._row_cap = work, rows, row_cap

    def shape(self, recipe: Recipe, block: int) -> Shape | None:
        """The shape of a recipe's matrix; None until it is written."""
        return self.get(self._encoding(recipe), block)

    def begin_for(self, recipe: Recipe, block: int) -> bool:
        """Start encoding a recipe's matrix; False if that was started before."""
        return self.begin(self._encoding(recipe), block)

    def newest_shape(self, family: Family) -> Shape:
        """The shape of a family's matrix of the newest block, encoded now if need be."""
        return self.wait(family.encoding, 0)

    def first_encodings(self, plan: Plan, queue: Sequence[Recipe]) -> list[Encoding]:
        """Encodings of the newest block that the first fits, or else the search, will read."""
        families = self._work.families
        encodings = [self._encoding(r) for r in queue if (r.id, 0) not in plan.cached]
        if plan.challengers != 0:
            encodings += [families[name].encoding for name in plan.favour if name in families]
        return encodings

    def _encoding(self, recipe: Recipe) -> Encoding:
        return self._work.families[recipe.family].encoding_of(recipe)

    def _encode(self, encoding: Encoding, block: int) -> Shape:
        work, cut = self._work, self._work.blocks[block]
        folder = work.scratch / f"{encoding}-{block}"
        self.write(
            thin(self._rows.take(cut.train), self._row_cap, work.problem.sweep.seed),
            self._rows.take(cut.validation),
            work.contract.features,
            encoding,
            folder,
            classes=len(work.contract.classes),
            columns=work.columns,
        )
        return shape_of(folder, work.problem, work.contract)
