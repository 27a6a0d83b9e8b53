"""A worker's share of the training rows: which they are, read and prepared batch by batch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa

from pipelines.config import Parameters
from pipelines.training.external import Batch
from pipelines.training.prepare import Preparation

if TYPE_CHECKING:
    import pyarrow.dataset as ds

BATCH_ROWS = 65_536


class Share(NamedTuple):
    """The rows `start` to `stop` of the training set, counted in the order of its files."""

    files: list[ds.Fragment]
    columns: list[str]
    start: int
    stop: int
    prepare: Preparation
    factors: np.ndarray | None
    """What imbalance multiplies the weights of each class by."""

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The rows as they lie. Of files outside the share no more is read than how many rows they have."""
        at = 0
        for piece, rows_of_piece in _pieces(self.files):
            first, at = at, at + rows_of_piece
            if at <= self.start:
                continue
            if first >= self.stop:
                return
            scanned = piece.to_batches(
                columns=self.columns, batch_size=BATCH_ROWS, batch_readahead=1, use_threads=False
            )
            for batch in scanned:
                begin, end = max(self.start - first, 0), min(self.stop - first, batch.num_rows)
                if begin < end:
                    yield batch.slice(begin, end - begin)
                first += batch.num_rows
                if first >= self.stop:
                    return

    def used(self) -> Iterator[tuple[np.ndarray, Batch]]:
        """Batch by batch, which of its rows are learnt from, and these: matrix, labels and weights."""
        for batch in self.batches():
            yield prepared(pa.Table.from_batches([batch]), self.prepare, self.factors)


def prepared(rows: pa.Table, prepare: Preparation, factors: np.ndarray | None) -> tuple[np.ndarray, Batch]:
    """Which rows have a weight and miss nothing that they must have, bool (n,); and these rows, to be learnt from."""
    weight = rows["weight"].to_numpy()
    is_used = (weight > 0) & prepare.used(rows)
    matrix, y = prepare.transform(rows), rows["label"].to_numpy()
    if not is_used.all():
        matrix, y, weight = matrix[is_used], y[is_used], weight[is_used]
    weighed = weight if factors is None else weight * factors[y.astype(np.int64)]
    return is_used, (matrix, y, weighed)


def edges(rows: int, workers: int) -> list[int]:
    """Where the shares of so many rows begin, and the end.

    >>> edges(10, 3)
    [0, 3, 6, 10]
    """
    return [rows * worker // workers for worker in range(workers + 1)]


def drawn(seed: int, number: int, start: int, rows: int, chance: float) -> np.ndarray:
    """Which of `rows` rows from `start` on a round draws, bool (rows,): the same ones whoever has them.

    >>> bool((drawn(1, 2, 0, 9, 0.5)[4:] == drawn(1, 2, 4, 5, 0.5)).all())
    True
    """
    generator = np.random.Generator(np.random.PCG64([seed & 0xFFFFFFFF, number]).advance(start))
    return np.asarray(generator.random(rows) < chance)


def drawn_weight(
    weight: np.ndarray, is_used: np.ndarray, start: int, number: int, native: Parameters, seed: int
) -> np.ndarray:
    """The weights of the rows that are learnt from in a round: 0 where it does not draw them (`subsample`).

    Args:
        weight: of the rows that are learnt from, float32 (n,).
        is_used: which of the rows from `start` on these are.
        number: of the round, from 0.
        native: parameters under XGBoost's names.
    """
    chance = float(str(native.get("subsample", 1)))
    if chance >= 1:
        return weight
    return np.asarray(weight * drawn(seed, number, start, len(is_used), chance)[is_used])


def _pieces(files: list[ds.Fragment]) -> Iterator[tuple[ds.Fragment, int]]:
    """The smallest parts of files that can be read alone, and how many rows each has."""
    for file in files:
        if hasattr(file, "split_by_row_group"):
            for group in file.split_by_row_group():
                yield group, sum(about.num_rows for about in group.row_groups)
        else:
            yield file, file.count_rows()
