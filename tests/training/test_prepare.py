from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd  # noqa: TID253
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
import skops.io
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.preprocessing import KBinsDiscretizer, RobustScaler

from pipelines.config import Preprocessing
from pipelines.errors import ConfigError, DataError, SchemaError
from pipelines.training import fit_rows
from pipelines.training.prepare import Preparation

NAN = np.nan
ROWS = pa.table({"n": [1.5, None, 3.0], "shelf": ["top", "bottom", None], "lid": [True, False, True]})
ENCODER = Preparation(["shelf", "n", "lid"], ["shelf", "lid"], {}, "binary", 0).fit(ROWS)


def prepared(
    column: list[Any], *, weight: Any = None, y: Any = None, task: str = "binary", **options: Any
) -> Preparation:
    """Fitted on one feature, `c` if it is a category and else `n`."""
    kind = "c" if any(isinstance(value, (str, bool)) for value in column) else "n"
    made = Preparation([kind], ["c"], Preprocessing(**options).model_dump(mode="json"), task, 0)
    return made.fit(rows_of(column), None if y is None else np.array(y), weight)


def rows_of(column: list[Any]) -> pa.Table:
    kind = "c" if any(isinstance(value, (str, bool)) for value in column) else "n"
    return pa.table({kind: pa.array(column, pa.string() if kind == "c" and not isinstance(column[0], bool) else None)})


def matrix(column: list[Any], scored: list[Any] | None = None, **options: Any) -> list[Any]:
    """What becomes of a column, as lists: of one column its values."""
    found = prepared(column, **options).transform(rows_of(column if scored is None else scored))
    return found[:, 0].tolist() if found.shape[1] == 1 else found.tolist()


def same(one: Any, other: Any) -> bool:
    return np.allclose(one, other, equal_nan=True, atol=1e-6)


# Columns by name


def test_columns_are_found_by_name_in_any_order() -> None:
    shuffled = ENCODER.transform(ROWS.select(["lid", "n", "shelf"]))
    assert np.array_equal(ENCODER.transform(ROWS), shuffled, equal_nan=True)


def test_pandas_and_arrow_give_the_same_matrix() -> None:
    frame = pd.DataFrame({"n": [1.5, None], "shelf": ["top", "sink"], "lid": [False, True]})
    as_arrow = pa.table({"n": [1.5, None], "shelf": ["top", "sink"], "lid": [False, True]})
    assert np.array_equal(ENCODER.transform(frame), ENCODER.transform(as_arrow), equal_nan=True)
    assert np.array_equal(
        clone(ENCODER).fit(ROWS.to_pandas()).transform(frame), ENCODER.transform(frame), equal_nan=True
    )


def test_a_missing_column_is_told() -> None:
    with pytest.raises(SchemaError, match="feature columns are missing: lid"):
        ENCODER.transform(ROWS.drop_columns(["lid"]))


def test_words_where_numbers_should_be_are_told() -> None:
    wrong = ROWS.set_column(0, "n", pa.array(["a", "b", "c"]))
    for act in (ENCODER.transform, clone(ENCODER).fit):
        with pytest.raises(SchemaError, match="feature n: wanted numbers, found string"):
            act(wrong)


EVERY = [
    {},
    {"missing": {"method": "median", "indicator": True}, "scaling": "log", "encoding": "one_hot", "min_frequency": 2},
    {"missing": {"method": "drop"}, "scaling": "robust", "encoding": "target"},
    {"discretise": {"bins": 3}, "scaling": "min_max", "encoding": "hashing", "hash_buckets": 5},
    {"missing": {"method": "mean"}, "scaling": "standard", "encoding": "ordinal", "min_frequency": 3},
    {"min_frequency": 2, "missing": {"method": "native", "indicator": True}, "discretise": {"bins": 2}},
]
TRAIN = pa.table(
    {
        "n": [1.0, 2.0, None, 4.0, 5.0, -6.0, 7.0, 7.0],
        "c": ["a", "b", "a", None, "b", "c", "", "a"],
    }
)
LABELS = np.array([0, 1, 1, 0, 1, 0, 1, 0])
FITTED = [
    Preparation(["n", "c"], ["c"], Preprocessing.model_validate(one).model_dump(mode="json"), "binary", 0).fit(
        TRAIN, LABELS
    )
    for one in EVERY
]

numbers = st.one_of(st.none(), st.floats(width=64), st.integers(-9, 9).map(float))
words = st.one_of(st.none(), st.sampled_from(["a", "b", "c", "", "new", "ä"]))


@settings(max_examples=25)
@given(rows=st.lists(st.tuples(numbers, words), min_size=1, max_size=12))
def test_a_row_is_prepared_alike_alone_and_in_a_batch(rows: list[tuple[float | None, str | None]]) -> None:
    table = pa.table(
        {"n": pa.array([n for n, _ in rows], pa.float64()), "c": pa.array([c for _, c in rows], pa.string())}
    )
    for made in FITTED:
        whole = made.transform(table)
        alone = np.vstack([made.transform(table.slice(n, 1)) for n in range(len(rows))])
        assert np.array_equal(whole, alone, equal_nan=True)
        assert whole.dtype == np.float32
        assert whole.shape == (len(rows), len(made.names_))
        assert not np.isinf(whole).any()


@pytest.mark.parametrize("made", FITTED)
def test_it_survives_a_file_that_runs_no_code(made: Preparation) -> None:
    made.transform(TRAIN)
    file = skops.io.dumps(made)
    trusted = skops.io.get_untrusted_types(data=file)
    assert trusted == ["pipelines.training.prepare.Preparation"]
    again = skops.io.loads(file, trusted=trusted)
    assert np.array_equal(again.transform(TRAIN), made.transform(TRAIN), equal_nan=True)
    assert (again.names_, again.origin_, again.dropped_) == (made.names_, made.origin_, made.dropped_)


def test_fitting_again_gives_the_same_and_leaves_the_rows_alone() -> None:
    before = TRAIN.to_pylist()
    for made in FITTED:
        again = clone(made)
        assert np.array_equal(
            again.fit_transform(TRAIN, LABELS), clone(made).fit_transform(TRAIN, LABELS), equal_nan=True
        )
        assert again.plans_[0].keys() == made.plans_[0].keys()
        assert len(again.names_) == len(set(again.names_)) == len(again.origin_) == len(again.is_category_)
    assert TRAIN.to_pylist() == before


# Missing values


@pytest.mark.parametrize(
    ("method", "filled"),
    [
        ("native", NAN),
        ("constant", -9),
        ("mean", 4.0),
        ("median", 2.0),
        ("most_frequent", 2.0),
        ("drop", 2.0),
    ],
)
def test_missing_numbers(method: str, filled: float) -> None:
    found = matrix([2.0, None, 9.0, 2.0, 2.0, 5.0], missing={"method": method, "value": -9})
    assert same(found, [2, filled, 9, 2, 2, 5])


def test_an_infinite_number_is_a_missing_one() -> None:
    assert same(matrix([1.0, 2.0], scored=[np.inf, -np.inf, NAN]), [NAN] * 3)
    assert same(matrix([1.0, 3.0, np.inf], missing={"method": "mean"}), [1, 3, 2])


def test_an_indicator_tells_what_was_missing_where_training_had_gaps() -> None:
    options = {"missing": {"method": "median", "indicator": True}}
    made = prepared([1.0, None, 3.0], **options)
    assert made.names_ == ["n", "n is missing"]
    assert made.origin_ == ["n", "n"]
    assert made.transform(rows_of([5.0, None])).tolist() == [[5, 0], [2, 1]]
    assert prepared([1.0, 3.0], **options).names_ == ["n"]
    assert prepared([1.0, None, 3.0], missing={"method": "median"}).names_ == ["n"]


def test_drop_leaves_rows_out_of_the_fit() -> None:
    made = Preparation(["n", "m", "c"], ["c"], {"missing": {"method": "drop"}, "scaling": "min_max"}, "binary", 0)
    rows = pa.table({"n": [1.0, None, 3.0, 7.0], "m": [0.0, 100.0, 1.0, 3.0], "c": ["a", "lone", "b", None]})
    made.fit(rows)
    assert made.used(rows).tolist() == [True, False, True, True]
    assert same(made.transform(rows)[:, :2], [[0, 0], [2 / 6, 100 / 3], [2 / 6, 1 / 3], [1, 1]])
    assert made.unseen(rows) == {"c": 1}  # only a row that was left out has it


def test_a_column_without_values_drops_no_row() -> None:
    made = Preparation(["n", "m"], [], {"missing": {"method": "drop"}}, "binary", 0)
    rows = pa.table({"n": [1.0, 2.0], "m": pa.array([None, None], pa.float64())})
    assert made.fit(rows).used(rows).tolist() == [True, True]
    assert made.dropped_ == {"m": "all values are missing"}


def test_drop_that_leaves_no_row_is_told() -> None:
    rows = pa.table({"n": [1.0, None], "m": [None, 2.0]})
    with pytest.raises(DataError, match="none of 2 training rows has a weight and a value of each of n, m"):
        Preparation(["n", "m"], [], {"missing": {"method": "drop"}}, "binary", 0).fit(rows)


# Scales and bins


@pytest.mark.parametrize(
    ("scaling", "expected"),
    [
        ("none", [1, 2, 3, 10]),
        ("standard", (np.array([1, 2, 3, 10]) - 4) / np.sqrt(12.5)),
        ("min_max", [0, 1 / 9, 2 / 9, 1]),
        ("robust", (np.array([1, 2, 3, 10]) - 2.5) / 5),
        ("log", (lambda x: (x - x.mean()) / x.std())(np.log1p([1, 2, 3, 10]))),
    ],
)
def test_scaling(scaling: str, expected: Any) -> None:
    assert same(matrix([1, 2, 3, 10], scaling=scaling), expected)
    assert same(matrix([1, 2, None, 3, 10], scaling=scaling)[2], NAN)


def test_log_goes_both_ways_and_robust_is_scikit_learns() -> None:
    found = matrix([-5.0, -1.0, 0.0, 1.0, 5.0], scaling="log")
    assert same(found, [-x for x in reversed(found)])
    assert found[0] < found[1] < 0
    values = np.arange(9.0).reshape(-1, 1) ** 2
    assert same(matrix(values[:, 0].tolist(), scaling="robust"), RobustScaler().fit_transform(values)[:, 0])


@pytest.mark.parametrize("scaling", ["standard", "robust", "min_max", "log"])
def test_huge_numbers_stay_numbers(scaling: str) -> None:
    found = matrix([-1e308, 1.0, 2.0, 1e308], scored=[1e308, -1e308, 0.0], scaling=scaling)
    assert np.isfinite(found).all()


@pytest.mark.parametrize("strategy", ["uniform", "quantile", "kmeans"])
def test_bins_are_scikit_learns(strategy: Any) -> None:
    values = np.random.default_rng(0).exponential(size=60)
    binner = KBinsDiscretizer(4, encode="ordinal", strategy=strategy, quantile_method="averaged_inverted_cdf")
    expected = binner.fit_transform(values.reshape(-1, 1))[:, 0]
    assert len(set(expected)) == 4
    assert matrix(values.tolist(), discretise={"bins": 4, "strategy": strategy}) == expected.tolist()


def test_a_missing_number_has_no_bin_unless_it_is_filled() -> None:
    column = [0.0, 10.0, None, 20.0, 30.0]
    assert same(matrix(column, discretise={"bins": 2}), [0, 0, NAN, 1, 1])
    assert same(matrix(column, discretise={"bins": 2}, missing={"method": "constant", "value": 99}), [0, 0, 1, 1, 1])
    assert same(matrix(column, discretise={"bins": 2}, scored=[-5.0, 500.0]), [0, 1])
    assert matrix(column[:2], discretise={"bins": 2}, scaling="standard") == [-1, 1]


# Categories

SHELVES = ["b", "a", "b", None, "c", "b", "a"]


def test_native_codes_are_ranks() -> None:
    assert same(matrix(SHELVES, scored=["a", "b", "c", None, "new"]), [0, 1, 2, NAN, NAN])
    assert prepared(SHELVES).is_category_ == [True]
    assert prepared(SHELVES, encoding="ordinal").is_category_ == [False]


def test_ordinal_codes_have_numbers_for_the_unseen_and_the_missing() -> None:
    assert matrix(SHELVES, scored=["a", "b", "c", None, "new"], encoding="ordinal") == [0, 1, 2, -2, -1]


def test_one_hot_has_a_column_for_each_category_and_for_none() -> None:
    made = prepared(SHELVES, encoding="one_hot")
    assert made.names_ == ["c=a", "c=b", "c=c", "c is missing"]
    found = made.transform(rows_of(["a", "c", None, "new"])).tolist()
    assert found == [[1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1], [0, 0, 0, 0]]
    assert prepared(["a", "b"], encoding="one_hot").transform(rows_of(["b", None])).tolist() == [[0, 1], [0, 0]]


def test_booleans_are_categories() -> None:
    assert prepared([True, False, None], encoding="one_hot").names_ == ["c=false", "c=true", "c is missing"]
    assert matrix([True, False], scored=[True, False]) == [1, 0]


@pytest.mark.parametrize(
    ("encoding", "found"),
    [
        ("native", [0, 1, 2, 2, NAN, 2]),
        ("ordinal", [0, 1, 2, 2, -2, 2]),
        ("one_hot", [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 1, 0], [0, 0, 0, 1], [0, 0, 1, 0]]),
    ],
)
def test_rare_categories_are_one_and_the_unseen_are_with_them(encoding: str, found: list[Any]) -> None:
    column = ["a", "b", "a", "b", "x", "y", None]
    scored = ["a", "b", "x", "y", None, "new"]
    assert same(matrix(column, scored=scored, encoding=encoding, min_frequency=2), found)
    made = prepared(column, encoding=encoding, min_frequency=2)
    assert made.unseen(rows_of(scored)) == {"c": 1}
    if encoding == "one_hot":
        assert made.names_ == ["c=a", "c=b", "c is rare", "c is missing"]


@pytest.mark.parametrize(
    ("options", "known"),
    [
        ({"min_share": 0.2}, ["a", "b"]),
        ({"min_share": 0.21}, ["a"]),
        ({"min_frequency": 4, "min_share": 0.1}, ["a"]),
        ({"min_share": 0.5, "columns": {"c": {"min_share": 0.1}}}, ["a", "b", "x", "y"]),
        ({"columns": {"c": {"min_frequency": 2}}}, ["a", "b"]),
    ],
)
def test_the_tail_is_cut_by_rows_or_by_share_of_all_or_one_feature(options: dict[str, Any], known: list[str]) -> None:
    column = [*["a"] * 4, *["b"] * 2, "x", "y", None, None]
    assert prepared(column, encoding="one_hot", **options).categories_["c"]["known"] == known


def test_target_encoding_is_the_smoothed_mean_of_the_label() -> None:
    column, y = ["a", "a", "b", "b", "b", None], [1, 0, 1, 1, 1, 0]
    options: dict[str, Any] = {"y": y, "encoding": "target", "target_smoothing": 2}
    mean = 4 / 6
    expected = [(1 + 2 * mean) / 4, (3 + 2 * mean) / 5, mean, mean]
    assert same(matrix(column, scored=["a", "b", None, "new"], **options), expected)
    assert same(matrix(column, scored=["a", "b"], **options | {"target_smoothing": 0}), [0.5, 1])
    assert prepared(column, **options).names_ == ["c mean label"]


def test_target_encoding_of_classes_and_of_numbers() -> None:
    options: dict[str, Any] = {"encoding": "target", "target_smoothing": 0}
    several = prepared(["a", "a", "b"], y=[0, 2, 1], task="multiclass", **options)
    assert several.names_ == [f"c share of class {n}" for n in range(3)]
    assert several.transform(rows_of(["a", "b"])).tolist() == [[0.5, 0, 0.5], [0, 1, 0]]
    assert several.fit_transform(rows_of(["a", "a", "b"]), np.array([0, 2, 1])).shape == (3, 3)
    assert matrix(["a", "a", "b"], y=[1.5, 2.5, 7], task="regression", **options) == [2, 2, 7]


def test_training_rows_do_not_see_their_own_labels() -> None:
    """A category per row: the mean of its label is its label, unless it is cross-fitted."""
    random = np.random.default_rng(0)
    y = random.integers(0, 2, 400)
    rows = pa.table({"c": [f"row {n}" for n in range(400)]})
    for folds in (2, 5):
        options = Preprocessing(encoding="target", target_smoothing=0, cross_fitting_folds=folds)
        made = Preparation(["c"], ["c"], options.model_dump(mode="json"), "binary", 0)
        crossed = made.fit_transform(rows, y)[:, 0]
        assert same(made.transform(rows)[:, 0], y)
        assert len(set(crossed.tolist())) <= folds  # each fold knows the mean of the others alone
    ones = pa.table({"c": ["a", "b"] * 200})
    made = clone(made).set_params(settings={"encoding": "target"})
    first, again, other = (clone(made).set_params(seed=n).fit_transform(ones, y) for n in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    changed = clone(made).fit_transform(ones, np.where(np.arange(400) == 7, 1 - y, y))
    assert changed[7] == first[7]


def test_target_encoding_wants_labels() -> None:
    with pytest.raises(DataError, match="c is encoded by the mean of the label, and there are no labels"):
        prepared(SHELVES, encoding="target")


def test_hashing_has_so_many_columns_and_both_signs() -> None:
    many = [f"flight {n}" for n in range(500)]
    made = prepared(many, encoding="hashing", hash_buckets=7)
    found = made.transform(rows_of(many))
    assert made.names_ == [f"c #{n}" for n in range(7)]
    assert np.array_equal(np.abs(found).sum(axis=1), np.ones(500))
    assert np.all(np.abs(found).sum(axis=0) > 40)
    assert abs(found.sum()) < 80
    assert made.unseen(rows_of(["new"])) == {}
    assert made.categories_ == {}
    assert np.abs(made.transform(rows_of(["", None, "new"]))).sum(axis=1).tolist() == [1, 0, 1]


def test_hashes_are_the_same_everywhere() -> None:
    found = prepared(["a", "b"], encoding="hashing", hash_buckets=8).transform(rows_of(["ATL", "JFK", "LGA"]))
    assert found.nonzero()[1].tolist() == [4, 6, 4]
    assert found.sum(axis=1).tolist() == [1, -1, -1]


# Features apart


def test_features_are_prepared_otherwise_where_columns_says_so() -> None:
    rows = pa.table({"n": [0.0, 10.0, None], "m": [0.0, 10.0, None], "c": ["a", "b", "a"], "d": ["a", "b", "a"]})
    columns = {
        "m": {"missing": {"method": "constant", "value": 5}, "scaling": "min_max", "discretise": {"bins": 2}},
        "d": {"encoding": "one_hot"},
    }
    made = Preparation(["n", "m", "c", "d"], ["c", "d"], {"columns": columns}, "binary", 0)
    found = made.fit_transform(rows, np.array([0, 1, 0]))
    assert made.names_ == ["n", "m", "c", "d=a", "d=b"]
    assert made.origin_ == ["n", "m", "c", "d", "d"]
    assert made.is_category_ == [False, False, True, False, False]
    assert same(found, [[0, 0, 0, 1, 0], [10, 1, 1, 0, 1], [NAN, 1, 0, 1, 0]])


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"shelv": {"encoding": "target"}}, "'shelv' is no feature; did you mean 'shelf'"),
        ({"shelf": {"scaling": "standard"}}, "columns.shelf.scaling has no effect: shelf is a category"),
        ({"n": {"encoding": "one_hot"}}, "columns.n.encoding has no effect: n is a number"),
    ],
)
def test_settings_that_would_do_nothing_are_told(columns: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Preparation(["shelf", "n"], ["shelf"], {"columns": columns}, "binary", 0).fit(ROWS)


@pytest.mark.parametrize(
    ("column", "options", "why"),
    [
        ([4.0, 4.0], {}, "all values are the same"),
        ([4.0, None], {"missing": {"method": "mean"}}, "all values are the same"),
        ([None, np.inf], {}, "all values are missing"),
        ([0.0] * 99 + [1.0], {"discretise": {"bins": 4}}, "all values are in one bin"),
        (["a", "a"], {}, "all values are the same"),
        (["a", "b"], {"min_frequency": 5}, "all values are rare"),
        (["a", "a"], {"encoding": "hashing"}, "all values are the same"),
    ],
)
def test_what_says_nothing_is_dropped(column: list[Any], options: dict[str, Any], why: str) -> None:
    made = prepared(column, **options)
    assert list(made.dropped_.values()) == [why]
    assert made.transform(rows_of(column)).shape == (len(column), 0)


def test_gaps_alone_say_something() -> None:
    assert same(matrix([4.0, None]), [4, NAN])
    assert prepared([4.0, None], missing={"method": "mean", "indicator": True}).names_ == ["n is missing"]
    assert matrix([4.0, None], missing={"method": "mean", "indicator": True}) == [0, 1]
    assert prepared(["a", None]).names_ == ["c"]


def test_a_category_that_was_always_the_same_or_missing_still_tells_the_unseen() -> None:
    assert prepared(["a", "a"]).unseen(rows_of(["a", "b", None])) == {"c": 1}
    made = Preparation(["c"], ["c"], {}, "binary", 0).fit(pa.table({"c": pa.nulls(3, pa.string())}))
    assert made.dropped_ == {"c": "all values are missing"}
    assert made.unseen(rows_of(["a", "b"])) == {"c": 2}


def test_one_row() -> None:
    made = Preparation(["n", "c"], ["c"], {"encoding": "target", "scaling": "standard"}, "binary", 0)
    assert made.fit_transform(TRAIN.slice(0, 1), LABELS[:1]).shape == (1, 0)
    assert made.transform(TRAIN).shape == (8, 0)


def test_no_row_is_told() -> None:
    for rows, weight in ((TRAIN, np.zeros(8)), (TRAIN.slice(0, 0), None)):
        with pytest.raises(DataError, match="training rows has a weight"):
            Preparation(["n", "c"], ["c"], {}, "binary", 0).fit(rows, weight=weight)


# Weights

WEIGHED = [
    {"missing": {"method": "mean"}, "scaling": "standard", "encoding": "target"},
    {"missing": {"method": "median"}, "scaling": "robust", "encoding": "target", "target_smoothing": 0},
    {"missing": {"method": "most_frequent"}, "scaling": "log", "discretise": {"bins": 3}},
    {"missing": {"method": "median"}, "scaling": "min_max"},
]


@settings(max_examples=20)
@given(
    values=st.lists(
        st.tuples(
            st.one_of(st.none(), st.integers(-5, 5)), st.sampled_from("abc"), st.integers(0, 1), st.integers(0, 3)
        ),
        min_size=2,
        max_size=12,
    ).filter(lambda rows: any(row[3] for row in rows)),
    options=st.sampled_from(WEIGHED),
)
def test_a_weight_of_three_is_a_row_three_times(
    values: list[tuple[Any, str, int, int]], options: dict[str, Any]
) -> None:
    n, c, y, weight = (list(column) for column in zip(*values, strict=True))
    rows = pa.table({"n": pa.array(n, pa.float64()), "c": pa.array(c)})
    repeated = np.repeat(np.arange(len(n)), weight)
    smoothing = options.get("target_smoothing", 20) * len(repeated) / np.count_nonzero(weight)  # per row, not weight
    one, other = (
        Preparation(["n", "c"], ["c"], Preprocessing.model_validate(found).model_dump(mode="json"), "binary", 0)
        for found in (options, options | {"target_smoothing": smoothing})
    )
    one.fit(rows, np.array(y), np.array(weight, dtype=float))
    other.fit(rows.take(pa.array(repeated)), np.array(y)[repeated])
    assert one.names_ == other.names_
    assert same(one.transform(rows), other.transform(rows))


# More rows than fit in memory


@pytest.fixture
def dataset(tmp_path: Any) -> ds.Dataset:
    random = np.random.default_rng(0)
    for part in range(3):
        rows = pa.table(
            {
                "n": pa.array(random.normal(size=400), mask=random.random(400) < 0.1),
                "c": [*random.choice(["a", "b"], 399), f"only in {part}"],
                "weight": np.r_[0.0, random.uniform(0.5, 2, 399)],
            }
        )
        pq.write_table(rows, tmp_path / f"{part}.parquet")
    return ds.dataset(tmp_path)


@pytest.mark.parametrize("method", ["median", "drop"])
def test_a_dataset_teaches_the_same_as_its_table(dataset: ds.Dataset, method: str) -> None:
    table = dataset.to_table()
    made = Preparation(["n", "c"], ["c"], {"missing": {"method": method}, "scaling": "standard"}, "binary", 0)
    streamed = clone(made).fit(dataset)
    whole = made.fit(table, weight=table["weight"].to_numpy())
    assert np.array_equal(streamed.transform(table), whole.transform(table))
    assert streamed.categories_ == whole.categories_
    assert streamed.used(table).tolist() == whole.used(table).tolist()


def test_of_a_large_dataset_a_sample_tells_the_numbers_and_all_rows_the_categories(
    dataset: ds.Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fit_rows, "SAMPLE_ROWS", 100)
    made = Preparation(["n", "c"], ["c"], {"missing": {"method": "mean"}, "encoding": "one_hot"}, "binary", 0)
    first, again, other = (clone(made).set_params(seed=n).fit(dataset) for n in (0, 0, 1))
    fills = [one.plans_[0]["fill"] for one in (first, again, other)]
    assert fills[0] == fills[1] != fills[2]
    assert first.categories_["c"]["known"] == ["a", "b", "only in 0", "only in 1", "only in 2"]


def test_a_dataset_has_no_means_of_the_label(dataset: ds.Dataset) -> None:
    with pytest.raises(ConfigError, match="c: a mean of the label needs the training rows in memory"):
        Preparation(["n", "c"], ["c"], {"encoding": "target"}, "binary", 0).fit(dataset)


def test_a_dataset_lacks_a_column_or_all_rows(dataset: ds.Dataset) -> None:
    with pytest.raises(SchemaError, match="feature columns are missing: m"):
        Preparation(["m"], [], {}, "binary", 0).fit(dataset)
    with pytest.raises(DataError, match="none of 0 training rows has a weight"):
        Preparation(["n", "c"], ["c"], {}, "binary", 0).fit(ds.dataset(dataset.to_table().slice(0, 0)))
