"""What do a model's scores depend on? The mean size of each feature's SHAP values (Lundberg and Lee 2017)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipelines.documents.evaluation import Importance

if TYPE_CHECKING:
    from pipelines.problem import Problem
    from pipelines.training.model import Model

Array = NDArray[Any]
SAMPLED_ROWS = 200
EXPLAINED_LEAVES = 50_000_000  # of all trees, counted once a row: five CPU seconds
PERMUTATIONS = 20  # of the features, for each sampled row; each one's reverse as well
SCORED_ROWS = 200_000  # at most, for all rows and permutations together
BATCH_ROWS = 50_000


def importances(problem: Problem, model: Model, rows: pa.Table) -> list[Importance]:
    """The most important feature first; none of a model that looks at nothing.

    `importance` is the mean absolute SHAP value of the feature, that is of all prepared columns that come from it
    together; of several classes the sum over them. Shares add up to 1; where no score depends on anything they are 0.

    method: "xgboost", exact values of the margin (log-odds; of a regression the value); "linear", exact as well,
    coef * (x - mean), on the same scale; "sampling", for all other models, an estimate on at most 200 rows, of the
    scores themselves. So importances of two methods cannot be compared, but shares roughly can.
    """
    if not rows.num_rows:
        return []
    seed = problem.evaluation.bootstrap.seed
    rows = rows.take(_drawn(rows, problem.evaluation.importance_rows, seed))
    method, _, values = shapley_values(model, rows, seed)
    return _listed(model.features, _sizes(values), method) if method != "none" else []


def shapley_values(model: Model, rows: pa.Table, seed: int) -> tuple[str, Array, Array]:
    """Method, places of the rows explained, and their Shapley values by feature, (rows, features), of several classes
    (rows, classes, features).

    By the method "sampling" at most 200 rows are explained; of a large boosted model fewer than all, at least 200;
    "none", of a model that looks at nothing: all are 0.
    """
    from sklearn.linear_model import LogisticRegression, Ridge

    from pipelines.training.boost import BoostedTrees
    from pipelines.training.estimators import Prior, Random

    rows, everywhere = rows.select(model.features), np.arange(rows.num_rows)
    if isinstance(model.estimator, (Prior, Random)):
        classes = (len(model.classes),) if model.task == "multiclass" else ()
        return "none", everywhere, np.zeros((rows.num_rows, *classes, len(model.features)))
    if isinstance(model.estimator, BoostedTrees):
        places = _drawn(rows, max(EXPLAINED_LEAVES // model.estimator.leaves, SAMPLED_ROWS), seed)
        values = model.estimator.contributions(model.matrix(rows.take(pa.array(places)))).astype(np.float64)
        return "xgboost", places, _by_feature(values, model.prepared_origin, model.features)
    if isinstance(model.estimator, (LogisticRegression, Ridge)):
        values = _linear(model, model.matrix(rows).astype(np.float64))
        return "linear", everywhere, _by_feature(values, model.prepared_origin, model.features)
    return "sampling", _drawn(rows, SAMPLED_ROWS, seed), sampled_values(model, rows, seed)


def sampled_values(model: Model, rows: pa.Table, seed: int) -> Array:
    """Shapley values of the scores, estimated, shape (rows, features), or (rows, classes, features) of several classes.

    Štrumbelj and Kononenko, Explaining prediction models and individual predictions with feature contributions (2014):
    a row turns into another one, feature by feature in an order drawn at random, and each feature is owed what its turn
    changed. Every order is gone through backwards, too, which halves the noise. What a row's values add up to is its
    score less the mean score of the rows it turned from. At most 200 rows are explained, all of which are turned from.
    """
    random = np.random.default_rng(seed)
    rows = rows.take(_drawn(rows, SAMPLED_ROWS, seed))
    features, count = model.features, rows.num_rows
    steps = len(features) + 1
    rounds = max(1, min(PERMUTATIONS, SCORED_ROWS // (2 * count * steps)))
    turns = random.permuted(np.tile(np.arange(len(features)), (rounds * count, 1)), axis=1)
    other = random.integers(count, size=rounds * count)
    which = np.tile(np.arange(count), rounds)
    values = _turned(model, rows, which, other, turns) + _turned(model, rows, which, other, turns[:, ::-1])
    return np.asarray(values.reshape(rounds, count, *values.shape[1:]).mean(axis=0) / 2)


def _turned(model: Model, rows: pa.Table, which: Array, other: Array, turns: Array) -> Array:
    """What each feature's turn changes as the rows `other` become the rows `which`, features in the order `turns`."""
    size = turns.shape[1]
    at = np.argsort(turns, axis=1)  # when each feature has its turn
    parts = []
    step = max(1, BATCH_ROWS // (size + 1))
    for start in range(0, len(which), step):
        here = slice(start, start + step)
        has_turned = at[here, None, :] < np.arange(size + 1)[None, :, None]  # (turning, steps, features)
        source = np.where(has_turned, which[here, None, None], other[here, None, None]).reshape(-1, size)
        mixed = [rows[name].take(pa.array(source[:, place])) for place, name in enumerate(model.features)]
        scores = model.scores(pa.table(mixed, names=model.features))
        parts.append(np.diff(scores.reshape(-1, size + 1, scores[0].size), axis=1))
    gains = np.concatenate(parts)  # (turning, turn, classes)
    values = np.take_along_axis(gains, at[:, :, None], axis=1)
    return values[:, :, 0] if values.shape[2] == 1 else np.moveaxis(values, 1, 2)


def _linear(model: Model, matrix: Array) -> Array:
    """coef * (x - mean): the exact Shapley values of a linear model whose features are taken as independent."""
    away = matrix - matrix.mean(axis=0)
    coef = np.asarray(model.estimator.coef_, dtype=np.float64)
    if coef.ndim == 2 and len(coef) > 1:
        return np.asarray(away[:, None, :] * coef)
    return np.asarray(away * coef.reshape(-1))


def _by_feature(values: Array, origin: list[str], features: list[str]) -> Array:
    """(..., columns) -> (..., features): what the columns of a feature contribute together."""
    place = {name: at for at, name in enumerate(features)}
    member = np.zeros((len(origin), len(features)))
    member[np.arange(len(origin)), [place[name] for name in origin]] = 1
    return np.asarray(values @ member)


def _sizes(values: Array) -> Array:
    """Mean absolute value of each feature over the rows, summed over the classes."""
    sizes = np.abs(values).mean(axis=0)
    return np.asarray(sizes if sizes.ndim == 1 else sizes.sum(axis=0))


def _listed(features: list[str], sizes: Array, method: str) -> list[Importance]:
    total = float(sizes.sum())
    return [
        {
            "feature": features[at],
            "importance": float(sizes[at]),
            "share": float(sizes[at]) / total if total else 0.0,
            "method": method,
        }
        for at in np.argsort(-sizes, kind="stable").tolist()
    ]


def _drawn(rows: pa.Table, most: int, seed: int) -> Array:
    """Places of at most so many rows, drawn without replacement, in their order."""
    if rows.num_rows <= most:
        return np.arange(rows.num_rows)
    return np.sort(np.random.default_rng(seed).choice(rows.num_rows, most, replace=False, shuffle=False))
