"""What is measured: labels, the scores that a model gave them, and how it decides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipelines.errors import DataError
from pipelines.metrics.threshold import cost_matrix

if TYPE_CHECKING:
    from pipelines.config import Task
    from pipelines.problem import Problem

Array = NDArray[Any]
SUM_TOLERANCE = 1e-3  # probabilities of a row add up to 1, give or take what float32 loses


@dataclass(frozen=True, eq=False)
class Scored:
    """One model's scores on n rows, all float64 but the labels of classes.

    labels: (n,) 0 or 1; codes of `classes`; values. scores: (n,) probability of 1; (n, k) probabilities; (n,) values.
    weights: (n,), above or equal 0. costs: (k, k), actual x decided. over, under: what a unit too much or too little
    costs. beta: of F-beta. bins: of the calibration error.

    Raises:
        DataError: lengths differ, or a label, score or weight is none.

    >>> Scored("binary", ("0", "1"), np.array([0, 1]), np.array([0.2, 0.4]), np.ones(2), threshold=0.3).decisions
    array([0, 1])
    """

    task: Task
    classes: tuple[str, ...]
    labels: Array
    scores: Array
    weights: Array
    threshold: float = 0.5
    costs: Array | None = None
    over: float = 0.0
    under: float = 0.0
    beta: float = 1.0
    bins: int = 10

    def __post_init__(self) -> None:
        labels, scores = np.asarray(self.labels), np.asarray(self.scores, np.float64)
        weights = np.asarray(self.weights, np.float64)
        shape = (len(labels), len(self.classes)) if self.task == "multiclass" else labels.shape
        if labels.ndim != 1 or scores.shape != shape or weights.shape != labels.shape:
            raise DataError(
                f"{labels.shape} labels, {scores.shape} scores and {weights.shape} weights do not go together",
                where=f"metrics, task {self.task}",
                cure="join them by the key first; scores of several classes have a column for each",
            )
        if fault := self._fault(labels, scores, weights):
            raise DataError(fault[0], where=f"metrics, task {self.task}", cure=fault[1])
        labels = labels.astype(np.float64 if self.task == "regression" else np.int64)
        for name, value in (("labels", labels), ("scores", scores), ("weights", weights)):
            object.__setattr__(self, name, value)
        if self.costs is not None:
            object.__setattr__(self, "costs", np.asarray(self.costs, np.float64))

    def _fault(self, labels: Array, scores: Array, weights: Array) -> tuple[str, str] | None:
        if self.task == "regression":
            if not np.isfinite(labels.astype(np.float64)).all():
                return "a label is not finite", "leave out the rows without a label"
            if not np.isfinite(scores).all():
                return "a score is not finite", "look at the model's raw scores"
        else:
            known = max(2, len(self.classes))
            if not np.all((labels >= 0) & (labels < known) & (labels == np.floor(labels))):
                among = "neither 0 nor 1" if known == 2 else f"none of the {known} classes' codes"
                return f"a label is {among}", "leave out the rows without a label"
            if not np.all((scores >= 0) & (scores <= 1)):
                return "a score is not a probability", "look at the model's raw scores"
            if scores.ndim == 2 and not np.all(np.abs(scores.sum(axis=1) - 1) <= SUM_TOLERANCE):
                return "the probabilities of a row do not add up to 1", "look at the model's raw scores"
        if not np.all((weights >= 0) & np.isfinite(weights)):
            return "a weight is negative or not finite", "correct the sampling weights"
        return None

    def take(self, which: Array) -> Scored:
        """The rows of a mask or of positions."""
        return replace(self, labels=self.labels[which], scores=self.scores[which], weights=self.weights[which])

    def joined(self, others: Sequence[Scored]) -> Scored:
        """These rows, and then those of others that the same model scored."""
        parts = [self, *others]
        return replace(
            self,
            labels=np.concatenate([part.labels for part in parts]),
            scores=np.concatenate([part.scores for part in parts]),
            weights=np.concatenate([part.weights for part in parts]),
        )

    @cached_property
    def decisions(self) -> Array:
        """Codes (n,): binary by the threshold; multiclass the likeliest, or with costs that of the least expected
        cost (Elkan 2001); the scores themselves in a regression."""
        if self.task == "binary":
            return (self.scores >= self.threshold).astype(np.int64)
        if self.task == "regression":
            return self.scores
        decided: Array = self.scores.argmax(axis=1) if self.costs is None else (self.scores @ self.costs).argmin(axis=1)
        return decided

    @property
    def has_costs(self) -> bool:
        return bool(self.over or self.under) if self.task == "regression" else self.costs is not None


def scored(
    problem: Problem, labels: Array, scores: Array, weights: Array | None = None, threshold: float = 0.5
) -> Scored:
    """Scores with the costs, beta and bins of the problem; `labels` as codes, without weights all rows count alike."""
    costs = cost_matrix(problem)
    return Scored(
        problem.task,
        tuple(problem.classes),
        labels,
        scores,
        np.ones(len(labels)) if weights is None else weights,
        threshold,
        None if costs is None else np.array(costs),
        problem.costs.over,
        problem.costs.under,
        problem.evaluation.beta,
        problem.evaluation.calibration_bins,
    )


def shown(scores: NDArray[Any], decided: NDArray[Any]) -> NDArray[Any]:
    """One number for each row, (n,): of several classes the probability of the one that was decided for.

    >>> shown(np.array([[0.2, 0.8], [0.7, 0.3]]), np.array([1, 0])).tolist()
    [0.8, 0.7]
    >>> shown(np.array([0.4]), np.array([0])).tolist()
    [0.4]
    """
    return scores if scores.ndim == 1 else scores[np.arange(len(scores)), decided]
