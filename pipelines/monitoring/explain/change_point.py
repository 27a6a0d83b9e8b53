"""change_point: since which partition is a series other than before, at once or gradually?

Offline and exact: every way to cut the series into a few parts, each a level or a line, is weighed by least squares
(dynamic programming: Auger and Lawrence 1989; Killick, Fearnhead and Eckley 2012 on penalties; lines: Bai and Perron
1998), and the newest cut is put to a test against series that only wander. Neighbouring partitions resemble each other
(a warm week follows a warm week), which looks like steps where there are none: how much they do is estimated by medians
of differences, which no step moves (Chakar, Lebarbier, Levy-Leduc and Robin, A robust approach for estimating
change-points in the mean of an AR(1) process, 2017), and the series that the test compares with wander as much.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pipelines.profiles.column import Frozen

Array = NDArray[Any]
Shape = Literal["step", "gradual"]
SIGNIFICANCE = 0.05
MOST_PARTS = 6
FEWEST = 3  # partitions with a value: two before, one since
FEWEST_OF_LINE = 4
# Of each change, and of each line in place of a level: times the logarithm of the number of partitions, in units of the
# wandering's variance. As much for both: a step and a line across it are judged by what they explain.
PENALTY = 3.0
WHERE_LEVEL = 7.35  # 95 % of the likelihood ratio of a place: (1 - exp(-x / 2))^2 (Yao 1987; Hansen 2000)
USUALLY_ALIKE = 0.4  # correlation of neighbouring partitions where nothing is known of it, and ...
PRIOR = 10  # ... how many partitions that guess counts for: from fewer it cannot be estimated
MOST_ALIKE = 0.9
DRAWS = 999
SEED = 0


class ChangePoint(Frozen):
    """The newest change of a series.

    `since`: the first partition after it, of a gradual one where a line begins; `first` to `last`: where it may as well
    have been (95 %). `before`: level of the partitions before it (what a line had come to); `after`: mean of those
    since, of a gradual change what its line has come to. `p_value`: chance that a series that only wanders shows as
    much.
    """

    since: str
    shape: Shape
    before: float
    after: float
    p_value: float
    first: str
    last: str
    partitions: int


def change_point(keys: Sequence[str], values: Sequence[float | None]) -> ChangePoint | None:
    """The newest change that is no chance, None where there is none. NaN, infinite and None are gaps.

    Args:
        keys: partitions, oldest first; those that are missing between them simply have no value.

    A single partition that is off and comes back is no change; the newest one by itself may be.

    >>> newest = change_point([f"w{n:02}" for n in range(12)], [1, 2, 1, 2, 1, 2, 1, 9, 8, 9, 8, 9])
    >>> newest.since, newest.shape, round(newest.after, 1), newest.p_value < 0.05
    ('w07', 'step', 8.6, True)
    >>> change_point(["a", "b", "c", "d"], [1, 1, None, 1]) is None
    True
    """
    series = np.asarray([np.nan if value is None else value for value in values], dtype=np.float64)
    places = np.flatnonzero(np.isfinite(series))
    if len(places) < FEWEST:
        return None
    named, values_there = [keys[place] for place in places.tolist()], series[places]
    unit = float(np.abs(values_there).max()) or 1.0
    y = values_there / unit  # no square overflows or vanishes
    if np.ptp(y) <= 1e-12:  # what sums of floats leave
        return None
    times = places.astype(np.float64)
    noise = _wandering(y)
    levels, lines = _costs(y, times)
    costs = np.minimum(levels, lines + PENALTY * np.log(len(y)) * noise)
    starts = _starts(costs, noise, bool(costs[0, -1] < levels[0, -1]))
    while starts:
        begin = starts[-2] if len(starts) > 1 else 0
        p_value = _chance(y[begin:])
        if p_value <= SIGNIFICANCE:
            return _told(y * unit, times, levels, costs, begin, starts[-1], p_value, noise, named)
        starts.pop()
    return None


def _told(
    y: Array,
    times: Array,
    levels: Array,
    costs: Array,
    begin: int,
    start: int,
    p_value: float,
    noise: float,
    keys: list[str],
) -> ChangePoint:
    """The change at `start`; the part before it begins at `begin`."""
    count = len(y)
    rest = costs[begin, :count] + costs[:count, count]
    as_likely = np.flatnonzero(rest - rest[start] <= WHERE_LEVEL * noise) if start > begin else np.array([start])
    is_line = bool(costs[start, count] < levels[start, count])
    slope, middle = _line(y[start:], times[start:])
    if start == begin:  # one line all along
        before = middle + slope * (times[start] - times[start:].mean())
    elif costs[begin, start] < levels[begin, start]:
        earlier_slope, earlier_middle = _line(y[begin:start], times[begin:start])
        before = earlier_middle + earlier_slope * (times[start - 1] - times[begin:start].mean())
    else:
        before = float(y[begin:start].mean())
    return ChangePoint(
        since=keys[start],
        shape="gradual" if is_line else "step",
        before=float(before),
        after=middle + slope * (times[-1] - times[start:].mean()) if is_line else middle,
        p_value=p_value,
        first=keys[int(as_likely.min(initial=start))],
        last=keys[int(as_likely.max(initial=start))],
        partitions=count,
    )


def _line(y: Array, times: Array) -> tuple[float, float]:
    """Slope and mean."""
    away = times - times.mean()
    spread = float(away @ away)
    return (float(away @ y) / spread if spread else 0.0), float(y.mean())


def _starts(costs: Array, noise: float, is_line: bool) -> list[int]:
    """Where the parts begin, but for the first, by penalised least squares; [0] where all is one line; of one level the
    place where two parts are best."""
    count = len(costs) - 1
    best, came_from = [costs[0]], []
    for _ in range(min(MOST_PARTS, count - 1) - 1):
        through = best[-1][:, None] + costs
        came_from.append(through.argmin(axis=0))
        best.append(through.min(axis=0))
    totals = [cost[count] + number * PENALTY * np.log(count) * noise for number, cost in enumerate(best)]
    parts = int(np.argmin(totals))
    if not parts and is_line:
        return [0]
    starts: list[int] = []
    end = count
    for number in range(max(parts, 1), 0, -1):
        end = int(came_from[number - 1][end])
        starts.append(end)
    return starts[::-1]


def _costs(y: Array, times: Array) -> tuple[Array, Array]:
    """What a level, and a line, leave of y[i:j] unexplained, each (n + 1, n + 1); inf where a part is too short.

    A level takes two partitions, the newest one may stand alone; a line takes four.
    """
    count = len(y)
    t = times - times.mean()
    ones, t1, t2, y1, y2, ty = (
        sums[None, :] - sums[:, None]
        for sums in (
            np.concatenate([[0.0], np.cumsum(values)]) for values in (np.ones(count), t, t * t, y, y * y, t * y)
        )
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        level = np.maximum(y2 - y1**2 / ones, 0)
        along, spread = ty - t1 * y1 / ones, t2 - t1**2 / ones
        line = np.maximum(level - along**2 / spread, 0)
    is_short = ones < 2
    is_short[:, count] = ones[:, count] < 1
    return np.where(is_short, np.inf, level), np.where(ones < FEWEST_OF_LINE, np.inf, line)


def _chance(window: Array) -> float:
    """Share of wandering series of this length in which a step explains as much (Davison and Hinkley 1997, ch. 4)."""
    share = _share(window[None, :])[0]
    alike = _alike(window)
    noise = np.random.default_rng(SEED).normal(size=(DRAWS, len(window)))
    for place in range(1, len(window)):  # over partitions, not rows
        noise[:, place] = alike * noise[:, place - 1] + np.sqrt(1 - alike**2) * noise[:, place]
    drawn = _share(noise)
    return float((1 + np.count_nonzero(drawn >= share)) / (1 + DRAWS))


def _share(series: Array) -> Array:
    """Share of each series' variance that the best step explains, (draws,)."""
    total = np.square(series - series.mean(axis=1, keepdims=True)).sum(axis=1)
    count = series.shape[1]
    sums, left = np.cumsum(series, axis=1)[:, 1:-1], np.arange(2, count)
    whole = series.sum(axis=1, keepdims=True)
    between = sums**2 / left + (whole - sums) ** 2 / (count - left) - whole**2 / count
    return np.asarray(between.max(axis=1) / np.maximum(total, 1e-300))


def _alike(series: Array) -> float:
    """How much a partition is like the one before (a correlation, 0 to 0.9), whatever steps there are."""
    count = len(series)
    if count < PRIOR:
        return USUALLY_ALIKE
    next_off, second_off = (float(np.median(np.abs(series[lag:] - series[:-lag]))) for lag in (1, 2))
    alike = (second_off / next_off) ** 2 - 1 if next_off > 0 else USUALLY_ALIKE
    return float((count * np.clip(alike, 0, MOST_ALIKE) + PRIOR * USUALLY_ALIKE) / (count + PRIOR))


def _wandering(y: Array) -> float:
    """Long-run variance of a series between its steps."""
    off = np.abs(np.diff(y))
    alike = _alike(y)
    middle = float(np.median(off)) / 0.6745
    variance = middle**2 / 2 / (1 - alike) if middle > 0 else float(np.mean(off**2)) / 2
    return variance * (1 + alike) / (1 - alike)
