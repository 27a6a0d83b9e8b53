"""lens: a vector column as a few numbers a row, by which profiles see what it is like and how far it has moved.

Of a text these are its length, the share of its words that the training rows lack, and where it lies along the leading
directions of the training rows' hashed words; of an embedding its norm, how far it lies from the mean of the training
rows, and where along their leading directions. To look at few directions, each by itself, finds shifts about as well as
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
from pipelines.vectors.lists import matrix
from pipelines.vectors.measures import MEASURES, measure_name
from pipelines.vectors.terms import batches, bucketed, counts

Array = NDArray[Any]
DIRECTIONS = 3
SLOTS = 2**17  # that words are hashed to, to tell new ones: of ten thousand known ones a new one meets one in 13 times
BUCKETS = 256  # of these for the directions
BESIDE: dict[VectorKind, str] = {"text": "unseen words", "embedding": "distance"}


class Lens(Frozen):
    """What the training rows say of one vector column. `directions`: (directions, buckets or numbers). Of a text
    `known`: of each slot of a word whether training had one, as bits in hexadecimal. Of an embedding `mean`."""

    kind: VectorKind
    directions: tuple[tuple[float, ...], ...]
    known: str = ""
    mean: tuple[float, ...] = ()


def fit_lens(column: pa.ChunkedArray, kind: VectorKind) -> Lens:
    """The lens of a column of training rows."""
    values = column.drop_null()
    if kind == "embedding":
        rows = matrix(values).astype(np.float64)
        mean = rows.mean(axis=0) if len(rows) else rows.sum(axis=0)
        away = rows - mean
        rounded = tuple(mean.round(6).tolist())
        return Lens(kind=kind, directions=_leading(away.T @ away), mean=rounded)
    squares, is_known = np.zeros((BUCKETS, BUCKETS)), np.zeros(SLOTS, dtype=bool)
    for _, part in batches(values):
        hashed = bucketed(counts(part, "words", 1, 1), SLOTS, BUCKETS)
        is_known[hashed.slots] = True
        squares += (hashed.matrix.T @ hashed.matrix).toarray()
    return Lens(kind=kind, directions=_leading(squares), known=np.packbits(is_known).tobytes().hex())


def _leading(squares: Array) -> tuple[tuple[float, ...], ...]:
    """The directions along which most of the squares lie, (directions, columns).

    Which end of a direction is up is chance: up is where more of it points.
    """
    _, vectors = np.linalg.eigh(squares)
    directions = vectors.T[::-1][:DIRECTIONS]
    directions = directions * np.where(directions.sum(axis=1, keepdims=True) < 0, -1, 1)
    return tuple(map(tuple, directions.round(6).tolist()))


def view_names(name: str, lens: Lens) -> list[str]:
    """Names of the numbers that a column is seen as."""
    directions = [f"{name} (direction {place + 1})" for place in range(len(lens.directions))]
    return [measure_name(name, lens.kind), f"{name} ({BESIDE[lens.kind]})", *directions]


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
    _, measure = MEASURES[lens.kind]
    beside, placed = (_of_embeddings if lens.kind == "embedding" else _of_texts)(column, lens)
    is_missing = pc.is_null(column).to_numpy(zero_copy_only=False) if len(column) else np.zeros(0, dtype=bool)
    numbers = [pa.array(beside, mask=np.isnan(beside)), *(pa.array(along, mask=is_missing) for along in placed.T)]
    return [measure(column), *numbers]


def _of_texts(column: pa.ChunkedArray, lens: Lens) -> tuple[Array, Array]:
    """The share of unseen words (rows,), NaN where there are no words; and the places along the directions."""
    is_known = np.unpackbits(np.frombuffer(bytes.fromhex(lens.known), np.uint8)).astype(bool)
    directions = np.array(lens.directions, dtype=np.float32).T
    unseen, placed = np.full(len(column), np.nan), np.zeros((len(column), directions.shape[1]))
    for place, part in batches(column):
        hashed = bucketed(counts(part, "words", 1, 1), SLOTS, BUCKETS)
        words, strange = hashed.words.sum(axis=1), hashed.words @ (~is_known[hashed.slots]).astype(np.float64)
        unseen[place] = np.divide(strange, words, out=np.full(len(words), np.nan), where=words > 0)
        placed[place] = hashed.matrix @ directions
    return unseen, placed


def _of_embeddings(column: pa.ChunkedArray, lens: Lens) -> tuple[Array, Array]:
    """The distance from the mean of the training rows (rows,), NaN where there is none; and the places."""
    away = matrix(column, len(lens.mean)).astype(np.float64) - np.array(lens.mean)
    # Row by row, so that a row does not depend on those that it comes with.
    along = [(away * np.array(direction)).sum(axis=1) for direction in lens.directions]
    return np.sqrt(np.square(away).sum(axis=1)), np.stack(along, axis=1)
