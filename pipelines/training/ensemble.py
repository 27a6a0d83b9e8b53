"""Models made of models: voting and stacking."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from sklearn.base import BaseEstimator

from pipelines.config import Parameters
from pipelines.errors import ConfigError
from pipelines.problem import Problem
from pipelines.training.boost_parameters import stops_by_itself
from pipelines.training.calibrate import NEAR, logit
from pipelines.training.checks import explained, newest_apart, place, require_classes
from pipelines.training.estimators import STOPS_EARLY, Setting, fit_estimator, scores_of

if TYPE_CHECKING:
    from pipelines.training.model import Model


class Voting(BaseEstimator):  # type: ignore[misc]
    """The weighted mean of what its models score, each calibrated as it is."""

    takes_rows = True

    def __init__(self, models: list[Model], weights: list[float]) -> None:
        self.models = models
        self.weights = weights

    def scores(self, rows: Any) -> np.ndarray:
        mean = np.average([model.scores(rows) for model in self.models], axis=0, weights=self.weights)
        is_regression = self.models[0].task == "regression"
        return np.asarray(mean if is_regression else np.minimum(mean, 1))  # rounding may go beyond


class Stacking(BaseEstimator):  # type: ignore[misc]
    """A linear model over what its models score (Wolpert, Stacked Generalization, 1992).

    It has learnt from scores of rows that those models had not seen, and that were newer than all they had.
    """

    takes_rows = True

    def __init__(self, models: list[Model], task: str, classes: int) -> None:
        self.models = models
        self.task = task
        self.classes = classes

    def fit(
        self, scores: list[np.ndarray], y: np.ndarray, weight: np.ndarray, parameters: Parameters, seed: int
    ) -> Stacking:
        """`scores`: of each model, on rows that it was not fitted on."""
        self.final_ = fit_estimator(
            final_kind(self.task),
            parameters,
            Setting(self.task, self.classes, seed),
            side_by_side(scores, self.task),
            y,
            weight,
        )
        return self

    def scores(self, rows: Any) -> np.ndarray:
        beside = side_by_side([model.scores(rows) for model in self.models], self.task)
        return scores_of(self.final_, beside, self.task, self.classes)


def final_kind(task: str) -> str:
    """The model above the parts of a stacking."""
    return "linear" if task == "regression" else "logistic"


def side_by_side(scores: list[np.ndarray], task: str) -> np.ndarray:
    """The models' scores as the columns that the level above sees, float64, shape (n, models) or (n, models * k).

    A linear model adds, and what adds up are logits, not probabilities; of several classes their logarithms.
    """
    beside = np.column_stack(scores).astype(np.float64)
    if task == "regression":
        return beside
    return logit(beside) if task == "binary" else np.log(np.clip(beside, NEAR, 1))


def fit_ensemble(
    problem: Problem,
    name: str,
    train: pa.Table,
    validation: pa.Table,
    parameters: Parameters,
    fit_part: Callable[[Problem, str, pa.Table, pa.Table, Parameters | None], Model],
) -> Voting | Stacking:
    """The candidate's parts, fitted each as if it stood alone, and what combines them.

    Args:
        parameters: of stacking's linear model; under the name of a part, those that were searched for it.
        fit_part: fits a part: problem, its name, rows to learn from, validation rows, parameters over its own.

    Raises:
        DataError: stacking finds too few partitions for its folds, or one class in all that they measure.
    """
    from pipelines.training.folds import folds

    candidate = problem.training.of(name)
    searched = {part: of_part(problem, name, parameters, part) for part in candidate.of}
    own = {key: value for key, value in parameters.items() if key not in searched}
    models = [fit_part(problem, part, train, validation, searched[part]) for part in candidate.of]
    if candidate.model == "voting":
        return Voting(models, candidate.weights or [1.0] * len(models))
    scores: list[list[np.ndarray]] = [[] for _ in candidate.of]
    measured = []
    for earlier, newer in folds(problem, train):
        for position, part in enumerate(candidate.of):
            learnt_from, stops_by = _sides(problem, part, earlier, searched[part] or {})
            scores[position].append(fit_part(problem, part, learnt_from, stops_by, searched[part]).scores(newer))
        measured.append(newer.select(["label", "weight"]))
    rows = pa.concat_tables(measured)
    y, weight = rows["label"].to_numpy(), rows["weight"].to_numpy()
    require_classes(problem, y, f"the rows that the parts of {name} are measured on")
    with explained(problem, name, own):
        return Stacking(models, problem.task, len(problem.classes)).fit(
            [np.concatenate(scores_of_member) for scores_of_member in scores], y, weight, own, problem.training.seed
        )


def of_part(problem: Problem, name: str, parameters: Parameters, part: str) -> Parameters | None:
    """What the parameters of an ensemble change of its part, those that were searched for it; None: nothing.

    Raises:
        ConfigError: under the part's name stands something else than parameters.
    """
    own = parameters.get(part)
    if own is None or isinstance(own, dict):
        return own
    raise ConfigError(
        f"the parameters of {part} are a mapping, not {own!r}",
        where=f"{place(problem, name)}.parameters.{part}",
        cure="write its parameters under its name, or change them where it is a candidate itself",
    )


def _sides(problem: Problem, part: str, earlier: pa.Table, searched: Parameters) -> tuple[pa.Table, pa.Table]:
    """Rows of a fold that the part learns from, and those that tell it when to stop, if it asks: its newest partition,
    which it learns from as well where there is no other; who stops by itself is then told nothing."""
    older, newest = newest_apart(earlier, 1)
    candidate = problem.training.candidates[part]
    if candidate.model in STOPS_EARLY and older.num_rows:
        return older, newest
    if candidate.model == "xgboost" and stops_by_itself({**candidate.parameters, **searched}):
        return earlier, newest.slice(0, 0)
    return earlier, newest
