"""Every kind of single estimator: built, fitted on a prepared matrix, and asked for scores in one form."""

from __future__ import annotations

import warnings
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from sklearn.base import BaseEstimator

from pipelines.config import Parameters, did_you_mean
from pipelines.training.boost_parameters import TAKEN

if TYPE_CHECKING:
    from pipelines.training.boost import BoostedTrees, Checkpoint

HELD_OUT = tuple[np.ndarray, np.ndarray, np.ndarray]
FEW_ROWS = 10_000
STOPS_EARLY = ("xgboost", "hist_boosting")  # kinds that rows held out can tell when to stop


@dataclass(frozen=True)
class Setting:
    """What an estimator has to know beside its parameters. `classes`: how many; of a regression 0."""

    task: str
    classes: int
    seed: int
    threads: int = 1
    device: str = "cpu"
    is_category: list[bool] = field(default_factory=list)
    focal: dict[str, float | None] | None = None
    names: list[str] | None = None


def fit_estimator(
    kind: str,
    parameters: Parameters,
    setting: Setting,
    matrix: np.ndarray,
    y: np.ndarray,
    weight: np.ndarray,
    held_out: HELD_OUT | None = None,
    checkpoint: Checkpoint | None = None,
) -> Any:
    """A fitted estimator of the kind (config's ModelKind, but the heuristic and the ensembles, which take rows).

    `held_out` (matrix, y, weight) only tells the boosted trees when to stop; nothing else is learnt from it.

    Raises:
        TypeError, ValueError: the parameters are not the estimator's.
    """
    match kind:
        case "random":
            return Random(setting.task, setting.classes, setting.seed).fit(matrix, y, weight)
        case "prior":
            return Prior(setting.task, setting.classes).fit(y, weight)
        case "logistic" | "linear":
            # In float32 the solver stops where rounding does, long before the optimum.
            return unfitted(kind, parameters, setting).fit(matrix.astype(np.float64), y, sample_weight=weight)
        case "forest":
            return _forest(parameters, setting, matrix, y, weight)
        case "xgboost":
            return boosted_trees(parameters, setting).fit(matrix, y, weight, held_out, checkpoint)
        case "hist_boosting":
            return _hist_boosting(parameters, setting, matrix, y, weight, held_out)
    raise ValueError(f"there is no estimator {kind!r}")


def unfitted(kind: str, parameters: Parameters, setting: Setting) -> Any:
    """Scikit-learn's estimator of the kind, yet to be fitted; it looks at values when it is.

    Raises:
        ValueError: it has no parameter of such a name.
    """
    made, defaults = _of_scikit_learn(kind, setting)
    for name in parameters:
        if name not in (known := made().get_params(deep=False)):
            raise ValueError(f"unknown parameter {name!r}{did_you_mean(name, known)}")
    return made(**defaults | parameters)


def require_values(kind: str, parameters: Parameters, setting: Setting) -> None:
    """Raises:
    ValueError: scikit-learn's estimator of the kind refuses a value, whatever the rows, or values that do not go
        together. (Trees have some that only their rows decide about, so that they are asked for their bounds alone.)
    """
    model = unfitted(kind, parameters, setting)
    model._validate_params()
    if kind not in ("logistic", "linear"):
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # one step is too few, as it is for any rows
        y = np.arange(2 * max(setting.classes, 2)) % (setting.classes or 4)
        model.set_params(max_iter=1).fit(y[:, None].astype(np.float64), y)


def known_parameters(kind: str, setting: Setting) -> list[str]:
    """Names of the parameters that an estimator of the kind takes, in order."""
    if kind == "xgboost":
        return sorted(TAKEN)
    return sorted(_of_scikit_learn(kind, setting)[0]().get_params(deep=False))


def _of_scikit_learn(kind: str, setting: Setting) -> tuple[Any, Parameters]:
    """The class, and what its parameters are where nobody gave them."""
    from sklearn import ensemble, linear_model

    is_regression, seeded = setting.task == "regression", {"random_state": setting.seed}
    match kind:
        case "logistic":
            return linear_model.LogisticRegression, {"max_iter": 1000, **seeded}
        case "linear":
            return linear_model.Ridge, {**seeded}
        case "forest":
            forest = ensemble.RandomForestRegressor if is_regression else ensemble.RandomForestClassifier
            return forest, {**seeded, "n_jobs": setting.threads}
    boosting = ensemble.HistGradientBoostingRegressor if is_regression else ensemble.HistGradientBoostingClassifier
    return boosting, {**seeded}


def boosted_trees(parameters: Parameters, setting: Setting) -> BoostedTrees:
    from pipelines.training.boost import BoostedTrees

    return BoostedTrees(
        parameters,
        setting.task,
        setting.classes,
        setting.seed,
        setting.threads,
        setting.device,
        setting.is_category,
        setting.focal,
        setting.names,
    )


def scores_of(estimator: Any, matrix: np.ndarray, task: str, classes: int) -> np.ndarray:
    """Scores float64: binary (n,), multiclass (n, classes), regression (n,).

    A class that the estimator has never met gets 0.
    """
    if not len(matrix):
        return np.empty((0, classes) if task == "multiclass" else 0)
    if hasattr(estimator, "scores"):
        return np.asarray(estimator.scores(matrix), dtype=np.float64)
    # Each tree of scikit-learn's boosting would start threads of its own, which takes longer than a few rows do.
    is_costly = hasattr(estimator, "_predictors") and len(matrix) < FEW_ROWS
    with _openmp().limit(limits=1, user_api="openmp") if is_costly else nullcontext():
        if task == "regression":
            return np.asarray(estimator.predict(matrix), dtype=np.float64)
        scores = np.zeros((len(matrix), classes))
        scores[:, np.asarray(estimator.classes_, dtype=np.int64)] = estimator.predict_proba(matrix)
    return scores[:, 1] if task == "binary" else scores


def class_shares(y: np.ndarray, weight: np.ndarray, classes: int) -> np.ndarray:
    """Share of the weight that each class has, shape (classes,).

    >>> class_shares(np.array([0, 2, 2]), np.array([1.0, 1.0, 2.0]), 3)
    array([0.25, 0.  , 0.75])
    """
    counts = np.bincount(y.astype(np.int64), weight, classes)
    return np.asarray(counts / counts.sum())


class Prior(BaseEstimator):  # type: ignore[misc]
    """The same for every row: the shares of the classes, or the weighted mean of the label."""

    def __init__(self, task: str, classes: int) -> None:
        self.task = task
        self.classes = classes

    def fit(self, y: np.ndarray, weight: np.ndarray) -> Prior:
        """`shares_`: probabilities of the classes (k,); of a regression the mean (1,)."""
        if self.task == "regression":
            self.shares_ = np.array([np.average(y, weights=weight)])
        else:
            self.shares_ = class_shares(y, weight, self.classes)
        return self

    def scores(self, matrix: Any) -> np.ndarray:
        """For as many rows as `matrix` has."""
        rows = len(matrix)
        if self.task == "multiclass":
            return np.tile(self.shares_, (rows, 1))
        return np.full(rows, self.shares_[-1])


class Random(BaseEstimator):  # type: ignore[misc]
    """A draw from the labels of the training rows, whatever the features say; a class gets probability 1.

    The draw is a hash of seed and content of the row: the same alone as among others, and equal rows draw the same.
    """

    def __init__(self, task: str, classes: int, seed: int) -> None:
        self.task = task
        self.classes = classes
        self.seed = seed

    def fit(self, matrix: np.ndarray, y: np.ndarray, weight: np.ndarray) -> Random:
        """`upto_`: cumulated shares of `values_`: the classes, or a thousand quantiles of the label."""
        if self.task == "regression":
            order = np.argsort(y, kind="stable")
            mass = np.cumsum(weight[order])
            at = np.searchsorted(mass, (np.arange(1000) + 0.5) / 1000 * mass[-1])
            self.values_ = y[order][at].astype(np.float64)
            self.upto_ = np.arange(1, 1001) / 1000
        else:
            self.values_ = np.arange(self.classes, dtype=np.float64)
            self.upto_ = np.cumsum(class_shares(y, weight, self.classes))
        return self

    def scores(self, matrix: np.ndarray) -> np.ndarray:
        at = np.searchsorted(self.upto_, _uniform(matrix, self.seed), side="right")
        drawn = self.values_[np.minimum(at, len(self.values_) - 1)]
        if self.task == "multiclass":
            return np.asarray(drawn[:, None] == self.values_, dtype=np.float64)
        return np.asarray(drawn)


def _uniform(matrix: np.ndarray, seed: int) -> np.ndarray:
    """A number in [0, 1) for each row, by its content: splitmix64 (Steele et al., 2014) over the bits of its columns.

    >>> _uniform(np.array([[1, 2], [2, 1], [1, 2]], dtype=np.float32), 0).round(3).tolist()
    [0.159, 0.408, 0.159]
    """
    bits = (matrix + np.float32(0)).astype(np.float32)  # + 0: -0.0 and 0.0 are one number
    bits[np.isnan(bits)] = np.nan  # and so is each NaN
    state = np.full(len(bits), np.random.default_rng(seed).integers(2**63), dtype=np.uint64)
    for column in bits.T:
        state = _mixed(state + np.uint64(0x9E3779B97F4A7C15) + np.ascontiguousarray(column).view(np.uint32))
    return np.asarray((_mixed(state) >> np.uint64(11)) * 2.0**-53)


def _mixed(state: np.ndarray) -> np.ndarray:
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(state ^ (state >> np.uint64(31)))


def _forest(parameters: Parameters, setting: Setting, matrix: np.ndarray, y: np.ndarray, weight: np.ndarray) -> Any:
    model = unfitted("forest", parameters, setting)
    model.fit(matrix, y, sample_weight=weight)
    # Several threads add up the trees in whichever order they end, and sums then differ in their last bit.
    return model.set_params(n_jobs=1)


def _hist_boosting(
    parameters: Parameters,
    setting: Setting,
    matrix: np.ndarray,
    y: np.ndarray,
    weight: np.ndarray,
    held_out: HELD_OUT | None,
) -> Any:
    if held_out is not None and setting.task != "regression":
        is_known = np.isin(held_out[1], y)  # it refuses rows of a class that it does not learn
        held_out = (held_out[0][is_known], held_out[1][is_known], held_out[2][is_known])
    # Without held-out rows it would hold out random ones of those it learns from, and so stop by the future.
    stops_early = held_out is not None and len(held_out[1]) > 0
    require_values("hist_boosting", parameters, setting)
    top = int(cast(int, parameters.get("max_bins", 255)))
    small = _small_categories(matrix, setting.is_category, top)
    model = unfitted(
        "hist_boosting", {"early_stopping": stops_early, "categorical_features": small} | parameters, setting
    )
    held = {}
    if stops_early and held_out is not None and model.early_stopping:
        held = dict(zip(("X_val", "y_val", "sample_weight_val"), held_out, strict=True))
    elif not stops_early:
        model.set_params(early_stopping=False)
    with _openmp().limit(limits=setting.threads, user_api="openmp"):
        model.fit(matrix, y, sample_weight=weight, **held)
    for left_over in ("_scorer", "_raw_predict"):  # of the parameter scoring; skops cannot write them
        vars(model).pop(left_over, None)
    return model


@cache
def _openmp() -> Any:
    """Sets how many threads scikit-learn's boosting takes; looking for the libraries is what costs time."""
    from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]

    return ThreadpoolController()


def _small_categories(matrix: np.ndarray, is_category: list[bool], top: int) -> list[bool] | None:
    """Which columns are categories of at most `top` values, all that scikit-learn's trees take; longer ones are
    split as the numbers of their codes."""
    if not any(is_category):
        return None
    highest = np.max(matrix, axis=0, initial=-1, where=~np.isnan(matrix))
    return [bool(category and high < top) for category, high in zip(is_category, highest, strict=True)]
