"""The models that compete: each one a scikit-learn pipeline from feature rows to probabilities."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from sklearn.pipeline import Pipeline

from pipelines.config import Candidate
from pipelines.errors import ConfigError
from pipelines.problem import Problem
from pipelines.training.encode import FrameEncoder


def fit_candidate(problem: Problem, candidate: Candidate, train: pa.Table, validation: pa.Table) -> Pipeline:
    """A fitted pipeline of `FrameEncoder` and the candidate's model.

    `train` and `validation` hold the features, `label` and `weight`. Validation rows only tell XGBoost when
    to stop; nothing else is learnt from them.

    Raises:
        ConfigError: the candidate's parameters are not its model's.
    """
    encoder = FrameEncoder(problem.feature_names, problem.categorical_features).fit(train)
    x, y, weight = encoder.transform(train), train["label"].to_numpy(), train["weight"].to_numpy()
    try:
        match candidate.model:
            case "prior":
                from sklearn.dummy import DummyClassifier

                model = DummyClassifier(strategy="prior", **candidate.parameters).fit(x, y, sample_weight=weight)
            case "logistic":
                model = _logistic(encoder, candidate.parameters, problem.training.seed)
                model.fit(x, y, model__sample_weight=weight)
            case "xgboost":
                model = _xgboost(encoder, candidate.parameters, problem.training.seed)
                held_out = (encoder.transform(validation), validation["label"].to_numpy())
                model.fit(
                    x,
                    y,
                    sample_weight=weight,
                    eval_set=[held_out],
                    sample_weight_eval_set=[validation["weight"].to_numpy()],
                    verbose=False,
                )
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"{candidate.model} refuses its parameters: {error}",
            where=f"{problem.folder / 'problem.yaml'}, training.candidates",
            cure=f"look up the parameters of {candidate.model}; given: {candidate.parameters}",
        ) from error
    return Pipeline([("encode", encoder), ("model", model)])


def positive_scores(model: Pipeline, rows: pa.Table) -> np.ndarray:
    """Probability of the positive class per row, float64, shape (rows,)."""
    return np.asarray(model.predict_proba(rows)[:, 1], dtype=np.float64)


def _logistic(encoder: FrameEncoder, parameters: dict[str, Any], seed: int) -> Pipeline:
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    is_category = [name in encoder.categories_ for name in encoder.columns]
    prepare = ColumnTransformer([
        ("categories", OneHotEncoder(handle_unknown="ignore", min_frequency=20), np.flatnonzero(is_category).tolist()),
        ("numbers", make_pipeline(SimpleImputer(strategy="median", add_indicator=True), StandardScaler()),
         np.flatnonzero(np.logical_not(is_category)).tolist()),
    ])  # fmt: skip
    return Pipeline([("prepare", prepare), ("model", LogisticRegression(random_state=seed, **parameters))])


def _xgboost(encoder: FrameEncoder, parameters: dict[str, Any], seed: int) -> Any:
    from xgboost import XGBClassifier

    kinds = ["c" if name in encoder.categories_ else "q" for name in encoder.columns]
    return XGBClassifier(
        **{"tree_method": "hist", "eval_metric": "logloss", "n_jobs": 2, "random_state": seed} | parameters,
        enable_categorical=True,
        feature_types=kinds,
    )
