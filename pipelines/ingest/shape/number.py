"""A number's values: other ones, frozen ones, another unit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from pipelines.config import Shape
from pipelines.ingest.shape.distance import (
    FEWEST_VALUES,
    FLOOR,
    Suspicion,
    allowed,
    distances,
    drawn,
    independent,
    nearest,
    wider,
)
from pipelines.ingest.shape.profile import Array, ColumnShape
from pipelines.ingest.shape.units import CERTAIN, NEARER, Change, changes_of, tenfold

FEWEST_DIFFERENT = 3  # values from which on it is said how large they are
UNIT_AT = 0.6  # of the distance that is suspicious by itself: from there on the units of a column's kind are thought of
DEVIATIONS = "standard deviations from the nearest partition before"
MAGNITUDES = "e-folds from the sizes in the nearest partition before"


def judge_number(
    settings: Shape, name: str, past: Sequence[ColumnShape], column: ColumnShape, unit: str
) -> dict[str, Suspicion]:
    scale = _scale(past)
    if not scale > 0:
        return {}  # a column that never moved tells nothing about how it moves
    quantiles = [column_then.values / scale for column_then in past]
    spreads, counts, now = (
        [column_then.spread for column_then in past],
        [column_then.count for column_then in past],
        drawn(past, column),
    )
    far, usual = distances(quantiles, column.values / scale, "number")
    limit = allowed(FLOOR["number"], settings.tolerance * usual, counts, now, independent(past, column))
    values = Suspicion(far, usual, limit, DEVIATIONS)
    suspicions = {f"{name}: other values": values}
    if column.count >= FEWEST_VALUES:
        narrower, steady = (min(spreads) / max(width, 1e-3 * scale) for width in (column.spread, max(spreads)))
        limit = FLOOR["spread"] * settings.tolerance * wider(counts, column.count)
        what = "times as narrow as the narrowest partition before"
        suspicions[f"{name}: frozen"] = Suspicion(narrower, 1 / steady, limit / steady, what)
    return suspicions | judge_unit(settings, name, past, column, unit)


def judge_unit(
    settings: Shape, name: str, past: Sequence[ColumnShape], column: ColumnShape, unit: str
) -> dict[str, Suspicion]:
    """The change of units that makes an odd partition an ordinary one, if there is one.

    Of a number that never moved there is none. Without a declared `unit` of their kind only changes by a factor of ten
    or more are thought of: what has doubled, or shrunk to a third, is near one of the others anyway.
    """
    scale = _scale(past)
    if not scale > 0:
        return {}
    quantiles, counts, now = (
        [column_then.values / scale for column_then in past],
        [column_then.count for column_then in past],
        drawn(past, column),
    )
    far, usual = distances(quantiles, column.values / scale, "number")
    limit = allowed(FLOOR["number"], settings.tolerance * usual, counts, now, independent(past, column))
    changes, is_declared = changes_of(unit)
    near = min(FLOOR["number"] + usual / 2, far / (NEARER if is_declared else CERTAIN))
    from_here = allowed(FLOOR["number"], UNIT_AT * settings.tolerance * usual, counts, now, independent(past, column))
    if far <= (from_here if is_declared else limit):
        return {}
    thought_of = changes if is_declared else tenfold(changes)
    undone = ((name, np.sort(changed) / scale) for name, changed in _undone(thought_of, column.values))
    return _renamed(name, Suspicion(far, usual, limit, DEVIATIONS), _likeliest(quantiles, undone, near))


def _scale(past: Sequence[ColumnShape]) -> float:
    return float(np.sqrt(np.mean([column.spread**2 for column in past])))


def judge_distinct(past: Sequence[ColumnShape], column: ColumnShape) -> Suspicion:
    """A sensor that is stuck says few different things, even where several of them are; one that is read otherwise,
    many. Fewer rows may say fewer, and more rows more."""
    known = np.log([column_then.distinct for column_then in past])
    fewer = min(0.0, float(np.log(column.count / max(column_then.count for column_then in past))))
    more = max(0.0, float(np.log(column.count / min(column_then.count for column_then in past))))
    far = max(known.min() + fewer - np.log(column.distinct), np.log(column.distinct) - known.max() - more, 0.0)
    usual = float(known.max() - known.min())
    chance = max(FLOOR["distinct"], 2 * allowed(0.0, 0.0, [column.count], drawn(past, column)))
    return Suspicion(float(far), usual, chance + usual, "e-folds from as many different values as there were before")


def judge_rest(
    settings: Shape, name: str, past: Sequence[ColumnShape], column: ColumnShape, unit: str
) -> dict[str, Suspicion]:
    """Of a number that mostly is zero, as no rain is, the size of the others, by the quantiles of their logarithms.

    Zero is zero in any unit; where another value is the most frequent, its change is seen without this.

    A partition with hardly any different ones, after a dry week, says nothing. Their number, not that of the rows,
    tells how much chance there is: an hour of rain is one and the same for all rows of it.
    """
    past = [column_then for column_then in past if _has_rest(column_then)]
    if len(past) < settings.min_partitions or not _has_rest(column):
        return {}
    logarithms, different = (
        [column_then.rest for column_then in past],
        [column_then.rest_distinct for column_then in past],
    )
    far, usual = distances(logarithms, column.rest, "number")
    limit = allowed(FLOOR["rest"], settings.tolerance * usual, different, column.rest_distinct)
    sizes = Suspicion(far, usual, limit, MAGNITUDES)
    suspicions = {f"{name}: values of another size": sizes}
    changes, is_declared = changes_of(unit)
    if sizes.ratio > (UNIT_AT if is_declared else 1.0):
        changes = changes if is_declared else tenfold(changes)
        factors = [(name, np.log(factor)) for name, (factor, offset) in changes.items() if factor > 0 and not offset]
        undone = ((name, column.rest + sign * factor) for name, factor in factors for sign in (-1, 1))
        suspicions |= _renamed(name, sizes, _likeliest(logarithms, undone, min(FLOOR["rest"] + usual / 2, far / 2)))
    return suspicions


def _renamed(name: str, values: Suspicion, unit: str | None) -> dict[str, Suspicion]:
    """The suspicion of a change of units, which stands before that of other values."""
    if unit is None:
        return {}
    limit = min(values.limit / 1.01, values.value / 1.01)
    return {f"{name}: other unit ({unit})": values._replace(limit=limit)}


def _has_rest(column: ColumnShape) -> bool:
    is_mostly_zero = len(column.values) > 0 and column.values[len(column.values) // 2] == 0
    rows = column.count * (1 - column.mode_share)
    return is_mostly_zero and column.rest_distinct >= FEWEST_DIFFERENT and rows >= FEWEST_VALUES


def _undone(changes: Mapping[str, Change], values: Array) -> Iterable[tuple[str, Array]]:
    for name, (factor, offset) in changes.items():
        yield name, (values - offset) / factor
        yield name, values * factor + offset


def _likeliest(past: Sequence[Array], undone: Iterable[tuple[str, Array]], near: float) -> str | None:
    """The change of units that brings an odd partition nearest to the others; None where none brings it `near`."""
    distance, name = min((nearest(past, values, "number"), name) for name, values in undone)
    return name if distance < near else None
