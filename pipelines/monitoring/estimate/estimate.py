"""estimate: how good a partition's scores are likely to be, before anyone knows the labels.

Confidence-based performance estimation (CBPE: NannyML; Guillory et al., Predicting with confidence on unseen
distributions, 2021; Garg et al., Leveraging unlabeled data to predict out-of-distribution performance, 2022): held-out
rows tell how often a score comes true, and metrics are then expected over the labels that these chances give.

It holds while only the inputs move (covariate shift). Where the same inputs come to mean something else (concept
drift) the chances are wrong, and with them every number here: only labels tell.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.config import Bootstrap
from pipelines.documents.measures import Interval
from pipelines.metrics.bootstrap import drawn_blocks, interval
from pipelines.metrics.metric_sums import sides
from pipelines.metrics.metrics import METRICS, names_of, positive_rate
from pipelines.metrics.scored import Scored
from pipelines.monitoring.estimate.label_chance import LabelChance
from pipelines.monitoring.estimate.score_curves import Curves, Placed, fit_curves
from pipelines.training.calibrate import sigmoid

Array = NDArray[Any]
Metric = Callable[[Scored], float | None]


def metrics_of(rows: Scored) -> dict[str, Metric]:
    """What is estimated, and measured once there are labels: the task's metrics, and the positive rate if binary.

    The calibration error is left out: noise alone makes it positive, so what is expected is never what is measured.
    """
    chosen: dict[str, Metric] = {name: METRICS[name].function for name in names_of(rows) if name != "ece"}
    if rows.task == "binary":
        chosen["positive_rate"] = lambda scored: positive_rate(scored.labels, scored.scores, scored.weights)
    return chosen


def estimate(
    held_out: Scored,
    blocks: Array,
    scores: Array,
    its_blocks: Array,
    rule: Bootstrap,
    chance: LabelChance | None = None,
) -> dict[str, Interval]:
    """Expected metrics of rows without labels, each with the interval that the realised one is expected in.

    Args:
        held_out: labelled rows that the same model scored and never learnt from; their weights count.
        blocks: (n,) block of each of them, such as its day.
        scores: (m,) of the rows without labels, or (m, k) of several classes.
        its_blocks: (m,) their blocks.
        chance: of each of those rows to get a label: what is expected is of the rows that will. None: all do.

    The interval has three parts, all drawn `rule.resamples` times: held-out rows tell the chances only so well (their
    blocks are resampled), each block has an error of its own in all its rows (as far as the held-out ones do), and
    labels are drawn from the chances; where some rows get none, which do is drawn too. A metric is left out where it is
    not defined, or its interval is not.
    """
    used = held_out.weights > 0
    count = int(drawn_blocks(blocks[used]).max(initial=-1)) + 1
    if not len(scores) or count < 2:
        return {}
    curves = [fit_curves(*side, held_out.weights, blocks, rule) for side in sides(held_out)]
    unlabelled = replace(
        held_out,
        labels=np.zeros(len(scores), np.int64),
        scores=scores,
        weights=np.ones(len(scores)) if chance is None else chance.values,
    )
    wanted = metrics_of(unlabelled)
    placed = [fitted.placed(side[0]) for fitted, side in zip(curves, sides(unlabelled), strict=True)]
    expected = _expected(unlabelled, _chances(curves, placed, 0))
    drawn = _drawn(unlabelled, curves, placed, its_blocks, wanted, rule, chance)
    intervals = {name: interval(metric(expected), drawn[name], count, rule) for name, metric in wanted.items()}
    return {name: ends for name, ends in intervals.items() if ends["value"] is not None and ends["low"] is not None}


def _expected(unlabelled: Scored, chances: Array) -> Scored:
    """Each row once with every label, weighted by its chance: metrics of these are those expected."""
    rows, classes = chances.shape
    return replace(
        unlabelled,
        labels=np.repeat(np.arange(classes), rows),
        scores=np.concatenate([unlabelled.scores] * classes),
        weights=(chances.T * unlabelled.weights).ravel(),
    )


def _drawn(
    unlabelled: Scored,
    curves: list[Curves],
    placed: list[Placed],
    blocks: Array,
    wanted: dict[str, Metric],
    rule: Bootstrap,
    chance: LabelChance | None,
) -> dict[str, Array]:
    """Each metric on labels drawn `rule.resamples` times, NaN where it is not defined."""
    random = np.random.default_rng(rule.seed)
    _, place = np.unique(blocks, return_inverse=True)
    count = int(place.max()) + 1
    values = {name: np.full(rule.resamples, np.nan) for name in wanted}
    own = None if chance is None else chance.draws(rule)
    for turn in range(rule.resamples):
        shifts = np.stack([random.normal(0, curve.spread, count) for curve in curves], axis=1)[place]
        chances = _chances(curves, placed, turn + 1, shifts)
        dice = random.random((len(chances), 1))
        labels = (np.cumsum(chances, axis=1)[:, :-1] < dice).sum(axis=1)
        drawn = replace(unlabelled, labels=labels)
        if own is not None:
            gets_label = random.random(len(labels)) < next(own)
            drawn = replace(drawn, weights=gets_label.astype(np.float64))
        for name, metric in wanted.items():
            value = metric(drawn)
            values[name][turn] = np.nan if value is None else value
    return values


def _chances(curves: list[Curves], placed: list[Placed], curve: int, shifts: Array | float = 0.0) -> Array:
    """Chance of each label, (m, classes), adding up to 1; of several classes one against the rest each (Zadrozny and
    Elkan, 2002)."""
    margins = np.stack([fitted.margins(of, curve) for fitted, of in zip(curves, placed, strict=True)], axis=1)
    chances = sigmoid(margins + shifts)
    if len(curves) == 1:
        return np.concatenate([1 - chances, chances], axis=1)
    normed: Array = chances / chances.sum(axis=1, keepdims=True)
    return normed
