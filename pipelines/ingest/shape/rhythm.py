"""Numbers that go with the time of day, and no longer do: a feed's clock is off, or its rows got mixed up."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipelines.config import Shape
from pipelines.ingest.shape.distance import CLUSTERED, FEWEST_VALUES, FLOOR, Suspicion, independent
from pipelines.ingest.shape.profile import Array, PartitionShape

HOUR = "(hour of the event)"
RULE = "numbers out of step with the hour"
RIDGE = 0.05  # on the variances of sine and cosine of the hour, at most 0.5: events of few hours tell little
SHRUNK = 3  # partitions: a column's own noise counts as much as the usual column's after so many
SHIFTS = 2 * np.pi * np.arange(1, 24) / 24
# What may have become of a rhythm (sine, cosine): a clock 1 to 23 hours late turns it; in mixed rows none is left.
TURNS = np.concatenate(
    [
        np.stack([np.cos(SHIFTS), np.sin(SHIFTS), -np.sin(SHIFTS), np.cos(SHIFTS)], axis=1).reshape(-1, 2, 2),
        np.zeros((1, 2, 2)),
    ]
)


def rhythm_of(matrix: Array, hours: Array) -> Array:
    """How each column of `matrix` (n, d) goes with the hour of the day: slopes on its sine and cosine, (d, 2).

    By least squares over the rows that have a value, the slopes made smaller where the hours vary little. A column
    without a value has NaN.

    >>> hours = np.arange(24.0)
    >>> warmth = 10 - 8 * np.cos(2 * np.pi * hours / 24)  # coldest at midnight
    >>> rhythm_of(np.stack([warmth, np.ones(24)], axis=1), hours).round(1) + 0.0
    array([[ 0. , -7.3],
           [ 0. ,  0. ]])
    """
    angles = 2 * np.pi * hours / 24
    circle = np.stack([np.sin(angles), np.cos(angles)], axis=1)
    is_told = np.isfinite(matrix)
    count = np.maximum(is_told.sum(axis=0), 1)
    means = is_told.T @ circle / count[:, None]
    squares = np.einsum("nd,ni,nj->dij", is_told.astype(float), circle, circle, optimize=True) / count[:, None, None]
    inner = squares - means[:, :, None] * means[:, None, :] + RIDGE * np.eye(2)
    centred = np.where(is_told, matrix - np.where(is_told, matrix, 0.0).sum(axis=0) / count, 0.0)
    cross = centred.T @ circle / count[:, None]  # the centre of the circle does not matter: the columns are centred
    slopes: Array = np.linalg.solve(inner, cross[:, :, None])[:, :, 0]
    slopes[~is_told.any(axis=0)] = np.nan
    return slopes


def judge_rhythm(
    settings: Shape, trailing: Sequence[PartitionShape], shape: PartitionShape, odd: set[str]
) -> dict[str, Suspicion]:
    """How much better a shifted clock, or none, explains the numbers' rhythm than the rhythm that they had so far.

    Of each column the squared distance to its mean rhythm, less that to what the shift would make of it, in units of
    what is usual from partition to partition; summed over the columns that speak for the shift, the root taken. A
    column without a rhythm thus says nothing, and several weak ones say something together. Those that are `odd` by
    themselves are left out.
    """
    if not len(shape.rhythm) or {HOUR, RULE} & (odd | set(settings.ignore)):
        return {}
    every = [*trailing, shape]
    rhythms, means = (
        np.stack(each)
        for each in ([partition.rhythm for partition in every], [partition.moments.means for partition in every])
    )
    counts, spreads = (np.stack(each) for each in zip(*map(_told, every), strict=True))
    kept = (counts[-1] >= FEWEST_VALUES) & ((counts[:-1] >= FEWEST_VALUES).sum(axis=0) >= settings.min_partitions)
    kept &= np.array([name not in odd and name not in settings.ignore for name in shape.moments.names], bool)
    rhythms[counts < FEWEST_VALUES] = spreads[counts < FEWEST_VALUES] = np.nan
    scale = np.sqrt(np.nanmean(spreads[:-1, kept] ** 2, axis=0))
    # Below it there is only what sums of floats leave.
    kept[kept] = varies = scale > 1e-9 * np.nanmax(np.abs(means[:, kept]), axis=0)
    if not kept.any():
        return {}
    names = [name for name, is_kept in zip(shape.moments.names, kept, strict=True) if is_kept]
    counts, rhythms = counts[:, kept], rhythms[:, kept] / np.fmax(spreads[:, kept], scale[varies])[..., None]
    of_their_own = [independent([earlier.columns[name] for earlier in trailing], shape.columns[name]) for name in names]
    noise, mean, others = _usual(rhythms[:-1], counts[:-1], counts[-1], np.array(of_their_own))
    gains = _gains(mean, rhythms[-1], noise)
    usual = np.sqrt(_gains(others, rhythms[:-1], noise).sum(axis=-1).max())
    best = int(gains.sum(axis=-1).argmax())
    limit = settings.tolerance * max(1.0, usual / FLOOR["usual rhythm"])
    what = "usual deviations better explained by another clock"
    far = Suspicion(float(np.sqrt(gains[best].sum())), float(usual), limit, what)
    if far.ratio <= 1:
        return {RULE: far}
    speak = ", ".join(name for name, gain in zip(names, gains[best], strict=True) if gain > gains[best].max() / 10)
    off = min(best + 1, 23 - best)
    return {f"{RULE} ({speak}: {f'as if by a clock {off} hours off' if off else 'as if of any hour'})": far}


def _told(shape: PartitionShape) -> tuple[Array, Array]:
    """How many values each number has, and their standard deviation."""
    columns = [shape.columns[name] for name in shape.moments.names]
    return np.array([float(column.count) for column in columns]), np.array([column.spread for column in columns])


def _usual(past: Array, before: Array, now: Array, of_their_own: Array) -> tuple[Array, Array, Array]:
    """Of each column the squared distance that is usual, the mean rhythm, and that of the others of each partition.

    A column's own noise is told from few partitions: it is drawn to that of the usual column. Few rows bring chance.
    """
    count = np.isfinite(past[..., 0]).sum(axis=0)
    mean = np.nanmean(past, axis=0)
    others = mean + (mean - past) / (count - 1)[:, None]
    own = np.nanmean(((past - others) ** 2).sum(axis=-1), axis=0)
    noise = (count * own + SHRUNK * np.median(own)) / (count + SHRUNK)
    fewer = np.maximum(1.0, np.nanmin(np.where(np.isfinite(past[..., 0]), before, np.nan), axis=0) / now)
    by_chance = np.maximum(CLUSTERED / now, 1 / of_their_own)
    return noise * fewer + np.maximum(FLOOR["rhythm"] ** 2, by_chance), mean, others


def _gains(expected: Array, actual: Array, noise: Array) -> Array:
    """What each turn (on the last axis but one) explains better than none, of each column (on the last)."""
    turned = np.einsum("kij,...cj->...kci", TURNS, expected)
    straight = ((actual - expected) ** 2).sum(axis=-1)[..., None, :]
    better = straight - ((actual[..., None, :, :] - turned) ** 2).sum(axis=-1)
    gains: Array = np.maximum(np.nan_to_num(better), 0.0) / noise
    return gains
