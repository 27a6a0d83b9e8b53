"""lens: a vector column as a few numbers a row, by which profiles see what it is like and how far it has moved.

Of a text these are its length, the share of its words that the training rows lack, and where it lies along the leading
directions of the training rows' hashed words. To look at few directions, each by itself, finds shifts about as well as
tests on whole vectors do, and says which way (Rabanser, Günnemann and Lipton, Failing loudly, 2019). So a profile never
holds a text, nor a count of one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipelines.config import VectorKind
from pipelines.profiles.column import Frozen
from pipelines.vectors.measures import MEASURES, measure_name
from pipelines.vectors.terms import batches, bucketed, counts

Array = NDArray[Any]
DIRECTIONS = 3
SLOTS = 2**17  # that words are hashed to, to tell new ones: of ten thousand known ones a new one meets one in 13 times
BUCKETS = 256  # of these for the directions
UNSEEN = "unseen words"


class Lens(Frozen):
    """What the training rows say of one vector column. `directions`: (directions, buckets). `known`: of each slot of a
    word whether training had one, as bits in hexadecimal."""

    kind: VectorKind
    directions: tuple[tuple[float, ...], ...]
    known: str


def fit_lens(column: pa.ChunkedArray, kind: VectorKind) -> Lens:
    """The lens of a column of training rows."""
    squares, is_known = np.zeros((BUCKETS, BUCKETS)), np.zeros(SLOTS, dtype=bool)
    for _, part in batches(column.drop_null()):
        hashed = bucketed(counts(part, "words", 1, 1), SLOTS, BUCKETS)
        is_known[hashed.slots] = True
        squares += (hashed.matrix.T @ hashed.matrix).toarray()
    _, vectors = np.linalg.eigh(squares)
    directions = vectors.T[::-1][:DIRECTIONS]
    # Which end of a direction is up is chance: up is where more of its words point.
    directions = directions * np.where(directions.sum(axis=1, keepdims=True) < 0, -1, 1)
    return Lens(
        kind=kind,
        directions=tuple(map(tuple, directions.round(6).tolist())),
        known=np.packbits(is_known).tobytes().hex(),
    )


def view_names(name: str, lens: Lens) -> list[str]:
    """Names of the numbers that a column is seen as."""
    directions = [f"{name} (direction {place + 1})" for place in range(len(lens.directions))]
    return [measure_name(name, lens.kind), f"{name} ({UNSEEN})", *directions]


def seen(rows: pa.Table, lenses: Mapping[str, Lens]) -> pa.Table:
    """The rows with their vectors as numbers, float64, null where a row has no value; what is no vector stays.

    >>> lens = fit_lens(pa.chunked_array([["bird struck", "no damage"]]), "text")
    >>> looked_at = seen(pa.table({"remarks": ["bird found", None]}), {"remarks": lens})
    >>> looked_at.select(["remarks (characters)", "remarks (unseen words)"]).to_pylist()[0]
    {'remarks (characters)': 10, 'remarks (unseen words)': 0.5}
    """
    for name, lens in lenses.items():
        if name in rows.column_names:
            columns = zip(view_names(name, lens), _views(rows[name], lens), strict=True)
            rows = rows.drop_columns(name)
            for view, values in columns:
                rows = rows.append_column(view, values)
    return rows


def _views(column: pa.ChunkedArray, lens: Lens) -> list[pa.Array | pa.ChunkedArray]:
    is_known = np.unpackbits(np.frombuffer(bytes.fromhex(lens.known), np.uint8)).astype(bool)
    directions = np.array(lens.directions, dtype=np.float32).T
    unseen, placed = np.full(len(column), np.nan), np.zeros((len(column), directions.shape[1]))
    for place, part in batches(column):
        hashed = bucketed(counts(part, "words", 1, 1), SLOTS, BUCKETS)
        words, strange = hashed.words.sum(axis=1), hashed.words @ (~is_known[hashed.slots]).astype(np.float64)
        unseen[place] = np.divide(strange, words, out=np.full(len(words), np.nan), where=words > 0)
        placed[place] = hashed.matrix @ directions
    _, measure = MEASURES[lens.kind]
    is_missing = pc.is_null(column).to_numpy(zero_copy_only=False) if len(column) else np.zeros(0, dtype=bool)
    numbers = [pa.array(unseen, mask=np.isnan(unseen)), *(pa.array(along, mask=is_missing) for along in placed.T)]
    return [measure(column), *numbers]
