"""The model object: from feature rows to scores, and from scores to decisions. It is all that serving needs."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator

from pipelines.documents.lineage import Fingerprint
from pipelines.errors import DataError
from pipelines.training.estimators import scores_of
from pipelines.training.prepare import Preparation

# What a model's file may hold beside scikit-learn's own; anything else is refused when it is loaded.
TRUSTED_TYPES = [
    "functools.partial",  # of a function that has to be trusted itself
    "pipelines.training.boost.BoostedTrees",
    "pipelines.training.calibrate.Calibrator",
    "pipelines.training.calibrate.Isotonic",
    "pipelines.training.calibrate.Platt",
    "pipelines.training.ensemble.Stacking",
    "pipelines.training.ensemble.Voting",
    "pipelines.training.estimators.Prior",
    "pipelines.training.estimators.Random",
    "pipelines.training.heuristic.Heuristic",
    "pipelines.training.model.Model",
    "pipelines.training.prepare.Preparation",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.tree._tree.Tree",
    "sklearn.utils.validation.check_array",
    "xgboost.core.Booster",
]


class Model(BaseEstimator):  # type: ignore[misc]
    """A fitted candidate, whole: preparation, selection, estimator, calibration, threshold.

    Rows are a `pa.Table` or a pandas frame with the columns `features`, found by name. Scores are float64: binary (n,),
    the probability of class 1; multiclass (n, k), probabilities in the order of `classes`; regression (n,), values.
    The score of a row depends on the row alone, not on those that it comes with.

    Attributes:
        kept: columns of the prepared matrix that the estimator sees; None: all.
        calibration: what turns the estimator's scores into frequencies; None: they stay as they are.
        threshold: binary: from which score on the decision is class 1.
        costs: what the decision (column) costs, by what was true (row); None: nobody said.
        dropped: features and prepared columns that were left out, and why.
        fitted_rows: rows that the estimator learnt from: resampled, augmented, without those that calibrate.
        learnt_from: `fingerprint` of the training rows that the fit was given; empty: it does not say.
    """

    def __init__(
        self,
        task: str,
        classes: list[str],
        prepare: Preparation,
        kept: list[int] | None,
        estimator: Any,
        calibration: Any = None,
        threshold: float = 0.5,
        costs: list[list[float]] | None = None,
        dropped: dict[str, str] | None = None,
        fitted_rows: int = 0,
        learnt_from: Fingerprint | None = None,
    ) -> None:
        self.task = task
        self.classes = classes
        self.prepare = prepare
        self.kept = kept
        self.estimator = estimator
        self.calibration = calibration
        self.threshold = threshold
        self.costs = costs
        self.dropped = dropped or {}
        self.fitted_rows = fitted_rows
        self.learnt_from: Fingerprint = learnt_from or {}

    def __getstate__(self) -> dict[str, Any]:
        """In a file each element of a list is an entry of its own, and a model may learn from thousands of partitions:
        `learnt_from` is one text there."""
        return {**super().__getstate__(), "learnt_from": json.dumps(self.learnt_from)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        kept = state.get("learnt_from")
        super().__setstate__({**state, "learnt_from": json.loads(kept)} if isinstance(kept, str) else state)

    @property
    def features(self) -> list[str]:
        """Columns that rows need."""
        return list(self.prepare.features)

    @property
    def prepared_names(self) -> list[str]:
        """Names of the matrix's columns."""
        return self._kept_of(self.prepare.names_)

    @property
    def prepared_origin(self) -> list[str]:
        """The feature that each of the matrix's columns comes from."""
        return self._kept_of(self.prepare.origin_)

    def matrix(self, rows: Any) -> np.ndarray:
        """What the estimator sees of the rows, float32, shape (n, d). A heuristic and an ensemble, whose parts prepare
        for themselves, see the rows; of these it is the features in native encoding."""
        matrix = self.prepare.transform(rows)
        return matrix if self.kept is None else matrix[:, self.kept]

    def raw_scores(self, rows: Any) -> np.ndarray:
        """Scores before calibration."""
        if getattr(self.estimator, "takes_rows", False):
            return np.asarray(self.estimator.scores(rows), dtype=np.float64)
        return scores_of(self.estimator, self.matrix(rows), self.task, len(self.classes))

    def scores(self, rows: Any) -> np.ndarray:
        raw = self.raw_scores(rows)
        return raw if self.calibration is None else np.asarray(self.calibration.transform(raw))

    def decide(self, scores: np.ndarray) -> np.ndarray:
        """What is decided on these scores: class codes, int64 (n,); of a regression the scores themselves.

        Of several classes the likeliest, or, where there are costs, the one whose expected cost is least; the first
        of several that are equal.

        >>> model = Model("multiclass", ["a", "b"], None, None, None, costs=[[0, 1], [9, 0]])
        >>> model.decide(np.array([[0.8, 0.2], [0.95, 0.05]])).tolist()
        [1, 0]
        """
        if self.task == "regression":
            return np.asarray(scores, dtype=np.float64)
        if self.task == "binary":
            return (np.asarray(scores) >= self.threshold).astype(np.int64)
        if self.costs is None:
            return np.asarray(np.argmax(scores, axis=1), dtype=np.int64)
        expected = np.asarray(scores) @ np.asarray(self.costs, dtype=np.float64)
        return np.asarray(np.argmin(expected, axis=1), dtype=np.int64)

    def predict_proba(self, rows: Any) -> np.ndarray:
        """Probabilities of the classes, float64, shape (n, k).

        Raises:
            DataError: a regression has none.
        """
        if self.task == "regression":
            raise DataError("a regression gives values, not probabilities", where="model", cure="use predict")
        scores = self.scores(rows)
        return np.column_stack([1 - scores, scores]) if self.task == "binary" else scores

    def predict(self, rows: Any) -> np.ndarray:
        """Names of the decided classes; of a regression the values."""
        decided = self.decide(self.scores(rows))
        return decided if self.task == "regression" else np.asarray(self.classes, dtype=object)[decided]

    def unseen(self, rows: Any) -> dict[str, int]:
        """Rows, by feature, with a category that training did not see; features without such rows are left out."""
        return {name: count for name, count in self.prepare.unseen(rows).items() if count}

    def _kept_of(self, values: list[str]) -> list[str]:
        return list(values) if self.kept is None else [values[column] for column in self.kept]
