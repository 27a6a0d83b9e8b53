"""What a fit puts together, of rows in memory and of a stream alike: settings, weights, rows that are held out."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.config import Calibration, Candidate, Preprocessing
from pipelines.errors import DataError
from pipelines.metrics.threshold import cost_matrix
from pipelines.problem import Problem
from pipelines.training.checks import (
    newest_apart,
)
from pipelines.training.estimators import HELD_OUT, Setting
from pipelines.training.imbalance import reweighed
from pipelines.training.model import Model
from pipelines.training.prepare import Preparation


def calibration_of(problem: Problem, candidate: Candidate, name: str) -> Calibration:
    """Of a candidate with parts only its own: theirs have calibrated scores already. A baseline stays what it is."""
    if candidate.is_baseline or candidate.of:
        return problem.training.candidates[name].calibration or Calibration()
    return candidate.calibration or Calibration()


def rows_apart(train: pa.Table, calibration: Calibration) -> tuple[pa.Table, pa.Table | None]:
    """Rows that are fitted on, and the newest, that calibrate."""
    if calibration.method == "none":
        return train, None
    fitted_on, calibrating = newest_apart(train, calibration.partitions)
    if not fitted_on.num_rows:
        count = len(train["partition"].unique())
        raise DataError(
            f"the training split has {count} partitions, and {calibration.partitions} of them are to calibrate: "
            "none is left to fit on",
            where="training.calibration.partitions",
            cure="train on more partitions (dataset.window_partitions), or take calibration.method none",
        )
    return fitted_on, calibrating


def new_model(problem: Problem, preprocessing: Preprocessing) -> Model:
    """A model that has yet to be fitted."""
    settings = preprocessing.model_dump(mode="json")
    seed = problem.training.seed
    prepare = Preparation(
        problem.feature_names, problem.categorical_features, settings, problem.task, seed, problem.vector_features
    )
    return Model(problem.task, problem.classes, prepare, None, None, costs=cost_matrix(problem))


def setting_of(problem: Problem, candidate: Candidate, is_category: list[bool], names: list[str]) -> Setting:
    """What the estimator is told of the problem and of the matrix's columns."""
    training, imbalance = problem.training, candidate.imbalance
    focal = None
    if imbalance is not None and imbalance.method == "focal":
        focal = {"gamma": imbalance.gamma, "alpha": imbalance.alpha}
    return Setting(
        problem.task, len(problem.classes), training.seed, training.threads, training.device, is_category, focal, names
    )


def class_factors(problem: Problem, candidate: Candidate, y: np.ndarray, weight: np.ndarray) -> np.ndarray | None:
    """What imbalance multiplies the weights of each class by, shape (k,); None: nothing."""
    if candidate.imbalance is None or candidate.imbalance.method in ("none", "focal"):
        return None
    costs = cost_matrix(problem)
    cost_weights = reweighed(
        candidate.imbalance, y, weight, len(problem.classes), None if costs is None else np.array(costs)
    )
    factors = np.ones(len(problem.classes))
    known, first = np.unique(y, return_index=True)
    factors[known.astype(np.int64)] = cost_weights[first] / weight[first]
    return factors


def held_out_rows(model: Model, validation: pa.Table, factors: np.ndarray | None) -> HELD_OUT | None:
    """What tells boosted trees when to stop, weighed as the rows that they learn from; None: there is nothing."""
    counted = validation.filter(pc.greater(validation["weight"], 0))
    if not counted.num_rows:
        return None
    y = counted["label"].to_numpy()
    return model.matrix(counted), y, weighed(counted["weight"].to_numpy(), factors, y)


def require_columns(count: int, name: str) -> None:
    """Raises:
    DataError: no feature is left.
    """
    if not count:
        raise DataError(
            "no feature is left to learn from: each is constant, missing everywhere, or was not selected",
            where=f"training.candidates.{name}",
            cure="look at the datasheet's features; select with less strength, or name features under selection.always",
        )


def weighed(weight: np.ndarray, factors: np.ndarray | None, y: np.ndarray) -> np.ndarray:
    """Weights times their class's factor."""
    return weight if factors is None else weight * factors[y.astype(np.int64)]
