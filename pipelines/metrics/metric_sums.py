"""Metrics as functions of sums over rows, so that a resample of blocks costs a product and no pass over the rows.

`Additive` metrics come from sums of (m) values per row; `Ranked` ones from the weight of positives and negatives at
each score, lowest first. Both take leading axes: (..., m) sums give (...) values, NaN where the metric is not defined.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipelines.config import Loss
from pipelines.metrics.scored import Scored

Array = NDArray[Any]


class Additive(NamedTuple):
    sums: Callable[[Scored, Array, int], Array]  # rows, block of each row (n,), blocks -> (blocks, m)
    combine: Callable[[Array, Scored], Array]


class Ranked(NamedTuple):
    combine: Callable[[Array, Array], Array]  # positives (..., scores), negatives (..., scores)


def ratio(over: Array, under: Array) -> Array:
    """Quotient, NaN where there is nothing to divide by."""
    over, under = np.broadcast_arrays(np.asarray(over, np.float64), np.asarray(under, np.float64))
    quotient: Array = np.divide(over, under, out=np.full(over.shape, np.nan), where=under != 0)
    return quotient


def equal_mass(values: Array, mass: Array, bins: int) -> Array:
    """Bin (n,) of each value: consecutive bins of about the same mass, equal values in the same one.

    Where there are no more distinct values than bins, each has its own.

    >>> equal_mass(np.array([0.1, 0.9, 0.5, 0.1]), np.ones(4), 2)
    array([0, 1, 1, 0])
    """
    distinct, place = np.unique(values, return_inverse=True)
    if len(distinct) <= bins:
        return place
    each = np.bincount(place, mass, len(distinct))
    middle = ratio(np.cumsum(each) - each / 2, each.sum())
    codes: Array = np.clip(np.nan_to_num(middle * bins), 0, bins - 1).astype(np.int64)[place]
    return codes


def area_under_roc(positives: Array, negatives: Array) -> Array:
    """How often a positive outranks a negative, ties counting half (Fawcett 2006)."""
    below = np.cumsum(negatives, axis=-1) - negatives / 2
    return ratio((positives * below).sum(axis=-1), positives.sum(axis=-1) * negatives.sum(axis=-1))


def mean_precision(positives: Array, negatives: Array) -> Array:
    """Precision at each score, weighted by the recall it adds."""
    positives, negatives = positives[..., ::-1], negatives[..., ::-1]
    hits = np.cumsum(positives, axis=-1)
    precision = np.nan_to_num(ratio(hits, hits + np.cumsum(negatives, axis=-1)))
    return ratio((positives * precision).sum(axis=-1), positives.sum(axis=-1))


def log_losses(scored: Scored) -> Array:
    """Negative log-likelihood of each label in nats; 0 and 1 are moved inside by one float64 epsilon."""
    if scored.scores.ndim == 2:
        likelihood = scored.scores[np.arange(len(scored.labels)), scored.labels]
    else:
        likelihood = np.where(scored.labels == 1, scored.scores, 1 - scored.scores)
    epsilon = np.finfo(np.float64).eps
    losses: Array = -np.log(np.clip(likelihood, epsilon, 1 - epsilon))
    return losses


def squares(scored: Scored) -> Array:
    """Squared distance of score and label; of several classes the sum over them (Brier 1950)."""
    if scored.scores.ndim == 1:
        distances: Array = np.square(scored.scores - scored.labels)
    else:
        distances = np.square(scored.scores - np.eye(len(scored.classes))[scored.labels]).sum(axis=1)
    return distances


def distances(scored: Scored) -> Array:
    """Absolute distance of a predicted number and its label."""
    apart: Array = np.abs(scored.scores - scored.labels)
    return apart


def costs(scored: Scored) -> Array:
    """What the decision on each row costs."""
    if scored.task == "regression":
        error = scored.scores - scored.labels
        paid: Array = scored.over * np.maximum(error, 0) + scored.under * np.maximum(-error, 0)
    elif scored.costs is None:
        paid = np.full(len(scored.labels), np.nan)
    else:
        paid = scored.costs[scored.labels, scored.decisions]
    return paid


def confidence(scored: Scored) -> tuple[Array, Array]:
    """Score (n,) that is to be calibrated and whether it came true: of several classes that of the likeliest."""
    if scored.scores.ndim == 2:
        return scored.scores.max(axis=1), scored.scores.argmax(axis=1) == scored.labels
    return scored.scores, scored.labels


def _mean(per_row: Callable[[Scored], Array], finish: Callable[[Array], Array] = np.asarray) -> Additive:
    def sums(scored: Scored, blocks: Array, count: int) -> Array:
        weighted = [scored.weights, scored.weights * per_row(scored)]
        return np.stack([np.bincount(blocks, values, count) for values in weighted], axis=1)

    return Additive(sums, lambda sums_of, _: finish(ratio(sums_of[..., 1], sums_of[..., 0])))


def _decided(combine: Callable[[Array, Array, Array, float], Array]) -> Additive:
    """Of true positives, false positives, false negatives and beta."""

    def sums(scored: Scored, blocks: Array, count: int) -> Array:
        yes, true = scored.decisions == 1, scored.labels == 1
        cells = [yes & true, yes & ~true, ~yes & true]
        return np.stack([np.bincount(blocks, scored.weights * cell, count) for cell in cells], axis=1)

    return Additive(
        sums, lambda sums_of, scored: combine(sums_of[..., 0], sums_of[..., 1], sums_of[..., 2], scored.beta)
    )


def _f_beta(hits: Array, alarms: Array, misses: Array, beta: float) -> Array:
    both = (1 + beta**2) * hits
    return ratio(both, both + alarms + beta**2 * misses)


def _class_sums(scored: Scored, blocks: Array, count: int) -> Array:
    """Weight of the right decisions, of the decisions and of the labels, per class."""
    classes, right = len(scored.classes), scored.weights * (scored.decisions == scored.labels)
    pairs = [(scored.labels, right), (scored.decisions, scored.weights), (scored.labels, scored.weights)]
    tables = [np.bincount(blocks * classes + codes, values, count * classes) for codes, values in pairs]
    return np.stack([table.reshape(count, classes) for table in tables], axis=1).reshape(count, -1)


def _macro_f1(counts: Array, scored: Scored) -> Array:
    """Mean over the classes that occur, in labels or decisions."""
    right, decided, actual = np.moveaxis(counts.reshape(*counts.shape[:-1], 3, -1), -2, 0)
    each = ratio(2 * right, decided + actual)
    return ratio(np.nan_to_num(each).sum(axis=-1), np.isfinite(each).sum(axis=-1))


def _bin_sums(scored: Scored, blocks: Array, count: int) -> Array:
    """Weighted score less outcome, and weight, of each bin; the bins are those of all rows, in every resample."""
    scores, came_true = confidence(scored)
    place = blocks * scored.bins + equal_mass(scores, scored.weights, scored.bins)
    values = [scored.weights * (scores - came_true), scored.weights]
    parts = [np.bincount(place, value, count * scored.bins).reshape(count, -1) for value in values]
    return np.concatenate(parts, axis=1)


def _calibration_error(counts: Array, scored: Scored) -> Array:
    gaps, weights = counts[..., : scored.bins], counts[..., scored.bins :]
    return ratio(np.abs(gaps).sum(axis=-1), weights.sum(axis=-1))


def _square_sums(scored: Scored, blocks: Array, count: int) -> Array:
    """Weight, residuals' squares, labels, labels' squares; labels less their mean: their squares keep their digits."""
    used = scored.weights > 0
    labels, weights = scored.labels[used], scored.weights[used]
    is_constant = not used.any() or labels.min() == labels.max()
    centre = (labels[0] if used.any() else 0.0) if is_constant else np.average(labels, weights=weights)
    centred = scored.labels - centre
    values = [np.ones(len(centred)), np.square(scored.scores - scored.labels), centred, np.square(centred)]
    return np.stack([np.bincount(blocks, scored.weights * value, count) for value in values], axis=1)


def _explained(sums_of: Array, _: Scored) -> Array:
    weight, residual, total, squared = np.moveaxis(sums_of, -1, 0)
    return 1 - ratio(residual, squared - np.nan_to_num(ratio(total * total, weight)))


ADDITIVE: dict[str, Additive] = {
    "log_loss": _mean(log_losses),
    "brier": _mean(squares),
    "ece": Additive(_bin_sums, _calibration_error),
    "accuracy": _mean(lambda scored: scored.decisions == scored.labels),
    "precision": _decided(lambda hits, alarms, misses, beta: ratio(hits, hits + alarms)),
    "recall": _decided(lambda hits, alarms, misses, beta: ratio(hits, hits + misses)),
    "f_beta": _decided(_f_beta),
    "macro_f1": Additive(_class_sums, _macro_f1),
    "rmse": _mean(squares, np.sqrt),
    "mae": _mean(distances),
    "r2": Additive(_square_sums, _explained),
    "bias": _mean(lambda scored: scored.scores - scored.labels),
    "cost": _mean(costs),
}
LOSSES: dict[Loss, Callable[[Scored], Array]] = {
    "log_loss": log_losses,
    "squared_error": squares,
    "absolute_error": distances,
    "cost": costs,
}
"""What a release is decided by, of each row."""
RANKED: dict[str, Ranked] = {"auc": Ranked(area_under_roc), "average_precision": Ranked(mean_precision)}


def sides(scored: Scored) -> list[tuple[Array, Array]]:
    """Scores and whether a row is a positive, for the only class that counts or for each against the rest."""
    if scored.scores.ndim == 2:
        return [(scored.scores[:, code], scored.labels == code) for code in range(len(scored.classes))]
    return [(scored.scores, scored.labels == 1)]


def per_score(scores: Array, is_positive: Array, weights: Array) -> tuple[Array, Array]:
    """Weight of the positives and of the negatives at each distinct score, lowest score first."""
    distinct, place = np.unique(scores, return_inverse=True)
    positives = np.bincount(place, weights * is_positive, len(distinct))
    return positives, np.bincount(place, weights * ~is_positive, len(distinct))
