from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import skops.io
from skops.io.exceptions import UntrustedTypesFoundException

from pipelines.dataset.fingerprint import fingerprint
from pipelines.errors import ConfigError, DataError
from pipelines.metrics.metrics import auc, log_loss
from pipelines.problem import Problem
from pipelines.training.fit import fit
from pipelines.training.model import TRUSTED_TYPES, Model

ToyProblem = Callable[..., Problem]
CLASSES = ["calm", "bubbling", "over"]
METRIC = {"binary": "log_loss", "multiclass": "log_loss", "regression": "rmse"}
KINDS: dict[str, dict[str, Any]] = {
    "random": {},
    "prior": {},
    "logistic": {"parameters": {"C": 1.0}},
    "linear": {"parameters": {"alpha": 2.0}},
    "forest": {"parameters": {"n_estimators": 20, "min_samples_leaf": 5}},
    "xgboost": {"parameters": {"n_estimators": 20, "learning_rate": 0.3, "max_depth": 3, "early_stopping_rounds": 5}},
    "hist_boosting": {"parameters": {"max_iter": 12, "learning_rate": 0.3, "max_leaf_nodes": 6}},
}


def kettles(count: int, seed: int, task: str = "binary") -> pa.Table:
    """Kettles that boil over the fuller they are, ever so many a day; rows are in time's order."""
    random = np.random.default_rng(seed)
    litres, shelf = random.uniform(0, 5, count), random.choice(["top", "bottom"], count)
    pressure = litres + (shelf == "top") - 3
    if task == "binary":
        label = (random.random(count) < 1 / (1 + np.exp(-pressure))).astype(np.int8)
    elif task == "multiclass":
        label = np.digitize(pressure + random.normal(size=count), [-1, 1])
    else:
        label = 10 * pressure + random.normal(size=count)
    day = np.arange(count) * 6 // count + 1
    return pa.table(
        {
            "shelf": pa.array(shelf),
            "litres": pa.array(litres, mask=random.random(count) < 0.1),
            "shelf_rate_3d": random.random(count),
            "shelf_count_2d": random.integers(0, 9, count).astype(float),
            "label": label,
            "weight": np.ones(count),
            "partition": pa.array([f"2024-01-{n:02d}" for n in range(1, 7)]).take(pa.array(day - 1)),
        }
    )


ROWS = {
    task: [kettles(rows, seed, task) for rows, seed in ((1200, 1), (400, 2), (800, 3))]
    for task in ("binary", "multiclass", "regression")
}
TRAIN, VALIDATION, TEST = ROWS["binary"]


@pytest.fixture
def problem(toy: ToyProblem) -> ToyProblem:
    """A toy problem of a task with these candidates: problem("binary", {"logistic": {...}}, **changes)."""

    def build(task: str, candidates: dict[str, dict[str, Any]], **changes: Any) -> Problem:
        metric = METRIC[task]
        gate = {
            "limits": {metric: {"max": 9.0}},
            "gain_over_baselines": {metric: 0.0},
            "gain_over_champion": {metric: 0.0},
            "slices": None,
        }
        counts = {
            name: {"by": ["shelf"], "function": "count", "window_days": 3}
            for name in ("shelf_rate_3d", "shelf_count_2d")
        }
        labels = {"labels.classes": CLASSES, "features.history": counts} if task == "multiclass" else {}
        made = {name: {"model": name} | spec for name, spec in candidates.items()}
        made.setdefault("prior", {"model": "prior"})
        made.setdefault("unused", {"model": "xgboost"})
        return toy(
            **{
                "task": task,
                "gate": gate,
                "training.select_by": metric,
                "training.threads": 1,
                **labels,
                "training.candidates": made,
                **changes,
            }
        )

    return build


def trained(problem: ToyProblem, kind: str, task: str = "binary", train: Any = None, **changes: Any) -> Model:
    rows, validation, _ = ROWS[task]
    return fit(problem(task, {kind: KINDS[kind]}, **changes), kind, rows if train is None else train, validation)


def kinds_of(task: str) -> list[str]:
    without = {"regression": "logistic"}.get(task, "linear")
    return [kind for kind in KINDS if kind != without]


@pytest.mark.parametrize(("task", "kind"), [(task, kind) for task in ROWS for kind in kinds_of(task)])
def test_a_candidate_learns_and_its_file_gives_the_same_scores(problem: ToyProblem, task: str, kind: str) -> None:
    test, model = ROWS[task][2], trained(problem, kind, task)
    y, scores = test["label"].to_numpy(), model.scores(test)
    assert model.learnt_from == fingerprint(problem(task, {}), ROWS[task][0])
    assert scores.shape == ((800, 3) if task == "multiclass" else (800,)) and scores.dtype == np.float64
    if kind not in ("random", "prior"):
        if task == "binary":
            assert (auc(y, scores) or 0) > 0.75
        elif task == "multiclass":
            assert (model.decide(scores) == y).mean() > 0.6
        else:
            assert np.mean((scores - y) ** 2) < 0.3 * y.var()
    if task != "regression":
        assert model.predict_proba(test).sum(axis=1) == pytest.approx(1, abs=1e-5)
    again = skops.io.loads(skops.io.dumps(model), trusted=TRUSTED_TYPES)
    assert np.array_equal(again.scores(test), scores)
    assert np.array_equal(again.predict(test), model.predict(test))
    assert again.learnt_from == model.learnt_from
    assert model.scores(test.slice(7, 1)) == pytest.approx(scores[7:8], abs=1e-6), "a row alone scores the same"
    assert model.scores(test.to_pandas()) == pytest.approx(scores, abs=1e-6)
    assert len(model.scores(test.slice(0, 0))) == 0


def test_a_models_file_has_no_more_entries_where_it_learnt_from_more_partitions(problem: ToyProblem) -> None:
    model, entries = trained(problem, "prior"), []
    for count in (1, 5_000):
        model.learnt_from = {"rows": count, "partitions": [str(number) for number in range(count)], "hash": "1f"}
        raw = skops.io.dumps(model)
        entries.append(zipfile.ZipFile(io.BytesIO(raw)).read("schema.json").count(b'"__class__"'))
        assert skops.io.loads(raw, trusted=TRUSTED_TYPES).learnt_from == model.learnt_from
    assert entries[0] == entries[1]


def test_a_model_of_before_is_read_as_it_was_written(problem: ToyProblem) -> None:
    model = trained(problem, "prior")
    again = Model.__new__(Model)
    again.__setstate__(dict(vars(model)))  # its rows are no text there
    assert again.learnt_from == model.learnt_from and again.classes == model.classes


SEEDED: dict[str, dict[str, Any]] = {
    "random": {},
    "logistic": {"preprocessing": {"encoding": "target", "missing": {"method": "median"}}},  # by its folds
    "forest": {"parameters": {"n_estimators": 5}},
    "xgboost": {"parameters": {"subsample": 0.5, "n_estimators": 5}},
    "hist_boosting": {"parameters": {"max_features": 0.5, "max_iter": 5}},
}


@pytest.mark.parametrize("kind", list(SEEDED))
def test_the_seed_decides(problem: ToyProblem, kind: str) -> None:
    one, same, other = (
        fit(problem("binary", {kind: SEEDED[kind]}, **{"training.seed": seed}), kind, TRAIN, VALIDATION)
        for seed in (1, 1, 2)
    )
    assert np.array_equal(one.scores(TEST), same.scores(TEST))
    assert not np.array_equal(one.scores(TEST), other.scores(TEST))


@pytest.mark.parametrize("kind", ["prior", "logistic", "forest", "xgboost", "hist_boosting"])
def test_weights_reach_the_fit_and_rows_that_weigh_nothing_are_not_there(problem: ToyProblem, kind: str) -> None:
    y = TRAIN["label"].to_numpy()
    plain = trained(problem, kind).scores(TEST)
    heavy = trained(problem, kind, train=weighed(TRAIN, np.where(y == 1, 9.0, 1.0))).scores(TEST)
    assert heavy.mean() > plain.mean() + 0.1
    is_old = np.arange(len(y)) < 600
    gone = trained(problem, kind, train=weighed(TRAIN, is_old.astype(float)))
    assert np.array_equal(gone.scores(TEST), trained(problem, kind, train=TRAIN.filter(pa.array(is_old))).scores(TEST))


def weighed(rows: pa.Table, weight: np.ndarray) -> pa.Table:
    return rows.set_column(rows.column_names.index("weight"), "weight", pa.array(weight))


@pytest.mark.parametrize("method", ["platt", "isotonic"])
def test_the_newest_partitions_calibrate_and_are_not_fitted_on(problem: ToyProblem, method: str) -> None:
    candidates = {"logistic": {"calibration": {"method": method, "partitions": 2}}, "plain": {"model": "logistic"}}
    config = problem("binary", candidates)
    is_new = pc.greater(TRAIN["partition"], "2024-01-04")
    turned = pc.if_else(is_new, pc.subtract(pa.scalar(1, pa.int8()), TRAIN["label"]), TRAIN["label"])
    lying = TRAIN.set_column(TRAIN.column_names.index("label"), "label", turned)
    older = fit(config, "plain", TRAIN.filter(pc.invert(is_new)), VALIDATION)
    model, misled = fit(config, "logistic", TRAIN, VALIDATION), fit(config, "logistic", lying, VALIDATION)
    assert np.array_equal(model.raw_scores(TEST), older.scores(TEST))
    assert np.array_equal(misled.raw_scores(TEST), older.scores(TEST)), "of them nothing is fitted"
    assert not np.allclose(model.scores(TEST), misled.scores(TEST), atol=0.05), "by them it is calibrated"
    again = skops.io.loads(skops.io.dumps(model), trusted=TRUSTED_TYPES)
    assert np.array_equal(again.scores(TEST), model.scores(TEST))


def test_calibration_mends_what_imbalance_does_to_scores(problem: ToyProblem) -> None:
    rare = TRAIN.filter(pa.array((TRAIN["label"].to_numpy() == 0) | (np.arange(1200) % 5 == 0)))
    losses = {}
    for method in ("none", "platt", "isotonic"):
        spec = {"imbalance": {"method": "class_weight"}, "calibration": {"method": method, "partitions": 2}}
        model = fit(problem("binary", {"logistic": spec}), "logistic", rare, VALIDATION)
        keeps = (TEST["label"].to_numpy() == 0) | (np.arange(800) % 5 == 0)
        losses[method] = log_loss(TEST["label"].to_numpy()[keeps], model.scores(TEST)[keeps])
    assert losses["platt"] < losses["none"] - 0.03 and losses["isotonic"] < losses["none"] - 0.03


def test_calibration_leaves_rows_to_fit_on(problem: ToyProblem) -> None:
    config = problem("binary", {"logistic": {"calibration": {"method": "platt", "partitions": 6}}})
    with pytest.raises(DataError, match=r"6 partitions, and 6 of them[\s\S]*window_partitions"):
        fit(config, "logistic", TRAIN, VALIDATION)


def test_the_threshold_is_chosen_on_validation_scores(problem: ToyProblem) -> None:
    def chosen(**changes: Any) -> Model:
        return fit(problem("binary", {"logistic": {}}, **changes), "logistic", TRAIN, VALIDATION)

    costs = {"costs.matrix": {"0": {"1": 1.0}, "1": {"0": 9.0}}}
    fixed = chosen(**{"training.threshold": {"value": 0.3}})
    assert fixed.threshold == 0.3 and fixed.costs is None
    cheap = chosen(**costs, **{"training.threshold": {"by": "cost"}})
    assert cheap.threshold < 0.25 and cheap.costs == [[0, 1], [9, 0]]
    careful, eager = (chosen(**{"training.threshold": {"by": "f_beta"}, "evaluation.beta": b}) for b in (0.2, 5.0))
    assert eager.threshold < careful.threshold
    assert eager.decide(eager.scores(TEST)).mean() > careful.decide(careful.scores(TEST)).mean()


def test_costs_of_several_classes_reach_the_decisions(problem: ToyProblem) -> None:
    costs = {"calm": {"over": 1.0}, "bubbling": {"over": 1.0}, "over": {"calm": 50.0, "bubbling": 50.0}}
    train, validation, test = ROWS["multiclass"]
    plain = fit(problem("multiclass", {"logistic": {}}), "logistic", train, validation)
    dear = fit(problem("multiclass", {"logistic": {}}, **{"costs.matrix": costs}), "logistic", train, validation)
    assert dear.costs == [[0, 0, 1], [0, 0, 1], [50, 50, 0]]
    assert np.array_equal(plain.scores(test), dear.scores(test))
    assert (dear.predict(test) == "over").mean() > (plain.predict(test) == "over").mean() + 0.1


@pytest.mark.parametrize(
    ("kind", "imbalance"),
    [
        ("logistic", {"method": "class_weight"}),
        ("forest", {"method": "class_balanced"}),
        ("hist_boosting", {"method": "cost_matrix"}),
        ("xgboost", {"method": "cost_matrix"}),
        ("xgboost", {"method": "focal", "gamma": 2.0, "alpha": 0.9}),
    ],
)
def test_imbalance_makes_the_rare_class_count(problem: ToyProblem, kind: str, imbalance: dict[str, Any]) -> None:
    rare = TRAIN.filter(pa.array((TRAIN["label"].to_numpy() == 0) | (np.arange(1200) % 4 == 0)))
    costs = {"costs.matrix": {"0": {"1": 1.0}, "1": {"0": 9.0}}}
    config = problem(
        "binary", {kind: KINDS[kind] | {"imbalance": imbalance}, "plain": KINDS[kind] | {"model": kind}}, **costs
    )
    plain, counted = (fit(config, name, rare, VALIDATION).scores(TEST) for name in ("plain", kind))
    assert counted.mean() > plain.mean() + 0.08


def test_rows_are_made_for_the_fit_of_what_learns_and_not_of_the_baselines(problem: ToyProblem) -> None:
    rare = TRAIN.filter(pa.array((TRAIN["label"].to_numpy() == 0) | (np.arange(1200) % 5 == 0)))
    share = rare["label"].to_numpy().mean()
    for changes in (
        {"dataset.resampling": {"method": "oversample"}},
        {"dataset.resampling": {"method": "smote"}},
        {"dataset.resampling": {"method": "undersample"}},
    ):
        config = problem("binary", {"logistic": {}}, **changes)
        assert fit(config, "logistic", rare, VALIDATION).scores(rare).mean() > share + 0.1
        assert fit(config, "prior", rare, VALIDATION).scores(rare) == pytest.approx(share)
    plain, mixed = (
        trained(problem, "logistic", **{"dataset.augmentation": {"method": method, "share": 2.0}})
        for method in ("none", "mixup")
    )
    assert not np.array_equal(plain.scores(TEST), mixed.scores(TEST))
    several = ROWS["multiclass"][0]
    few = several.filter(pa.array((several["label"].to_numpy() != 2) | (np.arange(1200) % 5 == 0)))
    config = problem("multiclass", {"logistic": {}}, **{"dataset.resampling": {"method": "smote"}})
    assert fit(config, "logistic", few, ROWS["multiclass"][1]).scores(few)[:, 2].mean() > 0.2


def test_selection_and_constant_columns_leave_the_model_and_say_why(problem: ToyProblem) -> None:
    constant = TRAIN.set_column(2, "shelf_rate_3d", pa.array(np.full(1200, 0.5)))
    spec = {"selection": {"method": "l1", "strength": 0.05, "always": ["shelf_count_2d"]}}
    config = problem("binary", {"logistic": spec, "plain": {"model": "logistic"}})
    model, plain = (fit(config, name, constant, VALIDATION) for name in ("logistic", "plain"))
    assert plain.kept is None and "shelf_rate_3d" in plain.dropped and "shelf_rate_3d" in model.dropped
    assert model.kept is not None and len(model.prepared_names) < len(plain.prepared_names)
    assert model.matrix(TEST).shape == (800, len(model.kept)) and set(model.dropped) > set(plain.dropped)
    assert "shelf_count_2d" in model.prepared_origin and "litres" in model.prepared_origin
    assert model.features == plain.features, "rows keep all columns"


def test_rows_with_gaps_are_left_out_of_the_fit_where_they_are_to_be(problem: ToyProblem) -> None:
    spec = {"preprocessing": {"missing": {"method": "drop"}, "encoding": "one_hot"}}
    full = TRAIN.filter(TRAIN["litres"].is_valid())
    one, other = (trained_on(problem, spec, rows) for rows in (TRAIN, full))
    assert np.array_equal(one.estimator.coef_, other.estimator.coef_)
    assert np.isfinite(one.scores(TEST)).all(), "gaps are filled when it scores"
    empty = TRAIN.set_column(1, "litres", pa.nulls(1200, pa.float64()))
    assert np.isfinite(trained_on(problem, spec, empty).scores(TEST)).all()


def trained_on(problem: ToyProblem, spec: dict[str, Any], rows: pa.Table) -> Model:
    return fit(problem("binary", {"logistic": spec}), "logistic", rows, VALIDATION)


@pytest.mark.parametrize(
    ("kind", "parameters", "told"),
    [
        ("logistic", {"max_itre": 3}, "unknown parameter 'max_itre'; did you mean 'max_iter'"),
        ("forest", {"n_estimators": -1}, "The 'n_estimators' parameter of RandomForestClassifier must be"),
        ("xgboost", {"max_dept": 3}, "unknown parameter 'max_dept'; did you mean 'max_depth'"),
        ("hist_boosting", {"learning_rate": "fast"}, "The 'learning_rate' parameter"),
        ("hist_boosting", {"max_bins": "many"}, "The 'max_bins' parameter of HistGradientBoostingClassifier must be"),
    ],
)
def test_parameters_that_a_model_does_not_know_are_told(
    problem: ToyProblem, kind: str, parameters: dict, told: str
) -> None:
    with pytest.raises(ConfigError, match=rf"{kind} refuses its parameters: {told}[\s\S]*training.candidates.{kind}"):
        fit(problem("binary", {kind: {}}), kind, TRAIN, VALIDATION, parameters=parameters)


def test_searched_parameters_go_over_the_candidates_own(problem: ToyProblem) -> None:
    config = problem("binary", {"xgboost": {"parameters": {"n_estimators": 3, "max_depth": 2}}})
    own, searched = (fit(config, "xgboost", TRAIN, VALIDATION, parameters=p) for p in (None, {"n_estimators": 7}))
    assert own.estimator.booster_.num_boosted_rounds() == 3
    assert searched.estimator.booster_.num_boosted_rounds() == 7


@pytest.mark.parametrize("kind", ["xgboost", "hist_boosting"])
def test_validation_rows_tell_boosted_trees_when_to_stop(problem: ToyProblem, kind: str) -> None:
    parameters: dict[str, dict[str, Any]] = {
        "xgboost": {"n_estimators": 60, "learning_rate": 0.5, "early_stopping_rounds": 3},
        "hist_boosting": {"max_iter": 60, "learning_rate": 0.5, "n_iter_no_change": 3, "max_leaf_nodes": 6},
    }
    config = problem("binary", {kind: {"parameters": parameters[kind]}})

    def rounds(validation: pa.Table) -> int:
        estimator = fit(config, kind, TRAIN, validation).estimator
        return int(estimator.n_iter_ if kind == "hist_boosting" else estimator.rounds_)

    assert rounds(VALIDATION) < 40 < rounds(TRAIN)
    if kind == "hist_boosting":
        assert rounds(VALIDATION.slice(0, 0)) == 60, "it takes no random rows of those it learns from"


def test_a_checkpoint_reaches_the_trees(problem: ToyProblem) -> None:
    class Kept:
        every = 4

        def __init__(self) -> None:
            self.kept: list[tuple[int, bytes]] = []

        def save(self, rounds: int, model: bytes) -> None:
            self.kept.append((rounds, model))

        def load(self) -> tuple[int, bytes] | None:
            return self.kept[-1] if self.kept else None

    config, kept = problem("binary", {"xgboost": {"parameters": {"n_estimators": 10}}}), Kept()
    whole = fit(config, "xgboost", TRAIN, VALIDATION, checkpoint=kept)
    assert [rounds for rounds, _ in kept.kept] == [4, 8]
    resumed = fit(config, "xgboost", TRAIN, VALIDATION, checkpoint=kept)
    assert len(kept.kept) == 2 and np.array_equal(resumed.scores(TEST), whole.scores(TEST))


def test_what_training_says_reaches_the_estimator(problem: ToyProblem) -> None:
    changes = {"training.threads": 3, "training.device": "cpu", "training.seed": 8}
    config = problem("binary", {"xgboost": {"imbalance": {"method": "focal", "gamma": 1.5, "alpha": 0.3}}}, **changes)
    trees = fit(config, "xgboost", TRAIN, VALIDATION, parameters={"n_estimators": 2}).estimator
    assert (trees.threads, trees.device, trees.seed, trees.classes) == (3, "cpu", 8, 2)
    assert trees.focal == {"gamma": 1.5, "alpha": 0.3} and trees.is_category == [True, False, False, False]
    assert trees.names == ["shelf", "litres", "shelf_rate_3d", "shelf_count_2d"]


def test_rows_that_nothing_can_be_learnt_from_are_refused_with_a_cure(problem: ToyProblem) -> None:
    ones = TRAIN.filter(pc.equal(TRAIN["label"], 1))
    flat = TRAIN.select(["label", "weight", "partition"])
    for name, kind in (
        ("shelf", pa.string()),
        *((n, pa.float64()) for n in ("litres", "shelf_rate_3d", "shelf_count_2d")),
    ):
        flat = flat.append_column(name, pa.nulls(1200, kind))
    cases = [
        (ones, "the same label"),
        (weighed(TRAIN, (TRAIN["label"].to_numpy() == 1).astype(float)), "the same label"),
        (TRAIN.slice(0, 1), "the same label"),
        (weighed(TRAIN, np.zeros(1200)), "weight above 0"),
        (TRAIN.slice(0, 0), "weight above 0"),
        (weighed(TRAIN, np.full(1200, -1.0)), "negative or no number"),
        (weighed(TRAIN, np.full(1200, np.nan)), "negative or no number"),
        (flat, "no feature is left"),
    ]
    for rows, said in cases:
        for kind in ("logistic", "xgboost", "hist_boosting"):
            with pytest.raises(DataError, match=said):
                trained(problem, kind, train=rows)
    assert trained(problem, "prior", train=ones).scores(TEST) == pytest.approx(1)
    assert trained(problem, "prior", train=flat).scores(TEST) == pytest.approx(TRAIN["label"].to_numpy().mean())


def test_of_several_classes_one_may_be_absent_from_the_training_rows(problem: ToyProblem) -> None:
    train, validation, test = ROWS["multiclass"]
    without = train.filter(pc.not_equal(train["label"], 1))
    for kind in ("logistic", "forest", "xgboost", "hist_boosting", "prior"):
        spec = KINDS[kind] | ({} if kind == "prior" else {"imbalance": {"method": "class_weight"}})
        scores = fit(problem("multiclass", {kind: spec}), kind, without, validation).scores(test)
        assert (
            scores.shape == (800, 3) and scores[:, 1].max() < 0.2 and scores.sum(axis=1) == pytest.approx(1, abs=1e-5)
        )


def test_a_file_with_other_types_is_refused(problem: ToyProblem) -> None:
    import functools
    import os

    model = trained(problem, "logistic")
    model.estimator = functools.partial(os.system, "true")
    with pytest.raises(UntrustedTypesFoundException):
        skops.io.loads(skops.io.dumps(model), trusted=TRUSTED_TYPES)


def test_a_constraint_on_a_column_that_is_constant_constrains_nothing(problem: ToyProblem) -> None:
    signs = {"monotone_constraints": {"litres": 1, "shelf_count_2d": -1}}
    config = problem("binary", {"xgboost": {"parameters": {"n_estimators": 20, **signs}}})
    dry = TRAIN.set_column(TRAIN.schema.get_field_index("shelf_count_2d"), "shelf_count_2d", pa.array([1.0] * 1200))
    model = fit(config, "xgboost", dry, VALIDATION)
    assert "shelf_count_2d" in model.dropped
    alike = {
        "litres": np.linspace(0, 5, 50),
        "shelf": ["top"] * 50,
        "shelf_rate_3d": [0.5] * 50,
        "shelf_count_2d": [1.0] * 50,
    }
    same = pa.table(alike)
    assert (np.diff(model.scores(same)) >= 0).all()
    unknown = problem("binary", {"xgboost": {"parameters": {"monotone_constraints": {"liters": 1}}}})
    with pytest.raises(ConfigError, match="'liters' is no column"):
        fit(unknown, "xgboost", dry, VALIDATION)
