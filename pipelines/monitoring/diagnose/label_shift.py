"""label_shift: how frequent each class is in a partition without labels, if each class still looks as it did.

Black-box shift estimation in its soft form (Lipton, Wang and Smola, Detecting and correcting for label shift with black
box predictors, 2018): the mean scores of a partition are a mixture of the mean scores that held-out rows of each class
got, and the shares of the mixture are the classes' rates. It holds where only the rates move (p(x|y) stays), whatever
the calibration of the scores.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.config import Bootstrap
from pipelines.documents.measures import Interval
from pipelines.metrics.bootstrap import drawn_blocks, draws, interval
from pipelines.metrics.metric_sums import ratio
from pipelines.metrics.scored import Scored
from pipelines.monitoring.estimate.label_chance import LabelChance
from pipelines.profiles.column import Frozen

Array = NDArray[Any]

WIDEST = 0.5  # of an interval, before it is cut off at 0 and 1: one that leaves half of all rates open says nothing
LEAST_APART = 1e-6  # smallest singular value of the classes' mean scores, and of those of its resamples


class ClassRate(Frozen):
    """Rate of a class, estimated, with its interval; None where that is not defined."""

    value: float
    low: float | None
    high: float | None
    usual: float
    """Among held-out rows."""

    @property
    def beyond(self) -> float:
        """By how much the usual rate lies outside of the interval; below 0: inside."""
        if self.low is None or self.high is None:
            return -np.inf
        return max(self.low - self.usual, self.usual - self.high)


class LabelShift(Frozen):
    """Rate of each class among a partition's rows, before its labels come."""

    rates: dict[str, ClassRate]
    rows: int
    condition: float | None
    """Smallest singular value of the classes' mean scores: 1 where scores are certain and right, 0 where they cannot
    tell some classes apart."""
    why_not: str | None
    """Why the rates are not to be used; None: nothing speaks against them."""
    note: str


def label_shift(
    held_out: Scored,
    blocks: Array,
    scores: Array,
    its_blocks: Array,
    rule: Bootstrap,
    domain_low: float | None,
    chance: LabelChance | None = None,
) -> LabelShift:
    """Rate of each class among the partition's rows, estimated.

    Args:
        held_out: labelled rows that the same model scored and never learnt from; their weights count.
        blocks: (n,) block of each of them, such as its day.
        scores: (m,) of the rows without labels, or (m, k) of several classes.
        its_blocks: (m,) their blocks.
        chance: of each of those rows to get a label, as all held-out ones did: the rates are of rows with a label.
            None: all rows get one.
        domain_low: lower end of how well the partition's inputs are told from the held-out ones (AUC); None: unknown.

    The interval resamples blocks of both sides. Where rates alone move, by a total variation of t, the inputs'
    distributions differ by t at most, and no classifier tells the sides apart with an AUC above 1 - (1 - t)^2 / 2;
    inputs that are told apart better have moved otherwise (`why_not`). Rates are given all the same.

    Method: on the default problem's test rows, drawn to other rates, maximum likelihood (Saerens, Latinne and
    Decaestecker 2002, on calibrated scores as in Alexandari, Kundaje and Shrikumar 2020) was off by .037 on average,
    this by .039: so the one whose resamples are sums.
    """
    classes = len(held_out.classes)
    used = held_out.weights > 0
    tested = held_out.take(used)
    if tested.task == "regression":
        return _unknown(scores, "a regression has no classes")
    if not len(scores):
        return _unknown(scores, "there are no rows")
    if (np.bincount(tested.labels, minlength=classes) == 0).any():
        return _unknown(scores, "held-out rows of some class are missing")
    drawn, partition_drawn = drawn_blocks(blocks[used]), drawn_blocks(its_blocks)
    count, partition_count = int(drawn.max()) + 1, int(partition_drawn.max()) + 1
    sums = _class_sums(tested, drawn, count)
    its_weights = np.ones(len(scores)) if chance is None else chance.values
    its_sums = _sums(_columns(scores), its_weights, partition_drawn, partition_count)
    usual = ratio(np.bincount(tested.labels, tested.weights, classes), np.full(classes, tested.weights.sum()))
    value, condition = _mixture(sums.sum(axis=0)[None], its_sums.sum(axis=0)[None])
    resampled: Array = np.full((rule.resamples, classes), np.nan)
    if count > 1 and partition_count > 1:
        other = rule.model_copy(update={"seed": rule.seed + 1})  # the two sides are drawn independently
        ours = np.concatenate([times @ sums.reshape(count, -1) for times in draws(count, rule)])
        theirs = _resampled(_columns(scores), partition_drawn, its_sums, draws(partition_count, other), rule, chance)
        resampled, _ = _mixture(ours.reshape(-1, *sums.shape[1:]), theirs)
    blocks_drawn = min(count, partition_count)
    rates = [interval(float(value[0, code]), resampled[:, code], blocks_drawn, rule) for code in range(classes)]
    is_told = bool(np.isfinite(value).all())
    nearest = _on_simplex(value)[0] if is_told else usual
    bound = _best_auc(nearest, usual) if is_told else None
    return LabelShift(
        rates={
            name: _within(rates[code], float(nearest[code]), float(usual[code]))
            for code, name in enumerate(held_out.classes)
            if is_told
        },
        rows=len(scores),
        condition=float(condition[0]),
        why_not=_why_not(rates, bound, domain_low),
        note=_note(bound),
    )


def _unknown(scores: Array, why_not: str) -> LabelShift:
    return LabelShift(rates={}, rows=len(scores), condition=None, why_not=why_not, note=_note(None))


def _within(rate: Interval, nearest: float, usual: float) -> ClassRate:
    """An interval of rates, which are none below 0 or above 1, around the nearest that the classes can have."""
    if rate["low"] is None or rate["high"] is None:
        return ClassRate(value=nearest, low=None, high=None, usual=usual)
    low, high = (float(np.clip(end, 0, 1)) for end in (rate["low"], rate["high"]))
    return ClassRate(value=nearest, low=min(low, nearest), high=max(high, nearest), usual=usual)


def _why_not(rates: list[Interval], bound: float | None, domain_low: float | None) -> str | None:
    ends = [(rate["low"], rate["high"]) for rate in rates if rate["low"] is not None and rate["high"] is not None]
    if bound is None or len(ends) < len(rates):
        return "the scores cannot tell the classes apart"
    if any(high < 0 or low > 1 for low, high in ends):
        return "no mixture of the classes as they were gives such scores"
    widest = max(high - low for low, high in ends)
    if widest > WIDEST:
        return f"the scores cannot tell the classes apart: an interval is {widest:.2f} wide"
    if domain_low is not None and domain_low > bound:
        return (
            f"the inputs moved otherwise: they are told apart with an AUC of {domain_low:.2f} or more, which other "
            f"rates explain up to {bound:.2f}"
        )
    return None


def _note(bound: float | None) -> str:
    note = "estimated, on the assumption that each class looks as it did (label shift alone)"
    return note if bound is None else f"{note}; such rates explain a domain AUC of {bound:.2f} at most"


def _best_auc(rates: Array, usual: Array) -> float:
    """Of any classifier of the two sides, where only the rates differ.

    >>> round(_best_auc(np.array([0.5, 0.5]), np.array([0.7, 0.3])), 3)
    0.68
    """
    moved = float(np.abs(rates - usual).sum()) / 2
    return 1 - (1 - moved) ** 2 / 2


def _columns(scores: Array) -> Array:
    """Probability of each class, (n, k)."""
    return np.column_stack([1 - scores, scores]) if scores.ndim == 1 else scores


def _sums(columns: Array, weights: Array, blocks: Array, count: int) -> Array:
    """(blocks, k) weighted sums of the columns."""
    return np.stack([np.bincount(blocks, weights * column, count) for column in columns.T], axis=1)


def _class_sums(tested: Scored, blocks: Array, count: int) -> Array:
    """(blocks, classes, k): weighted sums of the scores of each class's rows."""
    columns = _columns(tested.scores)
    return np.stack(
        [
            _sums(columns, tested.weights * (tested.labels == code), blocks, count)
            for code in range(len(tested.classes))
        ],
        axis=1,
    )


def _resampled(
    columns: Array, blocks: Array, sums: Array, drawn: Iterator[Array], rule: Bootstrap, chance: LabelChance | None
) -> Array:
    """(resamples, k): sums of the columns over drawn blocks; where some rows get no label, of those drawn to."""
    if chance is None:
        return np.concatenate([times @ sums for times in drawn])
    random = np.random.default_rng(rule.seed + 3)
    chances = chance.draws(rule)
    resampled = []
    for times in drawn:
        for each, own in zip(times, chances, strict=False):
            gets_label = random.random(len(own)) < own
            resampled.append((each[blocks] * gets_label) @ columns)
    return np.stack(resampled)


def _mixture(sums: Array, its_sums: Array) -> tuple[Array, Array]:
    """Shares (draws, classes), which add up to 1 but may be below 0, and the smallest singular values; NaN where a
    class is missing or classes score alike."""
    means = ratio(sums, sums.sum(axis=-1, keepdims=True))
    wanted = ratio(its_sums, its_sums.sum(axis=-1, keepdims=True))
    is_whole = np.asarray(np.isfinite(means).all(axis=(1, 2)) & np.isfinite(wanted).all(axis=1))
    means = np.where(is_whole[:, None, None], means, 0.0)
    smallest = np.linalg.svd(means, compute_uv=False)[:, -1]
    is_told = is_whole & (smallest > LEAST_APART)
    rates = np.full(wanted.shape, np.nan)
    if is_told.any():
        solved = np.linalg.solve(np.swapaxes(means[is_told], 1, 2), wanted[is_told][..., None])[..., 0]
        rates[is_told] = solved
    return rates, smallest


def _on_simplex(rates: Array) -> Array:
    """The nearest rates that are none below 0 and add up to 1 (Duchi et al. 2008)."""
    ranked = -np.sort(-rates, axis=1)
    over = (np.cumsum(ranked, axis=1) - 1) / np.arange(1, rates.shape[1] + 1)
    last = (ranked > over).sum(axis=1) - 1
    nearest: Array = np.maximum(rates - np.take_along_axis(over, last[:, None], axis=1), 0.0)
    return nearest
