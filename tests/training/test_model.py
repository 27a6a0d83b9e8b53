from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest
import skops.io
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.pipeline import make_pipeline
from sklearn.tree import DecisionTreeClassifier

from pipelines.config import Preprocessing
from pipelines.errors import DataError, SchemaError
from pipelines.training.ensemble import Voting
from pipelines.training.estimators import Prior, Setting, fit_estimator
from pipelines.training.model import TRUSTED_TYPES, Model
from pipelines.training.prepare import Preparation
from pipelines.training.trusted_trees import require_sound, require_sound_booster

ROWS = pa.table(
    {"shelf": ["top", "bottom", "top", "bottom"] * 50, "litres": np.linspace(0, 5, 200), "flat": [1.0] * 200}
)
Y, WEIGHT = (np.arange(200) > 90).astype(int), np.ones(200)


def model(
    task: str = "binary", classes: tuple[str, ...] = ("0", "1"), kind: str = "forest", **settings_: object
) -> Model:
    prepare = Preparation(["shelf", "litres", "flat"], ["shelf"], Preprocessing().model_dump(mode="json"), task, 0)
    matrix = prepare.fit_transform(ROWS, Y, WEIGHT)
    setting = Setting(task, len(classes), 0, 1, "cpu", list(prepare.is_category_))
    parameters = {"n_estimators": 5} if kind == "forest" else {"max_iter": 5}
    estimator = fit_estimator(kind, parameters, setting, matrix, Y, WEIGHT)
    return Model(task, list(classes), prepare, None, estimator, **settings_)


def test_it_names_what_it_needs_and_what_it_sees() -> None:
    whole = model()
    assert whole.features == ["shelf", "litres", "flat"], "rows have all columns, dropped ones too"
    assert whole.prepared_names == whole.prepared_origin == ["shelf", "litres"]
    assert whole.matrix(ROWS).shape == (200, 2) and whole.matrix(ROWS).dtype == np.float32
    part = Model("binary", ["0", "1"], whole.prepare, [1], None)
    assert part.prepared_names == ["litres"] and part.matrix(ROWS)[:, 0] == pytest.approx(ROWS["litres"].to_numpy())


def test_columns_are_found_by_name_and_a_missing_one_is_told() -> None:
    found = model()
    assert np.array_equal(found.scores(ROWS.select(["litres", "flat", "shelf"])), found.scores(ROWS))
    with pytest.raises(SchemaError, match="litres"):
        found.scores(ROWS.drop_columns("litres"))


def test_unseen_categories_are_counted_by_feature() -> None:
    rows = pa.table({"shelf": ["top", "cellar", "roof", None], "litres": [1.0, None, 2.0, 3.0], "flat": [1.0] * 4})
    assert model().unseen(rows) == {"shelf": 2} and model().unseen(ROWS) == {}
    assert np.isfinite(model().scores(rows)).all()


def test_decisions_by_threshold_and_names() -> None:
    binary = model(threshold=0.7)
    assert binary.decide(np.array([0.69, 0.7, 1.0])).tolist() == [0, 1, 1]
    assert set(binary.predict(ROWS)) == {"0", "1"}
    assert binary.predict_proba(ROWS).sum(axis=1) == pytest.approx(1)
    assert binary.predict_proba(ROWS)[:, 1] == pytest.approx(binary.scores(ROWS))
    several = Model("multiclass", ["a", "b", "c"], None, None, None)
    assert several.decide(np.array([[0.2, 0.5, 0.3], [0.4, 0.2, 0.4]])).tolist() == [1, 0]


@settings(max_examples=40)
@given(
    st.lists(st.lists(st.floats(0.01, 1), min_size=3, max_size=3), min_size=1, max_size=9),
    st.lists(st.floats(-5, 50), min_size=9, max_size=9),
)
def test_where_there_are_costs_no_other_decision_is_expected_to_cost_less(chances: list, numbers: list) -> None:
    scores, costs = np.array(chances), np.array(numbers).reshape(3, 3)
    scores /= scores.sum(axis=1, keepdims=True)
    decided = Model("multiclass", ["a", "b", "c"], None, None, None, costs=costs.tolist()).decide(scores)
    for row, code in zip(scores, decided, strict=True):
        expected = [sum(row[actual] * costs[actual, other] for actual in range(3)) for other in range(3)]
        assert expected[code] <= min(expected) + 1e-9


BROKEN_TREES = [
    ("tree_info", 0, 1),
    ("tree_info", 0, -1),
    ("iteration_indptr", -1, 10_000),
    ("left_children", 0, 0),
    ("left_children", 0, 10_000),
    ("right_children", 0, -5),
    ("split_indices", 0, 99),
    ("split_type", 0, 7),
    ("categories_nodes", 0, 1_000),
    ("categories_sizes", 0, 1_000),
    ("categories_segments", 0, 1_000),
]


def test_trees_of_a_booster_are_looked_at() -> None:
    """XGBoost loads a model with such trees, and reads foreign memory when it predicts."""
    setting = Setting("binary", 2, 0, 1, "cpu", [True, False])
    matrix = np.column_stack([np.arange(200) % 5, np.linspace(0, 5, 200)]).astype(np.float32)
    y = (matrix[:, 0] % 2 == (matrix[:, 1] > 2)).astype(int)
    fitted = model()
    fitted.estimator = fit_estimator("xgboost", {"n_estimators": 5}, setting, matrix, y, WEIGHT)
    assert require_sound(skops.io.loads(skops.io.dumps(fitted), trusted=TRUSTED_TYPES)) is not None
    raw = fitted.estimator.booster_.save_raw("json")
    require_sound_booster(raw)

    def broken(place: str, at: int, value: int) -> bytes:
        booster = json.loads(raw)
        trees = booster["learner"]["gradient_booster"]["model"]
        part = trees if place in trees else next(tree for tree in trees["trees"] if tree["categories_nodes"])
        part[place][at] = value
        return json.dumps(booster).encode()

    for place, at, value in [
        *BROKEN_TREES,
        ("tree_info", 0, 1),
        ("tree_info", 0, -1),
        ("iteration_indptr", -1, 10_000),
    ]:
        with pytest.raises(DataError, match="a tree of the model is broken"):
            require_sound_booster(broken(place, at, value))
    loaded = skops.io.loads(skops.io.dumps(fitted), trusted=TRUSTED_TYPES)
    loaded.estimator.booster_.load_model(bytearray(broken("left_children", 0, 0)))
    with pytest.raises(DataError, match="a tree of the model is broken"):
        require_sound(loaded)


def test_an_estimator_that_nobody_fits_here_is_refused() -> None:
    loaded = skops.io.loads(skops.io.dumps(model()), trusted=TRUSTED_TYPES)
    inside = model()
    inside.estimator = DecisionTreeClassifier()
    for estimator in (DecisionTreeClassifier(), make_pipeline(DecisionTreeClassifier()), Voting([inside], [1.0])):
        loaded.estimator = estimator
        with pytest.raises(DataError, match="Evergreen fits no such estimator"):
            require_sound(loaded)
    with pytest.raises(DataError, match="no model of Evergreen's"):
        require_sound(DecisionTreeClassifier())


def test_a_regression_decides_for_its_value_and_has_no_probabilities() -> None:
    found = Model("regression", [], model().prepare, None, Prior("regression", 0).fit(np.array([1.0, 4.0]), np.ones(2)))
    assert found.decide(np.array([1.5, -2.0])).tolist() == [1.5, -2.0]
    assert found.predict(ROWS.slice(0, 2)).tolist() == [2.5, 2.5]
    with pytest.raises(DataError, match="values, not probabilities"):
        found.predict_proba(ROWS)


def test_pandas_rows_score_as_arrow_rows() -> None:
    import pandas as pd

    frame = pd.DataFrame({"flat": [1.0, 1.0], "litres": [1, 4], "shelf": ["top", "new"]})
    assert np.array_equal(model().scores(frame), model().scores(pa.Table.from_pandas(frame)))


@pytest.mark.parametrize("kind", ["forest", "hist_boosting"])
def test_trees_of_a_file_are_looked_at(kind: str) -> None:
    """Children behind their parents, inside their tree; features that exist: else scoring reads foreign memory."""
    fitted = model(kind=kind)
    assert require_sound(skops.io.loads(skops.io.dumps(fitted), trusted=TRUSTED_TYPES)) is not None
    names = ("left_child", "feature") if kind == "forest" else ("left", "feature_idx")
    for name, wrong in ((names[0], 0), (names[0], 10_000), (names[1], 99), (names[1], -1)):
        broken = skops.io.loads(skops.io.dumps(fitted), trusted=TRUSTED_TYPES)
        if kind == "forest":
            state = broken.estimator.estimators_[2].tree_.__getstate__()
            state["nodes"][name][0] = wrong
            broken.estimator.estimators_[2].tree_.__setstate__(state)
        else:
            broken.estimator._predictors[2][0].nodes[name][0] = wrong
        with pytest.raises(DataError, match="a tree of the model is broken"):
            require_sound(broken)
