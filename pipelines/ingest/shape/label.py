"""What is to be predicted: the world may shift it as it likes, and only what the world does not do counts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np

from pipelines.config import Shape
from pipelines.ingest.shape.distance import CLUSTERED, FEWEST_VALUES, FLOOR, Suspicion, allowed, distances, nearest
from pipelines.ingest.shape.number import judge_unit
from pipelines.ingest.shape.profile import MOSTLY, Array, ColumnShape
from pipelines.ingest.shape.units import CERTAIN

HARDLY = 0.05  # of the least share that the other classes had: a few that are left are no more than slips
NEVER = 1e-6  # chance that all rows have one value though others go on coming: below it, it is a fault


def judge_label(
    settings: Shape, name: str, past: Sequence[ColumnShape], column: ColumnShape, unit: str
) -> dict[str, Suspicion]:
    """A delay that doubles in a snow storm, or a class that gets rare, is what a model is trained again for, and no
    fault. One value for all rows is one, and so are codes that changed places and values in another unit: where the
    labels lie far off, and undoing just that makes them like those before.
    """
    if column.kind == "number":
        return {f"{name}: one value for all": _judge_constant(past, column)} | judge_unit(
            settings, name, past, column, unit
        )
    return {f"{name}: one value for all": _judge_one_class(past, column)} | _judge_swapped(settings, name, past, column)


def _judge_constant(past: Sequence[ColumnShape], column: ColumnShape) -> Suspicion:
    """Share of the most frequent value; of a number that often has one, as no rain is, a dry week is no fault."""
    usual = max(column.mode_share for column in past)
    is_told = column.count >= FEWEST_VALUES and column.distinct == 1 and usual < MOSTLY
    return Suspicion(column.mode_share, usual, MOSTLY if is_told else 1.0, "of the labels have one value")


def _judge_one_class(past: Sequence[ColumnShape], column: ColumnShape) -> Suspicion:
    """Share of the most frequent class, where all rows but a few have it: by chance that hardly happens if the other
    classes had steady shares (never less than half of their mean)."""
    place = int(column.shares.argmax())
    others = np.array([1 - column.shares[place] for column in past])
    likely = float(np.exp(-others.min() * column.count / CLUSTERED))
    are_gone = 1 - column.shares[place] <= HARDLY * others.min()
    is_told = are_gone and others.min() >= others.mean() / 2 and likely < NEVER
    usual = float(1 - others.min())
    return Suspicion(float(column.shares[place]), usual, (1 + usual) / 2 if is_told else 1.0, "of the labels are alike")


def _judge_swapped(
    settings: Shape, name: str, past: Sequence[ColumnShape], column: ColumnShape
) -> dict[str, Suspicion]:
    shares, counts = [column.shares for column in past], [column.count for column in past]
    far, usual = distances(shares, column.shares, "category")
    limit = allowed(FLOOR["category"], settings.tolerance * usual, counts, column.count)
    if far <= limit:
        return {}
    undone = min((nearest(shares, swapped, "category") for swapped in _swaps(shares, column.shares)), default=far)
    swapped = Suspicion(far, usual, limit, "of the labels are other ones, and not once two classes change places")
    return {f"{name}: classes swapped": swapped} if undone < far / CERTAIN else {}


def _swaps(past: Sequence[Array], shares: Array) -> Iterator[Array]:
    """The shares with two of the classes exchanged."""
    there = np.flatnonzero(np.sum([*past, shares], axis=0))
    for pair in combinations(there, 2):
        swapped = shares.copy()
        swapped[list(pair)] = shares[list(pair[::-1])]
        yield swapped
