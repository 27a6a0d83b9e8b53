"""A number's values: other ones, frozen ones, another unit."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from pipelines.config import Shape
from pipelines.ingest.shape.distance import FEWEST_VALUES, FLOOR, allowed, distances, nearest, wider
from pipelines.ingest.shape.profile import Array, ColumnShape

FEWEST_DIFFERENT = 3  # values from which on it is said how large they are
UNIT_AT = 0.6  # of the distance that is suspicious by itself: from there on a change of units is thought of
# What people change units by: (factor, offset), new = old * factor + offset; each is tried both ways.
UNITS = {
    "degrees Fahrenheit and Celsius": (5 / 9, -160 / 9),
    "Celsius and Kelvin": (1.0, 273.15),
    "miles and metres": (1609.344, 0.0),
    "miles per hour and metres per second": (0.44704, 0.0),
    "kilometres per hour and metres per second": (3.6, 0.0),
    "feet and metres": (0.3048, 0.0),
    "inches and centimetres": (2.54, 0.0),
    "inches and millimetres": (25.4, 0.0),
    "pounds and kilograms": (0.45359237, 0.0),
    "inches of mercury and millibar": (33.8639, 0.0),
    "a factor of 10": (10.0, 0.0),
    "percent and shares": (100.0, 0.0),
    "thousands and ones": (1000.0, 0.0),
    "a factor of 60": (60.0, 0.0),
    "a factor of 3,600": (3600.0, 0.0),
    "hours and days": (24.0, 0.0),
    "the sign": (-1.0, 0.0),
}


def judge_number(settings: Shape, name: str, past: Sequence[ColumnShape], column: ColumnShape) -> dict[str, float]:
    scale = float(np.sqrt(np.mean([one.spread**2 for one in past])))
    if not scale > 0:
        return {}  # a column that never moved tells nothing about how it moves
    quantiles = [one.values / scale for one in past]
    spreads, counts = [one.spread for one in past], [one.count for one in past]
    far, usual = distances(quantiles, column.values / scale, "number")
    off = far / allowed(FLOOR["number"], settings.tolerance * usual, counts, column.count)
    found = {f"{name}: other values": off}
    if column.count >= FEWEST_VALUES:
        narrower, steady = (min(spreads) / max(width, 1e-3 * scale) for width in (column.spread, max(spreads)))
        limit = FLOOR["spread"] * settings.tolerance * wider(counts, column.count)
        found[f"{name}: frozen"] = narrower * steady / limit
    if far > allowed(FLOOR["number"], UNIT_AT * settings.tolerance * usual, counts, column.count):
        undone = ((name, np.sort(values) / scale) for name, values in _undone(column.values))
        unit = _likeliest(quantiles, undone, min(FLOOR["number"] + usual / 2, far / 4))
        found |= {f"{name}: other unit ({unit})": 1.01 * max(off, 1.0)} if unit else {}
    return found


def judge_distinct(past: Sequence[ColumnShape], column: ColumnShape) -> float:
    """A sensor that is stuck says few different things, even where several of them are; one that is read otherwise,
    many. Fewer rows may say fewer, and more rows more."""
    known = np.log([one.distinct for one in past])
    fewer = min(0.0, float(np.log(column.count / max(one.count for one in past))))
    more = max(0.0, float(np.log(column.count / min(one.count for one in past))))
    far = max(known.min() + fewer - np.log(column.distinct), np.log(column.distinct) - known.max() - more, 0.0)
    return float(far / (FLOOR["distinct"] + known.max() - known.min()))


def judge_rest(settings: Shape, name: str, past: Sequence[ColumnShape], column: ColumnShape) -> dict[str, float]:
    """Of a number that mostly is zero, as no rain is, the size of the others, by the quantiles of their logarithms.

    Zero is zero in any unit; where another value is the most frequent, its change is seen without this.

    A partition with hardly any different ones, after a dry week, says nothing. Their number, not that of the rows,
    tells how much chance there is: an hour of rain is one and the same for all rows of it.
    """
    past = [one for one in past if _has_rest(one)]
    if len(past) < settings.min_partitions or not _has_rest(column):
        return {}
    logarithms, different = [one.rest for one in past], [one.rest_distinct for one in past]
    far, usual = distances(logarithms, column.rest, "number")
    off = far / allowed(FLOOR["rest"], settings.tolerance * usual, different, column.rest_distinct)
    found = {f"{name}: values of another size": off}
    if off > UNIT_AT:
        factors = [(name, np.log(factor)) for name, (factor, offset) in UNITS.items() if factor > 0 and not offset]
        undone = ((name, column.rest + sign * factor) for name, factor in factors for sign in (-1, 1))
        unit = _likeliest(logarithms, undone, min(FLOOR["rest"] + usual / 2, far / 2))
        found |= {f"{name}: other unit ({unit})": 1.01 * max(off, 1.0)} if unit else {}
    return found


def _has_rest(column: ColumnShape) -> bool:
    is_mostly_zero = len(column.values) > 0 and column.values[len(column.values) // 2] == 0
    rows = column.count * (1 - column.mode_share)
    return is_mostly_zero and column.rest_distinct >= FEWEST_DIFFERENT and rows >= FEWEST_VALUES


def _undone(values: Array) -> Iterable[tuple[str, Array]]:
    for name, (factor, offset) in UNITS.items():
        yield name, (values - offset) / factor
        yield name, values * factor + offset


def _likeliest(past: Sequence[Array], undone: Iterable[tuple[str, Array]], near: float) -> str | None:
    """The change of units that brings an odd partition nearest to the others; None where none brings it `near`."""
    distance, name = min((nearest(past, values, "number"), name) for name, values in undone)
    return name if distance < near else None
