from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.config import Resampling
from pipelines.dataset import resample as module
from pipelines.dataset.resample import resample
from pipelines.errors import DataError

FEATURES, CATEGORICAL = ["shelf", "litres", "age", "lid", "wind"], ["shelf", "lid"]


def rows(few: int = 40, many: int = 160, seed: int = 0) -> pa.Table:
    """Positive kettles are the few: on the top shelf and with more litres than the others."""
    random = np.random.default_rng(seed)
    label = random.permutation(np.repeat([1, 0], [few, many])).astype(np.int8)
    count = len(label)
    return pa.table(
        {
            "kettle_id": [f"k{n}" for n in range(count)],
            "label": label,
            "shelf": pa.array(
                np.where(random.random(count) < 0.2 + 0.6 * label, "top", "bottom"), mask=random.random(count) < 0.1
            ),
            "litres": random.normal(size=count) + label,
            "age": random.integers(0, 9, count),
            "lid": pa.array(random.random(count) < 0.5),
            "wind": pa.array(random.normal(size=count) * 1000, mask=random.random(count) < 0.6),
            "weight": random.uniform(0.5, 1.5, count),
        }
    )


def counts(table: pa.Table) -> tuple[int, int]:
    """Rows of the few, rows of the many."""
    label = table["label"].to_numpy()
    return int((label == 1).sum()), int((label == 0).sum())


def balanced(table: pa.Table, method: str, **settings_: Any) -> pa.Table:
    return resample(table, FEATURES, CATEGORICAL, Resampling.model_validate({"method": method, **settings_}))


def made_of(table: pa.Table, method: str, **settings_: Any) -> pa.Table:
    return balanced(table, method, **settings_).slice(table.num_rows)


def is_among(rows_: pa.Table, table: pa.Table) -> bool:
    known = {tuple(row.values()) for row in table.to_pylist()}
    return all(tuple(row.values()) in known for row in rows_.to_pylist())


def test_none_gives_the_table_back() -> None:
    table = rows()
    assert resample(table, FEATURES, CATEGORICAL, Resampling()) is table


@pytest.mark.parametrize(
    ("method", "ratio", "expected"),
    [
        ("undersample", 1.0, (40, 40)),
        ("undersample", 0.5, (40, 80)),
        ("undersample", 0.3, (40, 133)),
        ("oversample", 1.0, (160, 160)),
        ("oversample", 0.33, (53, 160)),
        ("smote", 1.0, (160, 160)),
        ("smote", 0.4, (64, 160)),
        ("smote", 0.25, (40, 160)),
        ("undersample", 0.1, (40, 160)),
        ("oversample", 0.1, (40, 160)),
        ("smote", 0.1, (40, 160)),
    ],
)
def test_the_ratio_is_reached_and_never_undone(method: str, ratio: float, expected: tuple[int, int]) -> None:
    assert counts(balanced(rows(), method, ratio=ratio)) == expected


@pytest.mark.parametrize("method", ["undersample", "oversample", "smote", "tomek"])
def test_types_order_and_seeds(method: str) -> None:
    table = rows()
    found = balanced(table, method)
    assert found.schema == table.drop_columns("kettle_id").schema
    assert found.equals(balanced(table, method))
    if method != "tomek":
        assert not found.equals(balanced(table, method, seed=1))


@pytest.mark.parametrize("method", ["undersample", "oversample", "smote", "tomek"])
def test_it_works_whichever_class_is_the_minority(method: str) -> None:
    table = rows()
    turned = table.set_column(1, "label", pc.subtract(pa.scalar(1, pa.int8()), table["label"]))
    found, other = counts(balanced(table, method)), counts(balanced(turned, method))
    assert found == other[::-1]


def test_undersampling_keeps_the_minority_and_the_order() -> None:
    table = rows()
    found = balanced(table, "undersample")
    assert found.filter(pc.equal(found["label"], 1)).equals(
        table.drop_columns("kettle_id").filter(pc.equal(table["label"], 1))
    )
    places = {value: n for n, value in enumerate(table["litres"].to_pylist())}
    order = [places[value] for value in found["litres"].to_pylist()]
    assert order == sorted(order)


def test_oversampling_repeats_minority_rows_with_their_weights() -> None:
    table = rows().drop_columns("kettle_id")
    found = balanced(rows(), "oversample")
    assert found.slice(0, 200).equals(table)
    assert is_among(found.slice(200), table.filter(pc.equal(table["label"], 1)))


def test_smote_keeps_the_real_rows_and_makes_minority_rows_between_them() -> None:
    table = rows()
    found = balanced(table, "smote", seed=4)
    assert found.slice(0, 200).equals(table.drop_columns("kettle_id")), "nulls too"
    made, few = found.slice(200), table.filter(pc.equal(table["label"], 1))
    assert set(made["label"].to_pylist()) == {1}
    assert made["weight"].to_numpy() == pytest.approx(np.full(120, few["weight"].to_numpy().mean()))
    for name in ("litres", "age"):
        assert pc.min(made[name]).as_py() >= pc.min(few[name]).as_py()
        assert pc.max(made[name]).as_py() <= pc.max(few[name]).as_py()
    assert set(made["shelf"].to_pylist()) <= {"top", "bottom", None}
    assert set(made["lid"].to_pylist()) <= {True, False}
    new = set(made["litres"].to_pylist()) - set(few["litres"].to_pylist())
    assert len(new) > 100, "made rows are new ones"


def test_smote_makes_holes_as_there_are_holes() -> None:
    """A made value in every hole would tell the made rows, and so the minority, from the others."""
    table = rows(300, 900)
    made = made_of(table, "smote")
    few = table.filter(pc.equal(table["label"], 1))
    assert made["wind"].null_count / made.num_rows == pytest.approx(few["wind"].null_count / 300, abs=0.2)
    always = table.set_column(6, "wind", pa.nulls(1200, pa.float64()))
    assert made_of(always, "smote")["wind"].null_count == 600


def test_smote_weighs_columns_alike_whatever_their_units() -> None:
    """Neighbours are found in standard deviations: another unit for one column changes nothing else."""
    table = rows()
    miles = table.set_column(3, "litres", pc.multiply(table["litres"], 2.0**20))
    made, other = made_of(table, "smote"), made_of(miles, "smote")
    assert made.drop_columns("litres").equals(other.drop_columns("litres"))
    assert other["litres"].to_numpy() == pytest.approx(made["litres"].to_numpy() * 2.0**20)


@pytest.mark.parametrize(
    ("features", "name"), [(["litres", "age"], "SMOTE"), (FEATURES, "SMOTENC"), (["shelf", "lid"], "SMOTEN")]
)
def test_each_kind_of_table_has_its_smote(features: list[str], name: str) -> None:
    table = rows()
    found = resample(table, features, CATEGORICAL, Resampling(method="smote"))
    assert counts(found) == (160, 160), name
    assert found.column_names == [one for one in table.column_names if one in (*features, "label", "weight")]
    if name == "SMOTEN":
        assert is_among(found.select(["lid"]), table.select(["lid"]))


def test_smote_in_blocks_makes_as_many_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small blocks and small pieces stand for the millions of rows that need them."""
    monkeypatch.setattr(module, "BLOCK_ROWS", 30)
    monkeypatch.setattr(module, "SMOTENC_BYTES", 20_000)
    for features in (["litres", "age"], FEATURES, ["shelf", "lid"]):
        table = rows(100, 777)
        found = resample(table, features, CATEGORICAL, Resampling(method="smote", neighbours=3))
        assert counts(found) == (777, 777)
        assert found.equals(resample(table, features, CATEGORICAL, Resampling(method="smote", neighbours=3)))


@pytest.mark.parametrize(("few", "cure"), [(5, "at most 4"), (1, "oversample")])
def test_too_few_rows_for_the_neighbours_are_refused_with_a_cure(few: int, cure: str) -> None:
    with pytest.raises(DataError, match=f"a class has {few} rows") as refused:
        balanced(rows(few), "smote")
    assert cure in refused.value.cure
    assert counts(balanced(rows(6), "smote")) == (160, 160)


def test_one_class_is_refused() -> None:
    with pytest.raises(DataError, match="all 160 training rows have the same label"):
        balanced(rows(0), "undersample")


def test_tomek_removes_the_majority_side_of_a_link_and_nothing_else() -> None:
    """On a line: 1.0 and 1.1 are each other's nearest and of two classes; 5.0 and 5.1 are of one class."""
    table = pa.table(
        {
            "x": [1.0, 1.1, 5.0, 5.1, 9.0, 9.3, 9.5],
            "label": pa.array([1, 0, 0, 0, 1, 0, 0], pa.int8()),
            "weight": [1.0] * 7,
        }
    )
    found = resample(table, ["x"], [], Resampling(method="tomek"))
    assert found["x"].to_pylist() == [1.0, 5.0, 5.1, 9.0, 9.3, 9.5], "9.0 is nearest to 9.3, but not the reverse"


def test_tomek_sees_categories_and_missing_values() -> None:
    """Rows that differ in a category, or in what they lack, are not each other's nearest."""
    table = pa.table(
        {
            "x": [1.0, 1.1, 1.2, 1.3, None, 3.0],
            "shelf": ["top", "bottom", "bottom", "top", "top", None],
            "label": pa.array([1, 0, 0, 0, 0, 1], pa.int8()),
            "weight": [1.0] * 6,
        }
    )
    found = resample(table, ["x", "shelf"], ["shelf"], Resampling(method="tomek"))
    kept = list(zip(found["x"].to_pylist(), found["shelf"].to_pylist(), strict=True))
    assert kept == [(1.0, "top"), (1.1, "bottom"), (1.2, "bottom"), (None, "top"), (3.0, None)]


def test_tomek_in_blocks_removes_majority_rows_only(monkeypatch: pytest.MonkeyPatch) -> None:
    table = rows(100, 300)
    whole = counts(balanced(table, "tomek"))
    monkeypatch.setattr(module, "BLOCK_ROWS", 50)
    cut = counts(balanced(table, "tomek"))
    assert whole[0] == cut[0] == 100
    assert 200 < whole[1] < 300 and abs(whole[1] - cut[1]) < 30


def several(sizes: tuple[int, ...], seed: int = 0) -> pa.Table:
    """Kettles of several classes, as codes; the higher the class the more litres."""
    random = np.random.default_rng(seed)
    label = random.permutation(np.repeat(np.arange(len(sizes)), sizes))
    count = len(label)
    return pa.table(
        {
            "label": label,
            "shelf": pa.array(random.choice(["top", "bottom"], count), mask=random.random(count) < 0.1),
            "litres": random.normal(size=count) + 3 * label,
            "age": random.integers(0, 9, count),
            "lid": pa.array(random.random(count) < 0.5),
            "wind": pa.array(random.normal(size=count), mask=random.random(count) < 0.6),
            "weight": 1.0 + label,
        }
    )


@pytest.mark.parametrize(
    ("method", "ratio", "expected"),
    [
        ("undersample", 1.0, [30, 30, 30, 30]),
        ("undersample", 0.5, [60, 30, 50, 60]),
        ("oversample", 1.0, [200, 200, 200, 200]),
        ("oversample", 0.5, [200, 100, 100, 100]),
        ("smote", 1.0, [200, 200, 200, 200]),
        ("smote", 0.5, [200, 100, 100, 100]),
        ("smote", 0.1, [200, 30, 50, 100]),
    ],
)
def test_of_several_classes_each_is_brought_to_the_ratio(method: str, ratio: float, expected: list[int]) -> None:
    table = several((200, 30, 50, 100))
    found = balanced(table, method, ratio=ratio)
    assert np.bincount(found["label"].to_numpy()).tolist() == expected
    assert found["label"].type == pa.int64()
    assert found.equals(balanced(table, method, ratio=ratio)) and found.schema == table.schema


def test_smote_makes_rows_of_several_classes_each_from_its_own() -> None:
    table = several((200, 30, 50, 100))
    made = made_of(table, "smote")
    for code in (1, 2, 3):
        own, new = (one.filter(pc.equal(one["label"], code)) for one in (table, made))
        assert pc.min(own["litres"]).as_py() <= pc.min(new["litres"]).as_py()
        assert pc.max(new["litres"]).as_py() <= pc.max(own["litres"]).as_py()
        assert set(new["weight"].to_pylist()) == {1.0 + code}


def test_tomek_of_several_classes_keeps_the_smallest_whole() -> None:
    table = several((200, 30, 80, 100), seed=1)
    close = table.set_column(2, "litres", pa.array(np.random.default_rng(2).normal(size=table.num_rows)))
    found = np.bincount(balanced(close, "tomek")["label"].to_numpy())
    assert found[1] == 30
    assert all(after < before for after, before in zip(found[[0, 2, 3]], (200, 80, 100), strict=True))


NUMBERS = st.one_of(st.none(), st.floats(-1e6, 1e6), st.just(float("nan")), st.just(float("inf")))


@settings(max_examples=40, deadline=None)
@given(data=st.data(), few=st.integers(3, 12), many=st.integers(12, 30), seed=st.integers(0, 99))
def test_any_rows_keep_types_and_known_values(data: Any, few: int, many: int, seed: int) -> None:
    count = few + many

    def column(values: Any) -> list[Any]:
        found: list[Any] = data.draw(st.lists(values, min_size=count, max_size=count))
        return found

    table = pa.table(
        {
            "litres": pa.array(column(NUMBERS), pa.float64()),
            "age": pa.array(column(st.one_of(st.none(), st.integers(-(2**62), 2**62))), pa.int64()),
            "shelf": pa.array(column(st.sampled_from(["top", "bottom", "", None])), pa.string()),
            "lid": pa.array(column(st.sampled_from([True, False, None])), pa.bool_()),
            "label": pa.array([1] * few + [0] * many, pa.int8()),
            "weight": [1.0] * count,
        }
    )
    features = data.draw(st.sets(st.sampled_from(["litres", "age", "shelf", "lid"]), min_size=1).map(sorted))
    method = data.draw(st.sampled_from(["undersample", "oversample", "smote", "tomek"]))
    resampling = Resampling(method=method, neighbours=2, seed=seed)
    found = resample(table, features, ["shelf", "lid"], resampling)
    assert found.schema == pa.schema([one for one in table.schema if one.name in (*features, "label", "weight")])
    if method == "tomek":
        assert counts(found)[0] == few and counts(found)[1] <= many
    else:
        assert counts(found) == ((few, few) if method == "undersample" else (many, many))
    for name in features:
        if name in ("shelf", "lid"):
            assert set(found[name].to_pylist()) <= set(table[name].to_pylist())
