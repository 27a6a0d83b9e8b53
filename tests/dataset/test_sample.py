from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from pipelines.config import Sampling
from pipelines.dataset.sample import sample
from pipelines.errors import DataError


def rows(train: int = 400) -> pa.Table:
    split = ["train"] * train + ["validation"] * 10 + ["test"] * 10
    return pa.table({
        "kettle_id": [f"k{n}" for n in range(len(split))],
        "split": split,
        "label": pa.array([n % 2 for n in range(len(split))], pa.int8()),
    })  # fmt: skip


def count(table: pa.Table, split: str) -> int:
    return table["split"].to_pylist().count(split)


def test_all_keeps_every_labelled_row() -> None:
    table = rows()
    holes = table.set_column(2, "label", pa.array([None, *table["label"].to_pylist()[1:]], pa.int8()))
    assert sample(holes, Sampling()).num_rows == table.num_rows - 1


def test_random_draws_from_the_training_split_alone_and_by_its_seed() -> None:
    drawn = sample(rows(), Sampling(method="random", fraction=0.25, seed=3))
    assert [count(drawn, split) for split in ("train", "validation", "test")] == [100, 10, 10]
    assert drawn.equals(sample(rows(), Sampling(method="random", fraction=0.25, seed=3)))
    assert not drawn.equals(sample(rows(), Sampling(method="random", fraction=0.25, seed=4)))
    assert drawn["kettle_id"].to_pylist() == sorted(drawn["kettle_id"].to_pylist(), key=lambda key: int(key[1:]))


def test_every_row_has_the_same_chance() -> None:
    """Inclusion counts over 400 seeds lie within 5 standard deviations of their expectation, for each of 100 rows."""
    seeds, fraction = 400, 0.3
    included = np.zeros(100)
    for seed in range(seeds):
        drawn = sample(rows(100), Sampling(method="random", fraction=fraction, seed=seed))
        included[[int(key[1:]) for key in drawn["kettle_id"].to_pylist()[: round(100 * fraction)]]] += 1
    deviation = np.sqrt(seeds * fraction * (1 - fraction))
    assert np.abs(included - seeds * fraction).max() < 5 * deviation


def test_a_split_of_one_class_is_refused() -> None:
    table = rows().filter(pa.array([True] * 410 + [n % 2 == 0 for n in range(10)]))
    with pytest.raises(DataError, match="the test split has one class only"):
        sample(table, Sampling())
