"""concept: whether labels came otherwise than the same inputs used to mean, and which features carry it.

Concept drift is a change of P(y|x). A partition's error says little of it: levels move from week to week, and inputs
with them. So two things are told. Per feature, what its labels would teach over the champion's scores (`residual`), in
multiples of what held-out rows and earlier labelled partitions of the same version usually teach. And for people, the
realised error beside that of held-out rows weighted to look like the partition (Sugiyama et al. 2007).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field

from pipelines.config import Bootstrap
from pipelines.documents.measures import Interval
from pipelines.metrics.bootstrap import blocks_of, intervals
from pipelines.metrics.metric_sums import ratio
from pipelines.metrics.metrics import goodness
from pipelines.metrics.scored import Scored
from pipelines.monitoring.detect.detection import Measured
from pipelines.monitoring.diagnose.residual import Cut, Residual, cut, errors, gained, pooled, residual, totals
from pipelines.monitoring.estimate.domain import domain
from pipelines.monitoring.estimate.held_out import HeldOut
from pipelines.problem import Problem
from pipelines.profiles.column import Frozen
from pipelines.profiles.pooled import windows
from pipelines.vectors.measures import measured, measured_names

Array = NDArray[Any]

PRIOR = 6.0  # so many partitions the usual feature counts for, beside a feature's own
SEVERE = 1.25  # times the limit: an earlier partition that far out is no part of what is usual
CHANCE = 1.64  # standard errors of a bin's mean squared error
FEWEST_IN_BIN = 10  # rows of one window in a bin, for their mean squared error to say anything
LEAST_COMPARED = 50.0  # rows of the past in a bin of a regression, for its error to be compared
FLOOR = 0.05  # square root of a share of the loss, .25 %: less than that is too little to matter
SHOWN = 5  # features
COMPARED = {"binary": ("auc", "log_loss"), "multiclass": ("auc", "log_loss"), "regression": ("rmse",)}


class Carrier(Frozen):
    """What labels would teach about one feature over the champion's scores."""

    feature: str
    gain: float
    """Share of the loss that a correction by this feature takes off, out of fold and beyond the usual one."""
    times_usual: float
    partitions: int
    """2: the newest two together show it more clearly."""


class Where(Measured):
    """The rows in which the leading feature's labels came otherwise."""

    rows: str
    """Such as carrier=EV."""
    count: int
    error: float
    """Mean of label less expectation."""
    label_class: str | None = Field(default=None, alias="class")
    """Of several classes the one whose labels came off the most."""


class Compared(Frozen):
    """A realised metric beside that of held-out rows; `difference`: how much better than expected."""

    expected: Interval
    realised: Interval
    difference: Interval


class Concept(Frozen):
    """What the newest labelled partition says of concept drift."""

    partition: str
    rows: int
    times_usual: float
    """The largest of any feature."""
    features: tuple[Carrier, ...]
    """By their gain; those that carry the drift are beyond half the limit."""
    where: Where
    usual_partitions: int
    """How many tell what is usual."""
    left_out: tuple[str, ...]
    """Earlier partitions that were themselves far beyond the limit."""
    compared: dict[str, Compared]
    """By metric."""
    is_weighted: bool
    """Held-out rows count by how much they are like the partition."""
    note: str


class _Gain(NamedTuple):
    """What a feature gains in the partitions that are judged."""

    gain: float
    times_usual: float
    partitions: int


class _Errors(NamedTuple):
    """Realised errors beside those that were expected."""

    compared: dict[str, Compared]
    is_weighted: bool
    note: str


NOT_COMPARED = _Errors({}, is_weighted=False, note="not compared")


def concept(
    problem: Problem,
    held_out: HeldOut,
    labelled: Sequence[HeldOut],
    rule: Bootstrap,
    limit: float,
    fewest_rows: int,
    *,
    compare: bool = True,
) -> Concept | None:
    """What the newest labelled partition says of concept drift; None where no feature has two values in it, or no
    held-out row counts.

    Args:
        problem: the config that the version was trained with.
        held_out: its test rows.
        labelled: labelled partitions (small ones pooled) that it scored, with their features, the oldest first: the
            newest is judged, those before it tell what is usual. Eight or so are enough.
        limit: `times_usual` that alarms (the policy's max_concept_shift). An earlier partition beyond 1.25 times that
            does not count as usual, so that a lasting drift stays one; leaving out all beyond the limit itself would
            let one odd week make the next ones alarm.
        fewest_rows: effective held-out rows that weights have to leave, and rows of a partition of the test split;
            smaller ones are pooled.
        compare: whether to compare errors too, which is for people and takes most of the time.
    """
    vectors = problem.vector_features
    tested_rows, *judged = [part._replace(rows=measured(part.rows, vectors)) for part in (held_out, *labelled)]
    newest = judged[-1]
    cuts = cut(newest.rows, measured_names(problem.feature_names, vectors))
    tested = _partitions(tested_rows, fewest_rows)
    if not cuts or not tested:
        return None
    scale = _scale(held_out.scored)
    names, parts = [], []
    for part in [*tested, *judged]:
        names.append(part.rows["partition"][-1].as_py())  # of a pool the newest
        parts.append(residual(cuts, part.rows, part.scored, blocks_of(problem, part.rows), scale))
    first = len(parts) - len(labelled)
    usual, left_out = list(range(first)), []
    for place in range(first, len(parts) - 1):
        beyond = _beyond([parts[place]], [[parts[earlier]] for earlier in usual])
        if max(gain.times_usual for gain in beyond.values()) > SEVERE * limit:
            left_out.append(place)
        else:
            usual.append(place)
    gains = _newest(parts, usual)
    ranked = sorted(gains, key=lambda name: (gains[name].times_usual <= limit / 2, -gains[name].gain))
    blocks, past = blocks_of(problem, newest.rows), [parts[place] for place in usual]
    off = _compared(problem, held_out, labelled[-1], rule, fewest_rows) if compare else NOT_COMPARED
    return Concept(
        partition=names[-1],
        rows=newest.rows.num_rows,
        times_usual=max(gain.times_usual for gain in gains.values()),
        features=tuple(Carrier(feature=name, **gains[name]._asdict()) for name in ranked[:SHOWN]),
        where=_where(cuts[ranked[0]], parts[-1], newest, blocks, past),
        usual_partitions=len(usual),
        left_out=tuple(names[place] for place in left_out),
        compared=off.compared,
        is_weighted=off.is_weighted,
        note=off.note,
    )


def _partitions(held_out: HeldOut, fewest_rows: int) -> list[HeldOut]:
    """Those of the test split, one by one, small ones pooled: they are what a partition is measured against first."""
    used = held_out.scored.weights > 0
    keys = np.asarray(held_out.rows["partition"].to_pylist())
    names, rows = np.unique(keys[used], return_counts=True)
    masks = [used & np.isin(keys, names[window.start : window.stop]) for window in windows(rows.tolist(), fewest_rows)]
    return [HeldOut(held_out.rows.filter(pa.array(mask)), held_out.scored.take(mask)) for mask in masks]


def _scale(scored: Scored) -> float:
    """Of a regression: standard deviation of its errors; 1 where it has none."""
    if scored.task != "regression":
        return 1.0
    return float(np.std((scored.labels - scored.scores)[scored.weights > 0])) or 1.0


def _newest(parts: list[Residual], usual: list[int]) -> dict[str, _Gain]:
    """Each feature in the newest partition, and in the newest two together where that is the clearer."""
    alone = _beyond(parts[-1:], [[parts[place]] for place in usual])
    singles = [place for place in usual if place != len(parts) - 2]
    pairs = [[parts[earlier], parts[later]] for earlier, later in pairwise(singles)]
    if len(pairs) < 2:
        return alone
    both = _beyond(parts[-2:], pairs, [parts[place] for place in singles])
    return {name: max(alone[name], both[name], key=lambda gain: gain.times_usual) for name in alone}


def _beyond(
    judged: list[Residual], windows: list[list[Residual]], past: list[Residual] | None = None
) -> dict[str, _Gain]:
    """Gain of each feature over the usual correction, and that as a multiple of what windows of the past gain.

    A window is compared with the past but itself. The root of a gain is about the size of an effect; a feature's usual
    size is its root mean square, drawn to the median feature's as if of PRIOR partitions more. Of a regression only
    bins count whose rows came worse than in any of the windows: see `_is_worse`.
    """
    now, earlier = pooled(judged), [pooled(window) for window in windows]
    all_sums = [totals(part) for part in (past or earlier)]
    own_sums = [totals(part) for part in earlier]
    gains, sizes = {}, {}
    for name, sums in now.sums.items():
        total = np.sum([part[name] for part in all_sums], axis=0)
        by_bin = gained(sums, total).sum(axis=(0, 1))
        if now.squares:
            is_worse = _is_worse(now.squares[name], [part.squares[name] for part in earlier])
            by_bin = np.where(is_worse, by_bin, np.minimum(by_bin, 0.0))
        gains[name] = float(by_bin.sum()) / now.loss
        sizes[name] = np.array(
            [
                max(float(gained(part.sums[name], total - own[name]).sum()) / part.loss, 0.0)
                for part, own in zip(earlier, own_sums, strict=True)
            ]
        )
    typical = float(np.median([size.mean() for size in sizes.values()]))
    count = len(earlier)
    beyond = {}
    for name, gain in gains.items():
        usual = np.sqrt((sizes[name].sum() + PRIOR * typical) / (count + PRIOR))
        beyond[name] = _Gain(gain, float(np.sqrt(max(gain, 0.0)) / max(usual, FLOOR)), len(judged))
    return beyond


def _is_worse(squares: Array, past: Sequence[Array]) -> Array:
    """Bins (bins,) whose mean squared error is beyond that of each window of the past, and not by chance.

    A champion that does not fit (a line through a curve, say) has errors with a structure from its first day on, and
    as inputs move, other parts of it show. That is no change of what they mean, as long as rows of a kind come no worse
    than they did where the champion was tested. Rows of a kind that it was not tested on have nothing to be compared
    with: they do not count. Of classes the loss follows the classes' rates, and says no such thing.
    """
    rows = np.array([window[1] for window in past])
    means = ratio(np.array([window[0] for window in past]), np.where(rows >= FEWEST_IN_BIN, rows, 0.0))
    most = np.nanmax(np.vstack([means, np.zeros(means.shape[1])]), axis=0)
    mean = np.nan_to_num(ratio(squares[0], squares[1]))
    # The variance of a mean of n squares of normal errors is 2 / n of its square.
    chance = CHANCE * np.sqrt(2 / np.maximum(squares[1], 1.0))
    worse: Array = (mean > most * (1 + chance)) & (rows.sum(axis=0) >= LEAST_COMPARED)
    return worse


def _where(leading: Cut, newest: Residual, part: HeldOut, blocks: Array, usual: list[Residual]) -> Where:
    """The bin of the leading feature with most of its gain, and how its labels came."""
    total = np.sum([totals(earlier)[leading.name] for earlier in usual], axis=0)
    codes = leading.codes(part.rows)
    gain = gained(newest.sums[leading.name], total).sum(axis=(0, 1))
    if newest.squares:
        is_worse = _is_worse(newest.squares[leading.name], [earlier.squares[leading.name] for earlier in usual])
        gain = np.where(is_worse, gain, np.minimum(gain, 0.0))
    code = int(np.where(np.bincount(codes, minlength=leading.size) > 0, gain, -np.inf).argmax())
    is_there = codes == code
    off = errors(part.scored, blocks)[is_there].mean(axis=0)
    rows, count = leading.label(code), int(is_there.sum())
    if np.ndim(off) == 0:
        return Where(rows=rows, count=count, error=float(off))
    most = int(np.abs(off).argmax())
    return Where(rows=rows, count=count, error=float(off[most]), label_class=part.scored.classes[most])


def _compared(problem: Problem, held_out: HeldOut, newest: HeldOut, rule: Bootstrap, fewest_rows: int) -> _Errors:
    """Realised metrics beside those of held-out rows that look like the partition; of all, where too few do."""
    blocks, newest_blocks = blocks_of(problem, held_out.rows), blocks_of(problem, newest.rows)
    weighing = domain(problem, held_out.rows, blocks, newest.rows, newest_blocks, rule)
    reason = "no input tells rows apart" if weighing is None else weighing.why_not(fewest_rows)
    tested = held_out.scored
    if weighing is not None and reason is None:
        tested = replace(tested, weights=tested.weights * weighing.weights)
    names = list(COMPARED[problem.task])
    expected, realised = intervals(tested, blocks, rule, names), intervals(newest.scored, newest_blocks, rule, names)
    compared = {}
    for name in names:
        difference = _difference(name, expected[name], realised[name])
        compared[name] = Compared(expected=expected[name], realised=realised[name], difference=difference)
    weighted = "held-out rows are weighted to look like the partition"
    return _Errors(compared, reason is None, weighted if reason is None else f"unweighted: {reason}")


def _difference(metric: str, expected: Interval, realised: Interval) -> Interval:
    """How much better than expected; the sides are independent, so MOVER puts their intervals together (Zou and Donner
    2008)."""
    before, after = (_ranked(metric, side) for side in (expected, realised))
    if before is None or after is None:
        return {"value": None, "low": None, "high": None}
    value = after[1] - before[1]
    return {
        "value": value,
        "low": value - float(np.hypot(after[1] - after[0], before[2] - before[1])),
        "high": value + float(np.hypot(after[2] - after[1], before[1] - before[0])),
    }


def _ranked(metric: str, measured: Interval) -> tuple[float, ...] | None:
    """Low, value and high of an interval, turned so that more is better; None where one is not defined."""
    ends = [measured[end] for end in ("low", "value", "high")]
    return tuple(sorted(float(goodness(metric, end)) for end in ends)) if None not in ends else None
