from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.training.boost_parameters import CALLED, FIXED, ONLY_WITH, SET_ELSEWHERE, TAKEN, BoostSettings
from pipelines.training.boost_parameters import boost_settings as made

NAMES = ["f0", "f1", "f2", "f3", "f4"]


def _settings(task: str, parameters: dict[str, Any], *, is_focal: bool = False) -> BoostSettings:
    return made(parameters, task, classes=3, is_category=[False] * 4 + [True], names=NAMES, is_focal=is_focal)


@pytest.mark.parametrize(
    ("task", "parameters", "message"),
    [
        ("binary", {"max_dept": 3}, "unknown parameter 'max_dept'; did you mean 'max_depth'"),
        ("binary", {"eta": 0.1}, "'eta'; it is called 'learning_rate' here"),
        ("binary", {"n_jobs": 3}, "n_jobs is set by training.threads"),
        ("binary", {"booster": "dart"}, "booster is always 'gbtree'"),
        ("binary", {"objective": "reg:squarederror"}, "does not go with the task binary; known: binary:logistic"),
        ("binary", {"objective": "binary:hinge"}, "binary:hinge"),
        ("regression", {"objective": "binary:logistic"}, "does not go with the task regression"),
        ("regression", {"objective": "reg:quantileerror"}, "needs quantile_alpha"),
        ("regression", {"objective": "reg:quantileerror", "quantile_alpha": [0.1, 0.9]}, "one number"),
        ("regression", {"quantile_alpha": 0.5}, "goes with objective 'reg:quantileerror' only"),
        ("multiclass", {"scale_pos_weight": 2}, "goes with objective 'binary:logistic' only"),
        ("binary", {"n_estimators": 0}, "whole number from 1 on, not 0"),
        ("binary", {"n_estimators": "many"}, "whole number"),
        ("binary", {"early_stopping_rounds": True}, "whole number"),
        ("binary", {"eval_metric": ["auc"]}, "one metric's name"),
        ("binary", {"monotone_constraints": [1, 0]}, "each of the 5 columns"),
        ("binary", {"monotone_constraints": [0, 0, 0, 0, 1]}, "categories have no order"),
        ("binary", {"monotone_constraints": {"f9": 1}}, "'f9' is no column"),
    ],
)
def test_what_cannot_be_is_refused_by_name(task: str, parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _settings(task, parameters)


@pytest.mark.parametrize("name", sorted(TAKEN))
def test_every_parameter_that_is_taken_is_one_of_xgboosts(name: str) -> None:
    import inspect

    from xgboost import XGBModel

    objectives = {"quantile_alpha", "huber_slope", "tweedie_variance_power"}
    assert name in {*inspect.signature(XGBModel.__init__).parameters, *objectives}


def test_every_parameter_of_scikit_learns_interface_is_taken_or_is_said_where_it_is_set() -> None:
    import inspect

    from xgboost import XGBModel

    known = {*TAKEN, *CALLED, *SET_ELSEWHERE, *FIXED}
    of_no_use = {
        "self",
        "kwargs",
        "callbacks",
        "verbosity",
        "validate_parameters",
        "importance_type",
        "feature_weights",
    }
    assert set(inspect.signature(XGBModel.__init__).parameters) - known == of_no_use


def test_what_is_ours_does_not_go_to_xgboost_and_null_is_nothing() -> None:
    found = _settings("multiclass", {"n_estimators": 7, "early_stopping_rounds": 3, "max_depth": None, "gamma": 1})
    assert (found.rounds, found.patience, found.max_bin) == (7, 3, 256)
    assert found.native == {"objective": "multi:softprob", "num_class": 3, "gamma": 1}
    assert _settings("binary", {}).rounds is None


DEFAULTS = {"learning_rate": 0.05, "subsample": 0.8, "colsample_bynode": 0.8}


@pytest.mark.parametrize(
    ("task", "rows", "columns", "wanted"),
    [
        ("binary", 400, 12, {"max_depth": 4, "min_child_weight": 1.0}),
        ("binary", 2_400, 12, {"max_depth": 6, "min_child_weight": 3.0}),
        ("multiclass", 1_000_000, 12, {"max_depth": 6, "min_child_weight": 5.0}),
        ("regression", 400, 12, {"max_depth": 4, "min_child_weight": 2.0}),
        ("regression", 1_000_000, 3, {"max_depth": 6, "min_child_weight": 20.0, "colsample_bynode": 1.0}),
    ],
)
def test_what_nobody_wrote_is_regularised_by_the_size_of_the_data(
    task: str, rows: int, columns: int, wanted: dict[str, Any]
) -> None:
    made = _settings(task, {}).on(rows, columns, has_held_out=True)
    assert (made.rounds, made.patience) == (1000, 50)
    own = {"objective": made.native["objective"], **({"num_class": 3} if task == "multiclass" else {})}
    assert made.native == {**DEFAULTS, **wanted, **own, "reg_lambda": 1.0 if task == "regression" else 5.0}
    assert made.least == (150 if task == "regression" else 0)


@given(
    written=st.dictionaries(
        st.sampled_from(
            [
                "learning_rate",
                "max_depth",
                "reg_lambda",
                "subsample",
                "colsample_bynode",
                "min_child_weight",
                "n_estimators",
                "early_stopping_rounds",
            ]
        ),
        st.integers(1, 1),
    ),
    rows=st.integers(1, 10**7),
    columns=st.integers(1, 500),
    has_held_out=st.booleans(),
)
@settings(max_examples=50)
def test_each_parameter_that_is_written_wins_over_its_default(
    written: dict[str, int], rows: int, columns: int, has_held_out: bool
) -> None:
    sized = _settings("binary", {}).on(rows, columns, has_held_out)
    made = _settings("binary", written).on(rows, columns, has_held_out)
    ours = {name: value for name, value in written.items() if name in sized.native}
    assert made.native == {**sized.native, **ours}
    stops = "early_stopping_rounds" in written or (has_held_out and "n_estimators" not in written)
    assert (made.patience is not None) == stops
    assert made.rounds == written.get("n_estimators", 1000 if stops else 200)
    assert made.patience == (written.get("early_stopping_rounds", 50) if stops else None)


def test_the_least_weight_of_a_leaf_is_left_to_xgboost_where_its_scale_is_not_known() -> None:
    assert "min_child_weight" not in _settings("regression", {"objective": "count:poisson"}).on(9000, 9, True).native
    assert _settings("binary", {}).patience is None


def test_constraints_are_by_name_or_position() -> None:
    given = {"monotone_constraints": {"f2": -1}, "interaction_constraints": [["f0", "f2"], [1, "f4"]]}
    native = _settings("regression", given).native
    assert native["monotone_constraints"] == "(0,0,-1,0,0)"
    assert native["interaction_constraints"] == "[[0, 2], [1, 4]]"
    assert (
        _settings("binary", {"monotone_constraints": (0, 1, 0, 0, 0)}).native["monotone_constraints"] == "(0,1,0,0,0)"
    )


@pytest.mark.parametrize(
    ("parameters", "sampled", "rises"),
    [
        ({}, False, False),
        ({"subsample": 1.0}, False, False),
        ({"subsample": 0.5}, True, False),
        ({"colsample_bylevel": 0.5, "eval_metric": "aucpr"}, True, True),
        ({"eval_metric": "error@0.7"}, False, False),
    ],
)
def test_what_follows_from_the_parameters(parameters: dict[str, Any], sampled: bool, rises: bool) -> None:
    found = _settings("binary", parameters)
    assert (found.is_sampled, found.is_higher_better) == (sampled, rises)


def test_what_goes_with_an_objective_goes_with_that_one() -> None:
    for name, objective in ONLY_WITH.items():
        task = objective.split(":")[0].replace("reg", "regression")
        parameters = {"objective": objective, "quantile_alpha": 0.5 if "quantile" in objective else None, name: 0.5}
        assert _settings(task, parameters).native[name] == 0.5
    with pytest.raises(ValueError, match="without focal loss"):
        _settings("binary", {"scale_pos_weight": 2}, is_focal=True)
