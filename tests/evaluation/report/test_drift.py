from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from pipelines.evaluation.report.drift import drift

FEATURES = ["litres", "shelf", "is_blue", "age"]


def rows(seed: int, count: int = 2_000, shift: float = 0.0, top: float = 0.5) -> pa.Table:
    random = np.random.default_rng(seed)
    columns = {
        "litres": random.normal(shift, 1, count),
        "shelf": np.where(random.random(count) < top, "top", "bottom"),
        "is_blue": random.random(count) < 0.5,
        "age": pa.array(random.integers(0, 3, count), pa.int64(), mask=random.random(count) < 0.2),
    }
    return pa.table(columns)


def scores(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random(2_000)


SCORES = scores(0)


def test_rows_of_the_same_kind_do_not_drift() -> None:
    found = drift(rows(1), rows(2), FEATURES, SCORES, scores(3))
    assert set(found["columns"]) == set(FEATURES)
    assert all(0 <= value < 0.03 for value in [*found["columns"].values(), found["prediction"]])


def test_what_moved_is_found_and_nothing_else() -> None:
    found = drift(rows(1), rows(2, shift=1.0, top=0.9), FEATURES, SCORES, SCORES**3)
    assert found["columns"]["litres"] > 0.5
    assert found["columns"]["shelf"] > 0.5
    assert found["columns"]["is_blue"] < 0.03
    assert found["prediction"] > 0.5


@pytest.mark.parametrize("name", FEATURES)
def test_missing_values_are_a_part_of_what_a_column_looks_like(name: str) -> None:
    test = rows(2)
    gone = test.set_column(test.schema.get_field_index(name), name, pa.nulls(2_000, test.schema.field(name).type))
    assert drift(rows(1), gone, FEATURES, SCORES, SCORES)["columns"][name] > 1
    assert drift(gone, gone, FEATURES, SCORES, SCORES)["columns"][name] == 0


def test_new_categories_and_values_below_a_constant_are_found() -> None:
    one = pa.table({"c": ["a"] * 100, "n": [5] * 100})
    other = pa.table({"c": ["b"] * 100, "n": [4] * 100})
    found = drift(one, other, ["c", "n"], np.full(100, 0.5), np.full(100, 0.4))
    assert min(*found["columns"].values(), found["prediction"]) > 1


def test_weights_count() -> None:
    heavy = rows(2)
    weight = np.where(np.array(heavy["shelf"]) == "top", 9.0, 1.0)
    found = drift(rows(1), heavy.append_column("weight", pa.array(weight)), FEATURES, SCORES, SCORES)
    assert found["columns"]["shelf"] > 0.3


def test_of_several_classes_the_score_that_moved_most_counts() -> None:
    three = np.column_stack([SCORES / 2, SCORES / 2, 1 - SCORES])
    other = np.column_stack([SCORES / 2, np.zeros(2_000), 1 - SCORES / 2])
    assert drift(rows(1), rows(2), [], three, three)["prediction"] == 0
    assert drift(rows(1), rows(2), [], three, other)["prediction"] > 1


def test_no_rows_prove_nothing() -> None:
    empty = rows(2).slice(0, 0)
    assert drift(empty, rows(1), ["age"], SCORES[:0], SCORES) == {"columns": {"age": None}, "prediction": None}
    assert drift(rows(1), empty, ["age"], SCORES, SCORES[:0])["prediction"] is None
