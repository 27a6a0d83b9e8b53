from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from pipelines.training.workers.bins import Extremes, bin_rows, matrix_of_bins

KINDS = ["q", "q", "c"]
NUMBERS = st.one_of(st.floats(-1e6, 1e6, width=32), st.sampled_from([0.0, 1.0, np.nan]))


def edges_of(matrix: Any) -> tuple[list[int], list[float]]:
    starts, values = matrix.get_quantile_cut()
    return starts.tolist(), values.tolist()


@st.composite
def samples(draw: st.DrawFn) -> np.ndarray:
    rows = draw(st.integers(1, 60))
    numbers = draw(arrays.arrays(np.float32, (rows, 2), elements=NUMBERS))
    codes = draw(arrays.arrays(np.float32, (rows, 1), elements=st.sampled_from([0.0, 1.0, 4.0])))
    return np.hstack([numbers, codes])


@settings(max_examples=60, deadline=None)
@given(matrix=samples(), max_bin=st.sampled_from([2, 5, 256]), weights=st.booleans())
def test_a_few_rows_give_the_bins_of_the_sample(matrix: np.ndarray, max_bin: int, weights: bool) -> None:
    import xgboost

    matrix[0] = np.nan_to_num(matrix[0])  # a column without any value is no column of a model
    weight = np.arange(1, len(matrix) + 1.0) if weights else np.ones(len(matrix))
    options = {"feature_types": KINDS, "enable_categorical": True, "max_bin": max_bin, "nthread": 1}
    wanted = xgboost.QuantileDMatrix(matrix, weight=weight, **options)
    rows = bin_rows((matrix, weight, weight), Extremes.of([matrix], 3), KINDS, max_bin, 1)
    assert len(rows) <= max(max_bin, 5) + 1
    assert edges_of(matrix_of_bins(rows, KINDS, max_bin, 1)) == edges_of(wanted)


def test_bins_reach_as_far_as_all_rows_do() -> None:
    sample = np.array([[1, 2, 0], [2, np.nan, 1], [3, 4, 1]], np.float32)
    others = np.array([[-7, 3, 5], [2, 90, np.nan]], np.float32)
    extremes = Extremes.of([sample, others, others[:0]], 3)
    assert [bound.tolist() for bound in extremes] == [[-7, 2, 0], [3, 90, 5]]
    rows = bin_rows((sample, np.ones(3), np.ones(3)), extremes, KINDS, 256, 1)
    starts, values = edges_of(matrix_of_bins(rows, KINDS, 256, 1))
    first, second, codes = (values[start:stop] for start, stop in itertools.pairwise(starts))
    assert first[0] < -7 and first[-1] > 3
    assert second[0] < 2 and second[-1] > 90
    assert codes[-6:] == [0, 1, 2, 3, 4, 5]
