"""Alarm levels that know the past: how far partitions usually lie from each other, and what chance alone would give.

A fixed limit on a distance flags every season, and what it means depends on the number of rows. Of each column two
distances of a partition count here: that to what the model learnt from, pooled (`far`), and the *step*: that to the
nearest of the partitions just before it. A season moves far in small steps; a change of the feed or of the world is a
large step. How numbers go together is told by its step alone, which two partitions in a row have to make.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.monitoring.detect.detection import Level
from pipelines.profiles.column import Bins, ColumnProfile
from pipelines.profiles.distance import deciding
from pipelines.profiles.profile import SCORE, Profiles, Reference
from pipelines.profiles.relations import left_over

Array = NDArray[Any]
MIN_PARTITIONS = 4  # whose distances are known: what is usual is not told from fewer
PRIOR = 20.0  # so many partitions the usual column's spread counts for, beside a column's own
FLOOR = {"js": 0.1, "wasserstein": 0.15, "relation": 0.15}  # too little to matter: a PSI of .05, a seventh of an sd
MARGIN = {"js": 1.0, "wasserstein": 1.0, "relation": 2.0}  # linear relations of one season are not those of another
NOTHING = 0.5  # of the floor: distances below are all the same
RESAMPLES = 200
DRAWS = 200
SEED = 0

Levels = dict[str, dict[str, Level]]


@dataclass(frozen=True)
class _Distances:
    """Of one column: the partition's, and those of the past: `fars` of the reference's `made_from` partitions, each to
    the others, `steps` of all. NaN where a side has no values.

    `chance`: (draws,) what two samples of one distribution give. `fewer`: how much wider few rows make it.
    """

    far: float
    step: float
    fars: Array
    steps: Array
    chance: Array
    made_from: int
    fewer: float


def levels(reference: Reference, trailing: Sequence[Profiles], profiles: Profiles, rate: float, window: int) -> Levels:
    """Distances and their alarm levels, by column and distance.

    A level is the quantile that one partition in 1 / `rate` passes in any feature (Bonferroni, over columns and
    distances); for the score the same by itself. From few partitions it is extrapolated: logarithms of distances are
    taken as normal, their mean is uncertain by a block bootstrap (Kuensch 1989), their spread is drawn to that of the
    usual column (Smyth 2004), and the quantile is Student's. Never below what chance gives for as many rows, nor below
    FLOOR. None where fewer than MIN_PARTITIONS of the past have values.

    Args:
        trailing: profiles of partitions since the reference's, by the same version, the oldest first. What they show
            is usual too, but no further than the reference's own level: one that was at fault does not raise it much.
        window: partitions before one of which the nearest makes the step.
    """
    distances = {
        (name, kind): of_column
        for name, column in reference.columns.items()
        for kind, of_column in _distances(
            column.bins,
            since_first_value([each[name] for each in reference.partitions.values()]),
            [each[name] for each in trailing],
            profiles[name],
            window,
        ).items()
    }
    relations = _relations(reference, trailing, profiles, window)
    distances |= {(name, "relation"): relations[name] for name in relations if name in reference.columns}
    tests = {is_score: sum((name == SCORE) is is_score for name, _ in distances) for is_score in (False, True)}
    levels_of: Levels = {name: {} for name in reference.columns}
    for distance in FLOOR:
        by_column = {name: of_column for (name, kind), of_column in distances.items() if kind == distance}
        alphas = np.array([rate / max(tests[name == SCORE], 1) for name in by_column])
        columns = list(by_column.values())
        far_levels = _levels(distance, [column.fars for column in columns], columns, alphas)
        step_levels = _levels(distance, [column.steps for column in columns], columns, alphas)
        for name, far_level, step_level in zip(by_column, far_levels, step_levels, strict=True):
            levels_of[name][distance] = Level(
                far=_number(by_column[name].far),
                far_level=_number(far_level),
                step=_number(by_column[name].step),
                step_level=_number(step_level),
            )
    return levels_of


def since_first_value(past: Sequence[ColumnProfile]) -> Sequence[ColumnProfile]:
    """From the first with a value on: a history feature has none before the first labels come, and that is not what is
    usual of it. All, where none has one.
    """
    return past[next((place for place, profile in enumerate(past) if profile.valued), 0) :]


def _distances(
    bins: Bins,
    made_from: Sequence[ColumnProfile],
    trailing: Sequence[ColumnProfile],
    newest: ColumnProfile,
    window: int,
) -> dict[str, _Distances]:
    counts = np.array([profile.counts for profile in (*made_from, *trailing, newest)], np.float64)
    past, now, count = counts[:-1], counts[-1], len(made_from)
    pooled = past[:count].sum(axis=0)
    sizes = past.sum(axis=1)
    usual_rows = float(np.median(sizes[sizes > 0])) if sizes.any() else 0.0
    to_others, to_pooled = deciding(bins, pooled - past[:count], past[:count]), deciding(bins, pooled, now)
    pairs = deciding(bins, counts[:, None], counts[None, :])
    chance = _chance(bins, past[: count or None].sum(axis=0), int(usual_rows), int(now.sum()))
    return {
        distance: _Distances(
            far=float(to_pooled[distance]),
            step=_nearest(each, len(past), window),
            fars=to_others[distance],
            steps=np.array([_nearest(each, place, window) for place in range(len(past))]),
            chance=chance[distance],
            made_from=count,
            fewer=max(1.0, float(np.sqrt(usual_rows / max(now.sum(), 1.0)))),
        )
        for distance, each in pairs.items()
    }


def _relations(
    reference: Reference, trailing: Sequence[Profiles], profiles: Profiles, window: int
) -> dict[str, _Distances]:
    """Of how each number goes with the others: between partitions, of what is left over (`left_over`)."""
    if reference.relations is None:
        return {}
    made_from = list(reference.partitions.values())
    residuals = left_over(reference.relations, [*made_from, *trailing, profiles])
    rows = np.array([each[SCORE].rows for each in (*made_from, *trailing, profiles)], np.float64)
    usual_rows, now = float(np.median(rows[:-1])) if len(rows) > 1 else 0.0, max(float(rows[-1]), 1.0)
    chance = np.abs(np.random.default_rng(SEED).normal(size=DRAWS)) * np.sqrt(1 / max(usual_rows, 1.0) + 1 / now)
    distances = {}
    for place, name in enumerate(reference.relations.names):
        first = len(made_from) - len(since_first_value([each[name] for each in made_from]))
        values = residuals[first:, place]
        pairs = np.abs(values[:, None] - values[None, :])
        steps = np.array([_lasting(pairs, at, window) for at in range(len(values))])
        distances[name] = _Distances(
            far=np.nan,
            step=float(steps[-1]),
            fars=np.zeros(0),
            steps=steps[:-1],
            chance=chance,
            made_from=len(made_from) - first,
            fewer=max(1.0, float(np.sqrt(usual_rows / now))),
        )
    return distances


def _lasting(pairs: Array, place: int, window: int) -> float:
    """Step of two partitions, both to those before the two: what lasts. A week's strange weather does not."""
    if place < 2:
        return np.nan
    return min(_nearest(pairs, newer, window, place - 1) for newer in (place - 1, place))


def _nearest(pairs: Array, place: int, window: int, until: int | None = None) -> float:
    until = place if until is None else until
    before = pairs[place, max(0, until - window) : until]
    before = before[np.isfinite(before)]
    return float(before.min()) if len(before) else np.nan


def _chance(bins: Bins, counts: Array, usual_rows: int, rows: int) -> dict[str, Array]:
    """What samples of so many rows of one distribution lie apart by; one row more is spread over what is yet to come.

    As if rows were drawn one by one: that they come in clusters (all flights of a stormy hour) the past has to tell.
    """
    random = np.random.default_rng(SEED)
    shares = (counts + 1 / len(counts)) / (counts.sum() + 1)
    usual, now = (random.multinomial(size, shares, DRAWS) for size in (max(usual_rows, 1), max(rows, 1)))
    return deciding(bins, usual, now)


def _levels(distance: str, past: list[Array], columns: list[_Distances], alphas: Array) -> Array:
    """(columns,); the trailing partitions' distances count up to the level of the reference's alone."""
    before = [values[: column.made_from] for values, column in zip(past, columns, strict=True)]
    caps = np.nan_to_num(_usual(distance, before, alphas), nan=np.inf)
    capped = [
        np.append(values[: column.made_from], np.minimum(values[column.made_from :], cap))
        for values, column, cap in zip(past, columns, caps, strict=True)
    ]
    usual = _usual(distance, capped, alphas) * np.array([column.fewer for column in columns])
    chance = np.array([_quantile(column.chance, alpha) for column, alpha in zip(columns, alphas, strict=True)])
    level = np.maximum(np.maximum(usual, chance), FLOOR[distance])
    return np.where(np.isfinite(usual), MARGIN[distance] * level, np.nan)


def _usual(distance: str, past: list[Array], alphas: Array) -> Array:
    """Level by what is usual, (columns,); NaN where too little is known."""
    from scipy.special import stdtrit  # the quantile of Student's t; scipy.stats takes a second to import

    logs = [np.log(np.maximum(values[np.isfinite(values)], NOTHING * FLOOR[distance])) for values in past]
    enough = [values for values in logs if len(values) >= MIN_PARTITIONS]
    if not enough:
        return np.full(len(past), np.nan)
    typical = float(np.median([_upper_variance(values) for values in enough]))
    level = np.full(len(past), np.nan)
    for place, values in enumerate(logs):
        if len(values) >= MIN_PARTITIONS:
            freedom = len(values) - 1 + PRIOR
            variance = ((len(values) - 1) * _upper_variance(values) + PRIOR * typical) / freedom
            spread = np.sqrt(variance + max(_variance_of_centre(values), variance / len(values)))
            level[place] = np.exp(np.median(values) + stdtrit(freedom, 1 - alphas[place]) * spread)
    return level


def _upper_variance(values: Array) -> float:
    """About the median, of the larger ones: that a partition hardly moved says nothing about how far one may."""
    off = values - np.median(values)
    return float(np.mean(off[off >= 0] ** 2))


def _variance_of_centre(values: Array) -> float:
    """Of a series that depends on itself, by a circular block bootstrap; blocks of n^(1/3)."""
    count = len(values)
    length = int(np.ceil(count ** (1 / 3)))
    starts = np.random.default_rng(SEED).integers(0, count, (RESAMPLES, -(-count // length)))
    drawn = (starts[..., None] + np.arange(length)).reshape(RESAMPLES, -1)[:, :count] % count
    return float(np.median(values[drawn], axis=1).var())


def _quantile(values: Array, alpha: float) -> float:
    """Of a positive quantity, beyond what was drawn: its logarithm is taken as normal."""
    from scipy.special import ndtri

    positive = np.log(values[values > 0])
    return float(np.exp(positive.mean() + ndtri(1 - alpha) * positive.std())) if len(positive) else 0.0


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
