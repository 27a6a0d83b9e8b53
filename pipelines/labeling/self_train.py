"""self_train: a model labels what it is sure of, and learns from that (Yarowsky 1995; Huyen, ch. 4)."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.config import Augmentation, Calibration, Candidate, Resampling, Threshold
from pipelines.errors import NothingToDo
from pipelines.problem import Problem

UNLABELLED = -1


def self_train(problem: Problem, rows: pa.Table) -> pa.Table:
    """Labels that the model gave to unlabelled rows: key, event_time, label, confidence, in the order of `rows`.

    `rows` hold key, partition, event_time, the features and `label`, null where there is none. scikit-learn's
    SelfTrainingClassifier fits the candidate that labels.self_training names on the labelled rows, takes as labelled
    what it predicts above the threshold, and starts over, until nothing new is sure. The confidence is the probability
    at which the label was taken, before the model had learnt from it. The model cannot know that it is wrong: what it
    is sure of it will be surer of, so such labels are trusted least.

    Raises:
        NothingToDo: the labelled rows are not of both classes yet.
        ConfigError: the candidate's parameters are not its model's.
    """
    from sklearn.base import BaseEstimator, ClassifierMixin
    from sklearn.semi_supervised import SelfTrainingClassifier

    from pipelines.training.fit import fit as fit_candidate

    setting = problem.labels.self_training
    assert setting is not None
    plain, name = _plain(problem), setting.candidate
    label = pc.fill_null(rows["label"].cast(pa.int8()), UNLABELLED).to_numpy().astype(np.int64)
    if len(known := set(np.unique(label)) - {UNLABELLED}) < 2:
        raise NothingToDo(
            f"the labelled events are of {len(known)} of the two classes",
            where=f"{problem.name}, self_train",
            cure="wait for labels of both classes, or ask people (labels.hand)",
        )
    features = rows.drop_columns(["label"])
    taken_at = np.full(rows.num_rows, np.nan)

    class OnRows(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
        """The candidate on rows named by their position: so it is built and fed as in training."""

        def fit(self, X: Any, y: np.ndarray) -> OnRows:
            train = features.take(X[:, 0].astype(np.int64))
            train = train.append_column("label", pa.array(y, pa.int8()))
            train = train.append_column("weight", pa.array(np.ones(len(y))))
            self.classes_ = np.array([0, 1])
            self.model_ = fit_candidate(plain, name, train, train.slice(0, 1))
            return self

        def predict_proba(self, X: Any) -> np.ndarray:
            at = X[:, 0].astype(np.int64)
            positive = self.model_.scores(features.take(at))
            taken_at[at] = np.maximum(positive, 1 - positive)
            return np.stack([1 - positive, positive], axis=1)

    trainer = SelfTrainingClassifier(OnRows(), threshold=setting.threshold, max_iter=setting.max_iterations)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "y contains no unlabeled samples")
        trainer.fit(np.arange(rows.num_rows, dtype=np.float64)[:, None], label)
    positions = np.flatnonzero(trainer.labeled_iter_ > 0)
    return (
        rows.select([problem.key, "event_time"])
        .take(positions)
        .append_column("label", pa.array(trainer.transduction_[positions], pa.int8()))
        .append_column("confidence", pa.array(taken_at[positions]))
    )


def _plain(problem: Problem) -> Problem:
    """The problem with candidates that learn from all rows as they are: none are held out to stop or calibrate by."""

    def plain(candidate: Candidate) -> Candidate:
        parameters = {name: value for name, value in candidate.parameters.items() if name != "early_stopping_rounds"}
        return candidate.model_copy(update={"parameters": parameters, "calibration": None})

    candidates = {name: plain(candidate) for name, candidate in problem.training.candidates.items()}
    training = {"candidates": candidates, "calibration": Calibration(), "threshold": Threshold()}
    dataset = {"resampling": Resampling(), "augmentation": Augmentation()}
    return problem.model_copy(
        update={
            "training": problem.training.model_copy(update=training),
            "dataset": problem.dataset.model_copy(update=dataset),
        }
    )
