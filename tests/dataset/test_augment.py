from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.config import Augmentation
from pipelines.dataset.augment import augment

FEATURES, CATEGORICAL = ["shelf", "litres", "age", "lid", "wind"], ["shelf", "lid"]
METHODS = ["perturb", "mixup"]


def rows(count: int = 200, seed: int = 0) -> pa.Table:
    random = np.random.default_rng(seed)
    return pa.table(
        {
            "kettle_id": [f"k{n}" for n in range(count)],
            "weight": random.uniform(0.5, 1.5, count),
            "shelf": pa.array(random.choice(["top", "bottom"], count), mask=random.random(count) < 0.1),
            "litres": random.normal(5, 2, size=count),
            "age": random.integers(0, 90, count),
            "lid": pa.array(random.random(count) < 0.5),
            "wind": pa.array(random.normal(size=count) * 1000, mask=random.random(count) < 0.3),
            "label": pa.array(random.random(count) < 0.3).cast(pa.int8()),
        }
    )


def augmented(table: pa.Table, method: str, **settings_: Any) -> pa.Table:
    return augment(table, FEATURES, CATEGORICAL, Augmentation.model_validate({"method": method, **settings_}))


def made_of(table: pa.Table, method: str, **settings_: Any) -> pa.Table:
    return augmented(table, method, **settings_).slice(table.num_rows)


def test_none_gives_the_table_back() -> None:
    table = rows()
    assert augment(table, FEATURES, CATEGORICAL, Augmentation()) is table


@pytest.mark.parametrize("method", METHODS)
def test_real_rows_stay_first_and_types_and_order_are_kept(method: str) -> None:
    table = rows()
    found = augmented(table, method)
    assert found.slice(0, 200).equals(table.drop_columns("kettle_id"))
    assert found.schema == table.drop_columns("kettle_id").schema
    assert found.equals(augmented(table, method)) and not found.equals(augmented(table, method, seed=1))
    assert "wind" not in augment(table, ["litres"], [], Augmentation(method=method)).column_names


@pytest.mark.parametrize("share", [0.1, 0.5, 1.0, 2.5])
def test_perturb_copies_each_row_about_as_often_and_adds_noise_to_numbers(share: float) -> None:
    table = rows()
    made = made_of(table, "perturb", share=share, noise=0.001)
    assert made.num_rows == round(200 * share)
    place = {weight: n for n, weight in enumerate(table["weight"].to_pylist())}
    parents = np.array([place[weight] for weight in made["weight"].to_pylist()])
    times = np.bincount(parents, minlength=200)
    assert times.min() == int(share) and times.max() == int(np.ceil(share))
    for name in ("shelf", "lid", "label"):
        assert made[name].combine_chunks().equals(table[name].take(pa.array(parents)).combine_chunks()), "untouched"
    assert np.array_equal(np.isnan(made["wind"].to_numpy()), np.isnan(table["wind"].to_numpy()[parents]))


def test_noise_is_so_many_standard_deviations_of_its_column() -> None:
    table = rows(20_000)
    table = table.set_column(3, "litres", pa.array(np.random.default_rng(1).normal(50, 10, 20_000)))
    made = made_of(table, "perturb", share=1.0, noise=0.1, seed=3)
    parent = table.take(pa.array(np.random.default_rng(3).permutation(20_000)))
    difference = made["litres"].to_numpy() - parent["litres"].to_numpy()
    assert difference.std() == pytest.approx(0.1 * 10, rel=0.03) and abs(difference.mean()) < 0.03
    spread = table["age"].to_numpy().std() * 0.1
    assert (made["age"].to_numpy() - parent["age"].to_numpy()).std() == pytest.approx(spread, rel=0.05)


def test_made_numbers_stay_within_what_was_seen() -> None:
    table = rows()
    for method in METHODS:
        made = made_of(table, method, share=5.0, noise=3.0) if method == "perturb" else made_of(table, method, share=5)
        for name in ("litres", "age", "wind"):
            seen = table[name].drop_null().to_numpy()
            new = made[name].drop_null().to_numpy()
            assert seen.min() <= new.min() and new.max() <= seen.max()
        assert set(made["shelf"].to_pylist()) == {"top", "bottom", None}


def test_a_column_of_one_value_or_none_stays_so() -> None:
    table = rows().set_column(3, "litres", pa.array([1.25] * 200)).set_column(4, "age", pa.nulls(200, pa.int64()))
    for method in METHODS:
        made = made_of(table, method)
        assert made["litres"].to_numpy() == pytest.approx(1.25) and made["age"].null_count == made.num_rows


def test_mixup_lies_between_two_rows_and_shares_their_weight_and_label() -> None:
    """Two rows: every made point is on the line between them, and tells by its place what its parents' shares are."""
    table = pa.table(
        {
            "x": [0.0, 1.0],
            "n": [0, 1000],
            "shelf": ["top", "bottom"],
            "label": pa.array([0, 1], pa.int8()),
            "weight": [1.0, 3.0],
        }
    )
    found = augment(table, ["x", "n", "shelf"], ["shelf"], Augmentation(method="mixup", share=10, alpha=1.0)).slice(2)
    assert found["n"].to_numpy() == pytest.approx(found["x"].to_numpy() * 1000, abs=0.5)
    between = [row for row in found.to_pylist() if 0 < row["x"] < 1]
    assert {row["label"] for row in between} == {0, 1}
    for row in between:
        assert row["weight"] == pytest.approx(3 * row["x"] if row["label"] else 1 - row["x"])
    pure = [row for row in found.to_pylist() if row["x"] in (0, 1)]
    assert all((row["label"], row["weight"]) == (row["x"], 1 + 2 * row["x"]) for row in pure)


def test_mixup_pairs_have_the_same_features_and_the_weights_of_their_parents() -> None:
    table = rows(5000)
    made = made_of(table, "mixup", share=1.0, alpha=0.4)
    assert made.num_rows > 5000, "points between two classes are two rows"
    points: dict[float, list[dict[str, Any]]] = {}
    for row in made.to_pylist():
        points.setdefault(row["litres"], []).append(row)
    twos = [pair for pair in points.values() if len(pair) == 2]
    assert len(twos) > 1000
    for one, other in twos:
        assert {one.pop("label"), other.pop("label")} == {0, 1}
        assert one.pop("weight") > 0 < other.pop("weight")
        assert one == other
    positive = (table["label"].to_numpy() * table["weight"].to_numpy()).sum() / table["weight"].to_numpy().sum()
    weight = made["weight"].to_numpy()
    assert weight.sum() == pytest.approx(table["weight"].to_numpy().sum(), rel=0.02)
    assert (made["label"].to_numpy() * weight).sum() / weight.sum() == pytest.approx(positive, abs=0.02)


def test_mixup_takes_a_category_of_the_first_with_its_share_and_a_null_of_either() -> None:
    table = pa.table(
        {
            "x": [0.0, 1.0] * 2000,
            "wind": [None, 2.0] * 2000,
            "shelf": ["top", "bottom"] * 2000,
            "label": pa.array([0] * 4000, pa.int8()),
            "weight": [1.0] * 4000,
        }
    )
    found = augment(table, ["x", "wind", "shelf"], ["shelf"], Augmentation(method="mixup", share=5, alpha=1.0))
    made = found.slice(4000)
    x, bottom = made["x"].to_numpy(), np.array(made["shelf"].to_pylist()) == "bottom"
    mixed = (x > 0) & (x < 1)
    for low in (0.0, 0.25, 0.5, 0.75):
        inside = mixed & (x >= low) & (x < low + 0.25)
        assert bottom[inside].mean() == pytest.approx(x[inside].mean(), abs=0.05)
    assert np.array_equal(np.isnan(made["wind"].to_numpy()), x < 1)


def test_mixup_of_several_classes_shares_the_weight_of_a_point_between_its_two() -> None:
    table = rows(3000)
    codes = np.random.default_rng(5).integers(0, 4, 3000)
    table = table.set_column(table.column_names.index("label"), "label", pa.array(codes))
    made = made_of(table, "mixup", share=1.0, alpha=0.4)
    assert made["label"].type == pa.int64() and set(made["label"].to_pylist()) == {0, 1, 2, 3}
    assert made.num_rows > 4500, "three in four points lie between two classes and are two rows"
    assert made["weight"].to_numpy().sum() == pytest.approx(table["weight"].to_numpy().sum(), rel=0.02)
    shares = np.bincount(made["label"].to_numpy(), made["weight"].to_numpy()) / made["weight"].to_numpy().sum()
    assert shares == pytest.approx(
        np.bincount(codes, table["weight"].to_numpy()) / table["weight"].to_numpy().sum(), abs=0.03
    )


def test_a_label_that_is_a_number_is_perturbed_with_its_row_or_shared() -> None:
    """Of a regression: the copy has its parent's label; a mixed point is two rows that share its weight."""
    table = rows(500)
    values = np.random.default_rng(6).normal(10, 3, 500)
    table = table.set_column(table.column_names.index("label"), "label", pa.array(values))
    for method in METHODS:
        made = made_of(table, method, share=1.0)
        assert set(made["label"].to_pylist()) <= set(values.tolist())
        mean = np.average(made["label"].to_numpy(), weights=made["weight"].to_numpy())
        assert mean == pytest.approx(np.average(values, weights=table["weight"].to_numpy()), abs=0.5)


def test_a_tiny_alpha_gives_no_row_without_weight() -> None:
    made = made_of(rows(), "mixup", share=10, alpha=1e-6)
    assert made.num_rows >= 2000 and (made["weight"].to_numpy() > 0).all()


NUMBERS = st.one_of(st.none(), st.floats(-1e6, 1e6), st.just(float("nan")), st.just(float("-inf")))


@settings(max_examples=100, deadline=None)
@given(data=st.data(), count=st.integers(0, 12), seed=st.integers(0, 99), method=st.sampled_from(METHODS))
def test_any_rows_keep_types_and_known_values(data: Any, count: int, seed: int, method: str) -> None:
    def column(values: Any) -> list[Any]:
        found: list[Any] = data.draw(st.lists(values, min_size=count, max_size=count))
        return found

    table = pa.table(
        {
            "litres": pa.array(column(NUMBERS), pa.float64()),
            "age": pa.array(column(st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1))), pa.int64()),
            "shelf": pa.array(column(st.sampled_from(["top", "bottom", "", None])), pa.string()),
            "lid": pa.array(column(st.sampled_from([True, False, None])), pa.bool_()),
            "label": pa.array(column(st.sampled_from([0, 1])), pa.int8()),
            "weight": pa.array(column(st.floats(0.01, 100)), pa.float64()),
        }
    )
    share = data.draw(st.floats(0.01, 10))
    config = Augmentation(method=method, share=share, seed=seed)
    found = augment(table, ["litres", "age", "shelf", "lid"], ["shelf", "lid"], config)
    assert found.schema == table.schema
    assert str(found.slice(0, count).to_pylist()) == str(table.to_pylist()), "as text, in which NaN is NaN"
    assert round(count * share) <= found.num_rows - count <= 2 * round(count * share)
    for name in ("shelf", "lid", "label"):
        assert set(found[name].to_pylist()) <= set(table[name].to_pylist())
    assert (found["weight"].to_numpy() > 0).all()
