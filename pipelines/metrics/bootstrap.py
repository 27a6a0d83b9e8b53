"""Intervals by resampling whole blocks of rows, and paired gains of one model over another.

Rows of one day share its weather: an interval that takes them as independent is too narrow. So blocks of rows are
drawn with replacement (Künsch 1989; Efron and Tibshirani 1993), here without going through the rows again: what a
metric needs is summed per block once, and each resample is a product with those sums.

An interval is {"value", "low", "high"}: expanded percentiles (Hesterberg 2015), which widen the plain ones, too narrow
for few blocks, and always holding the value itself. It is {"value", None, None} where more than a tenth of the
resamples leave the metric undefined.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipelines.documents.measures import Interval
from pipelines.errors import DataError
from pipelines.metrics.metric_sums import ADDITIVE, RANKED, equal_mass, sides
from pipelines.metrics.metrics import METRICS, goodness, names_of
from pipelines.metrics.scored import Scored

if TYPE_CHECKING:
    from pipelines.config import Bootstrap
    from pipelines.problem import Problem

Array = NDArray[Any]
Values = Callable[[Array], Array]  # draws (resamples, blocks) -> metric (resamples,)

FEWEST_BLOCKS = 5  # fewer tell nothing of how blocks differ: rows are drawn instead
SCORE_BINS = 2_000
CELLS = 4_000_000  # draws that are held at a time
LEAST_DEFINED = 0.9


def blocks_of(problem: Problem, rows: pa.Table) -> Array:
    """Number (n,) of the block that each row belongs to, by `evaluation.bootstrap.block`.

    row: each its own. day: of `event_time`, in the problem's time zone; of deliveries, which have no days, the group
    (dataset.split.group_by) or else the key, as far as the rows have them. partition: of `partition`.
    """
    match problem.evaluation.bootstrap.block:
        case "row":
            return np.arange(rows.num_rows)
        case "partition":
            names = rows["partition"]
        case "day" if problem.partitions.by_delivery:
            named = [name for name in (problem.dataset.split.group_by, problem.key) if name in rows.column_names]
            if not named:
                return np.arange(rows.num_rows)
            names = rows[named[0]]
        case "day":
            zone = problem.partitions.timezone
            names = pc.local_timestamp(rows["event_time"].cast(pa.timestamp("us", zone))).cast(pa.date32(), safe=False)
    codes: Array = pc.dictionary_encode(names.combine_chunks(), null_encoding="encode").indices.to_numpy()
    return codes.astype(np.int64)


def drawn_blocks(blocks: Array) -> Array:
    """What is drawn in fact: the blocks, counted from 0; the rows where there are fewer than 5 blocks.

    >>> drawn_blocks(np.array([7, 7, 9]))
    array([0, 1, 2])
    """
    names, codes = np.unique(blocks, return_inverse=True)
    return codes if len(names) >= FEWEST_BLOCKS else np.arange(len(blocks))


def intervals(scored: Scored, blocks: Array, rule: Bootstrap, metrics: list[str] | None = None) -> dict[str, Interval]:
    """Each metric with its interval; without `metrics`, those that `measure` gives.

    The ranks behind auc and average_precision are exact for up to 2,000 different scores. Beyond, scores are put into
    2,000 bins of equal mass (of positives and of negatives): that moves a resampled AUC by 1/4,000 at the most, and
    what it moves the value itself by is taken out again.

    The calibration error is a sum of distances, to which noise only adds: it lies high, and its interval higher.
    """
    names = names_of(scored) if metrics is None else metrics
    values_of = _resampled([scored], names, blocks, rule)[0]
    count = _count(scored, blocks)
    return {name: interval(METRICS[name].function(scored), values_of[name], count, rule) for name in names}


def gains(
    ours: Scored, theirs: Scored, blocks: Array, rule: Bootstrap, metrics: list[str] | None = None
) -> dict[str, Interval]:
    """How much better `ours` is than `theirs` on the same rows, positive where it is better, whichever way it runs.

    Paired: both are measured on the same resamples, so that what makes some rows hard for everyone cancels out.

    Raises:
        DataError: they are not the same rows in the same order.
    """
    same = (ours.task, ours.classes) == (theirs.task, theirs.classes)
    if not (same and np.array_equal(ours.labels, theirs.labels) and np.array_equal(ours.weights, theirs.weights)):
        raise DataError(
            "two models are compared on different rows",
            where="gains",
            cure="score the same rows in the same order with both; classes, labels and weights have to agree",
        )
    names = names_of(ours) if metrics is None else metrics
    sides = _resampled([ours, theirs], names, blocks, rule)
    count, result = _count(ours, blocks), {}
    for name in names:
        our_value, other = METRICS[name].function(ours), METRICS[name].function(theirs)
        value = None if our_value is None or other is None else float(goodness(name, our_value) - goodness(name, other))
        result[name] = interval(value, goodness(name, sides[0][name]) - goodness(name, sides[1][name]), count, rule)
    return result


def _resampled(models: Sequence[Scored], names: list[str], blocks: Array, rule: Bootstrap) -> list[dict[str, Array]]:
    """Each model's metrics on the same resamples, (resamples,) each."""
    if any(len(blocks) != len(model.labels) for model in models):
        raise DataError(f"{len(blocks)} blocks for other rows", where="bootstrap", cure="give each row its block")
    used = models[0].weights > 0
    drawn = drawn_blocks(blocks[used])
    count = int(drawn.max(initial=-1)) + 1
    if count < 2:
        return [{name: np.full(rule.resamples, np.nan) for name in names} for _ in models]
    with np.errstate(over="ignore", invalid="ignore"):
        plans = [{name: _plan(name, model.take(used), drawn, count) for name in names} for model in models]
        parts = [
            [{name: values(times) for name, values in plan.items()} for plan in plans] for times in draws(count, rule)
        ]
    return [
        {name: np.concatenate([part[position][name] for part in parts]) for name in names}
        for position in range(len(models))
    ]


def draws(count: int, rule: Bootstrap) -> Iterator[Array]:
    """How often each resample draws each block, (some resamples, blocks) at a time."""
    random = np.random.default_rng(rule.seed)
    step = max(1, CELLS // count)
    for start in range(0, rule.resamples, step):
        size = min(step, rule.resamples - start)
        places = random.integers(count, size=(size, count)) + np.arange(size)[:, None] * count
        yield np.bincount(places.ravel(), minlength=size * count).reshape(size, count).astype(np.float64)


def _plan(name: str, scored: Scored, blocks: Array, count: int) -> Values:
    if name in RANKED:
        return _ranked_plan(name, scored, blocks)
    sums = ADDITIVE[name].sums(scored, blocks, count)
    return lambda draws: ADDITIVE[name].combine(draws @ sums, scored)


def _ranked_plan(name: str, scored: Scored, blocks: Array) -> Values:
    histograms = [_histograms(*side, scored.weights, blocks) for side in sides(scored)]

    def binned(draws: Array) -> Array:
        each = [RANKED[name].combine(*histogram(draws)) for histogram in histograms]
        mean: Array = np.mean(each, axis=0)
        return mean

    exact = METRICS[name].function(scored)
    error = 0.0 if exact is None else binned(np.ones((1, int(blocks.max()) + 1)))[0] - exact
    return lambda draws: binned(draws) - error


def _histograms(
    scores: Array, is_positive: Array, weights: Array, blocks: Array
) -> Callable[[Array], tuple[Array, Array]]:
    """Draws (resamples, blocks) -> weight of positives and negatives in each score bin, (resamples, bins)."""
    masses = [weights * is_positive, weights * ~is_positive]
    bins = equal_mass(scores, sum(mass / max(mass.sum(), np.finfo(float).tiny) for mass in masses), SCORE_BINS)
    cells, place = np.unique(blocks * SCORE_BINS + bins, return_inverse=True)
    block, bin_ = np.divmod(cells, SCORE_BINS)
    sums = [np.bincount(place, mass, len(cells)) for mass in masses]
    size = int(bins.max()) + 1

    def draw(draws: Array) -> tuple[Array, Array]:
        positives, negatives = (
            np.stack([np.bincount(bin_, row[block] * mass, size) for row in draws]) for mass in sums
        )
        return positives, negatives

    return draw


def _count(scored: Scored, blocks: Array) -> int:
    return int(drawn_blocks(blocks[scored.weights > 0]).max(initial=-1)) + 1


def interval(value: float | None, resampled: Array, count: int, rule: Bootstrap) -> Interval:
    """The interval around `value` of which resamples of `count` blocks gave `resampled`, NaN where undefined."""
    defined = resampled[np.isfinite(resampled)]
    if value is None or len(defined) < LEAST_DEFINED * len(resampled):
        return {"value": value, "low": None, "high": None}
    tail = _tail(count, rule.confidence)
    low, high = np.quantile(defined, [tail, 1 - tail])
    return {"value": value, "low": min(float(low), value), "high": max(float(high), value)}


def _tail(count: int, confidence: float) -> float:
    """Share of the resamples below an interval of `count` blocks: as wide as Student's t and the unbiased variance.

    >>> round(_tail(10_000, 0.95), 4), round(_tail(14, 0.95), 4)
    (0.025, 0.0125)
    """
    from scipy.special import ndtr, stdtrit

    t = stdtrit(count - 1, (1 + confidence) / 2)
    return float(ndtr(-t * np.sqrt(count / (count - 1))))
