"""feedback: whether a model's own scores decide which labels come, and whether its scores concentrate meanwhile.

A degenerate feedback loop (Huyen, ch. 8; Jiang et al., Degenerate feedback loops in recommender systems, 2019): what a
model scores high is acted on, what is acted on gets labels, and the next model learns from these alone. Labels that
depend on the score are a selected sample; with scores that spread over fewer and fewer values they are a loop.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipelines.config import Bootstrap
from pipelines.documents.measures import Interval
from pipelines.metrics.bootstrap import drawn_blocks, draws, interval
from pipelines.metrics.metric_sums import equal_mass, ratio
from pipelines.profiles.column import Frozen

Array = NDArray[Any]

GROUPS = 5  # of the scores, with about as many rows each
FEWEST_ROWS = 30  # of a group whose share of labels counts
FEWEST_PARTITIONS = 8  # by which a trend is told
LAST = 26  # partitions of a trend, the newest: half a year of weeks


class Group(Frozen):
    """Rows with scores alike: `of` which, in words."""

    of: str
    rows: int
    coverage: float
    """Share with a label."""


class Coverage(Frozen):
    """Share of rows with a label by score."""

    groups: tuple[Group, ...]
    gap: Interval
    """The largest share less the smallest."""


class Trend(Frozen):
    """How the evenness of scores went over partitions."""

    partitions: int
    newest: float
    fall: Interval
    """From the first to the last of a line through them."""


class Feedback(Frozen):
    """Whether labels depend on the score, and whether scores concentrate; None where too few rows or partitions tell.

    `usual_evenness`: the least of the partitions that the version was made from.
    """

    coverage: Coverage | None
    trend: Trend | None
    usual_evenness: float | None
    note: str


def coverage(
    scores: Array, decided: Sequence[str] | None, is_labelled: Array, blocks: Array, rule: Bootstrap
) -> Coverage | None:
    """Share of rows with a label by score; None where fewer than two groups have 30 rows.

    Args:
        scores: (n,), of rows whose labels should be in by now.
        decided: (n,) class decided for; groups are then these in place of fifths of the scores.
        is_labelled: (n,) bool.
        blocks: (n,) block of each row, such as its day: whole blocks are drawn for the interval of the gap. The two
            groups are those found in all rows, so chance alone makes the gap positive.
    """
    names, place = _groups(scores, decided)
    rows = np.bincount(place, minlength=len(names))
    large = np.flatnonzero(rows >= FEWEST_ROWS)
    if len(large) < 2:
        return None
    shares = ratio(np.bincount(place, is_labelled, len(names)), rows)
    most, least = large[shares[large].argmax()], large[shares[large].argmin()]
    drawn = drawn_blocks(blocks)
    count = int(drawn.max()) + 1
    sums = np.stack(
        [
            np.bincount(drawn, values * (place == group), count)
            for group in (most, least)
            for values in (is_labelled.astype(np.float64), np.ones(len(place)))
        ],
        axis=1,
    )
    each = np.concatenate([times @ sums for times in draws(count, rule)])
    resampled = ratio(each[:, 0], each[:, 1]) - ratio(each[:, 2], each[:, 3])
    return Coverage(
        groups=tuple(
            Group(of=names[code], rows=int(rows[code]), coverage=float(shares[code])) for code in large.tolist()
        ),
        gap=interval(float(shares[most] - shares[least]), resampled, count, rule),
    )


def _groups(scores: Array, decided: Sequence[str] | None) -> tuple[list[str], Array]:
    if decided is not None:
        classes, place = np.unique(np.asarray(decided, dtype=object).astype(str), return_inverse=True)
        return [f"decided for {name}" for name in classes], place
    place = equal_mass(scores, np.ones(len(scores)), GROUPS)
    codes, place = np.unique(place, return_inverse=True)
    ends = [(scores[place == code].min(), scores[place == code].max()) for code in range(len(codes))]
    return [f"scores {low:.3g} to {high:.3g}" for low, high in ends], place


def evenness(counts: ArrayLike, reference: ArrayLike) -> float | None:
    """Entropy of the counts as a share of the reference's; None where either says nothing.

    >>> evenness([5, 5, 0, 0], [5, 5, 5, 5]), evenness([3, 3], [9, 0])
    (0.5, None)
    """
    entropy, usual = _entropy(counts), _entropy(reference)
    return None if entropy is None or not usual else entropy / usual


def _entropy(counts: ArrayLike) -> float | None:
    """In nats (Shannon 1948)."""
    values = np.asarray(counts, np.float64)
    if not values.sum():
        return None
    shares = values[values > 0] / values.sum()
    return float(-(shares * np.log(shares)).sum()) + 0.0


def trend(series: Mapping[str, float], confidence: float) -> Trend | None:
    """How the evenness of scores went over partitions (by key, the oldest first); None where there are fewer than
    eight.

    The line is Theil's and Sen's (1968): half of the partitions may be odd. Its interval takes partitions as
    independent, which seasons are not.

    >>> trend({str(key): 1 - key / 100 for key in range(10, 20)}, 0.95).fall["value"]
    0.09
    """
    from scipy.stats import theilslopes

    values = np.array(list(series.values())[-LAST:], np.float64)
    if len(values) < FEWEST_PARTITIONS:
        return None
    slope, _, low, high = theilslopes(values, alpha=confidence)
    steps = len(values) - 1
    fall: Interval = {"value": _round(-slope * steps), "low": _round(-high * steps), "high": _round(-low * steps)}
    return Trend(partitions=len(values), newest=float(values[-1]), fall=fall)


def _round(value: float) -> float:
    return round(float(value), 12) + 0.0


def feedback(covered: Coverage | None, spread: Trend | None, usual: Sequence[float]) -> Feedback:
    """Both pieces and what they say together.

    `usual` are the evenness of the partitions that the version was made from.
    """
    gap = covered.gap if covered else None
    note = "too few rows tell whether labels depend on the score"
    if gap is not None:
        depends = gap["low"] is not None and gap["low"] > 0
        difference = f"{gap['value']:.0%} between the groups with most and with fewest"
        note = (
            f"labels are a selected sample: whether one comes depends on the score ({difference})"
            if depends
            else f"labels come whatever the score ({difference})"
        )
    return Feedback(coverage=covered, trend=spread, usual_evenness=min(usual, default=None), note=note)
