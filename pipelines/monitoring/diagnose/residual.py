"""residual: what labels leave for each feature to learn, over the champion's own scores, out of fold by blocks.

A score test (Rao 1948) for varying coefficients (Hastie and Tibshirani, Varying-coefficient models, 1993): in each bin
of a feature the margin may have a shift and a slope of its own. Each block (a day) keeps a free intercept, and all rows
one free slope: a changed level is label shift or calibration drift, and scores that tell less than they did tell less
in every feature; neither says which one changed. What one block learns counts on the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipelines.metrics.metric_sums import ratio, sides
from pipelines.metrics.scored import Scored
from pipelines.profiles.column import finite, is_number
from pipelines.training.calibrate import logit, sigmoid

Array = NDArray[Any]

BINS = 8  # of a number, with about as many rows each
KEPT, FEWEST_ROWS = 30, 50  # categories with a bin of their own, and the rows each needs
FOLDS = 10  # of rows, where blocks are too few or too small
BLOCK_ROWS = 30  # on average, for a block to have an intercept of its own
PRIOR = 20.0  # information that a coefficient of 0 counts for: about 100 rows in which a third is positive
LEAST_LOSS = 1e-3  # a row, in nats: below it the gain of a perfect score would be a ratio of roundings
STEPS = 50


class Cut(NamedTuple):
    """Bins of one feature: of a number `edges`, of anything else the categories `kept`; missing ones have the last."""

    name: str
    edges: Array | None
    kept: tuple[str, ...]

    @property
    def size(self) -> int:
        return len(self.kept) + 2 if self.edges is None else len(self.edges) + 2

    def codes(self, rows: pa.Table) -> Array:
        """Bin (n,) of each row."""
        column = rows[self.name]
        if self.edges is None:
            text = column.cast(pa.string())
            places = pc.index_in(text, value_set=pa.array(self.kept, pa.string())).fill_null(len(self.kept))
            codes: Array = pc.if_else(text.is_null(), len(self.kept) + 1, places).to_numpy()
            return codes
        values = column.cast(pa.float64(), safe=False).to_numpy()
        return np.where(np.isfinite(values), np.searchsorted(self.edges, values), len(self.edges) + 1)

    def label(self, code: int) -> str:
        """The rows of a bin, such as `carrier=EV` or `temp in (40, 50]`."""
        if code == self.size - 1:
            return f"{self.name} missing"
        if self.edges is None:
            return f"{self.name}={self.kept[code] if code < len(self.kept) else '(other)'}"
        ends = np.concatenate([[-np.inf], self.edges, [np.inf]])
        return f"{self.name} in ({ends[code]:g}, {ends[code + 1]:g}]"


class Residual(NamedTuple):
    """Of some labelled rows."""

    sums: dict[str, Array]
    """By feature (2, folds, bases, bins): scores and information of each coefficient."""
    loss: float
    """Of the scores with free intercepts and slope, to which gains are compared."""
    squares: dict[str, Array]
    """Of a regression, by feature (2, bins): squared errors, with free intercepts and slope, and the rows' weight."""


def cut(rows: pa.Table, names: Sequence[str]) -> dict[str, Cut]:
    """Bins of each feature that has more than one in these rows."""
    cuts = {name: _cut(name, rows[name]) for name in names}
    return {name: bins for name, bins in cuts.items() if len(np.unique(bins.codes(rows))) > 1}


def _cut(name: str, column: pa.ChunkedArray) -> Cut:
    if is_number(column.type):
        values = finite(column)
        inner = np.quantile(values, np.arange(1, BINS) / BINS, method="inverted_cdf") if len(values) else values
        return Cut(name, np.unique(inner), ())
    counts = pc.value_counts(column.cast(pa.string()).drop_null())
    ranked = pa.table({"name": counts.field("values"), "rows": counts.field("counts")})
    ranked = ranked.filter(pc.greater_equal(ranked["rows"], FEWEST_ROWS))
    ranked = ranked.sort_by([("rows", "descending"), ("name", "ascending")])
    return Cut(name, None, tuple(ranked["name"].to_pylist()[:KEPT]))


def residual(cuts: dict[str, Cut], rows: pa.Table, truth: Scored, blocks: Array, scale: float) -> Residual:
    """Sums of scored rows with labels, in their order; of several classes each against the rest.

    `scale` is a regression's unit: the standard deviation of its held-out errors. Blocks that are fewer than two, or
    have fewer than 30 rows on average, share an intercept, and rows are folded in their stead.
    """
    unit, fold = _folds(blocks)
    weights = truth.weights / max(float(truth.weights.mean()), np.finfo(float).tiny)
    parts = [_bases(truth.task, *side, weights, unit, scale) for side in _sides(truth)]
    count, sums, squares = int(fold.max(initial=-1)) + 1, {}, {}
    for name, bins in cuts.items():
        codes = bins.codes(rows)
        if truth.task == "regression":
            squares[name] = np.stack(
                [np.bincount(codes, of, bins.size) for of in (weights * parts[0].error ** 2, weights)]
            )
        cells = fold * bins.size + codes
        pairs = [pair for part in parts for pair in part.pairs]
        counted = [[np.bincount(cells, values, count * bins.size) for values in column] for column in zip(*pairs)]  # noqa: B905
        sums[name] = np.array(counted).reshape(2, len(pairs), count, bins.size).swapaxes(1, 2)
    return Residual(sums, max(sum(part.loss for part in parts), LEAST_LOSS * float(weights.sum())), squares)


def errors(truth: Scored, blocks: Array) -> Array:
    """Label less what was expected of it, (n,) or of several classes (n, k), with free intercepts and slope."""
    unit, _ = _folds(blocks)
    by_class = [_bases(truth.task, *side, np.ones(len(unit)), unit, 1.0).error for side in _sides(truth)]
    stacked: Array = np.stack(by_class, axis=1)
    return stacked[:, 0] if len(by_class) == 1 else stacked


class _Bases(NamedTuple):
    pairs: list[tuple[Array, Array]]  # of each coefficient score and information, (n,) both
    loss: float
    error: Array


def _sides(truth: Scored) -> list[tuple[Array, Array]]:
    if truth.task == "regression":
        return [(truth.scores, truth.labels)]
    return [(logit(scores), is_positive.astype(np.float64)) for scores, is_positive in sides(truth)]


def _bases(task: str, margin: Array, label: Array, weights: Array, unit: Array, scale: float) -> _Bases:
    if task == "regression":
        error, margin, information = (label - margin) / scale, margin / scale, weights
        error = error - _mean(error, weights, unit)
        apart = margin - _mean(margin, weights, unit)
        error = error - apart * float((weights * error * apart).sum() / ((weights * apart**2).sum() + PRIOR))
        loss = float((weights * error**2).sum()) / 2
    else:
        level = _refitted(margin, label, weights, unit)
        chance = sigmoid(level)
        error, information = label - chance, weights * chance * (1 - chance)
        loss = float((weights * (np.logaddexp(0, level) - label * level)).sum())
    away = margin - _mean(margin, information, unit)
    gradient = weights * error
    return _Bases([(gradient, information), (gradient * away, information * away**2)], loss, error)


def _mean(values: Array, weights: Array, unit: Array) -> Array:
    mean: Array = np.nan_to_num(ratio(np.bincount(unit, weights * values), np.bincount(unit, weights)))[unit]
    return mean


def _refitted(margin: Array, label: Array, weights: Array, unit: Array) -> Array:
    """The margin (n,) with an intercept for each unit and one slope, which is drawn to 1, by maximum likelihood.

    Damped Newton; a unit with one class alone stops far out, where it tells nothing.
    """
    shift, slope = np.zeros(int(unit.max(initial=-1)) + 1), 1.0
    for _ in range(STEPS):
        chance = sigmoid(shift[unit] + slope * margin)
        gradient, information = weights * (label - chance), weights * chance * (1 - chance)
        total = np.bincount(unit, information) + 1e-3
        centre = np.bincount(unit, information * margin) / total
        away = margin - centre[unit]
        turn = ((gradient * away).sum() - PRIOR * (slope - 1)) / ((information * away**2).sum() + PRIOR)
        turn = float(np.clip(turn, -1, 1))
        step = np.clip((np.bincount(unit, gradient) - 1e-3 * shift) / total, -1, 1) - centre * turn
        shift, slope = shift + step, slope + turn
        if max(float(np.abs(step).max(initial=0)), abs(turn)) < 1e-6:
            break
    refitted: Array = shift[unit] + slope * margin
    return refitted


def _folds(blocks: Array) -> tuple[Array, Array]:
    """Unit of the intercept and fold, (n,) each."""
    names, place = np.unique(blocks, return_inverse=True)
    if 2 <= len(names) <= len(blocks) / BLOCK_ROWS:
        return place, place
    return np.zeros(len(blocks), np.int64), np.arange(len(blocks)) % FOLDS


def pooled(parts: Sequence[Residual]) -> Residual:
    """Of all rows of the parts, whose folds stay apart; the parts must be on the same cuts."""
    names = parts[0].sums
    return Residual(
        {name: np.concatenate([part.sums[name] for part in parts], axis=1) for name in names},
        sum(part.loss for part in parts),
        {name: np.sum([part.squares[name] for part in parts], axis=0) for name in parts[0].squares},
    )


def totals(part: Residual) -> dict[str, Array]:
    """By feature (2, bases, bins): sums over the folds."""
    return {name: sums.sum(axis=1) for name, sums in part.sums.items()}


def gained(sums: Array, usual: Array) -> Array:
    """Log likelihood that each coefficient gains out of fold, (folds, bases, bins), over what is usual of it.

    sums: (2, folds, bases, bins). usual: (2, bases, bins), sums over rows of the past: what they would have corrected
    is corrected already. Each fold's correction is learnt on the others, drawn to 0 by PRIOR.
    """
    score, information = sums
    corrected = usual[0] / (usual[1] + PRIOR)
    score = score - information * _centred(np.broadcast_to(corrected, score.shape), information)
    learnt = (score.sum(axis=0) - score) / (information.sum(axis=0) - information + PRIOR)
    learnt = _centred(learnt, information)
    gain: Array = score * learnt - information * learnt**2 / 2
    return gain


def _centred(coefficients: Array, information: Array) -> Array:
    """A shift common to all bins is the intercept's: it is taken out of every other basis, fold by fold."""
    centred = coefficients.copy()
    shift, weight = centred[:, ::2], information[:, ::2]
    shift -= np.nan_to_num(ratio((weight * shift).sum(axis=-1), weight.sum(axis=-1)))[..., None]
    return centred
