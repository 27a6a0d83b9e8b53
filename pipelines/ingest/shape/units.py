"""What people change units by, and which of it may have happened to a column."""

from __future__ import annotations

import re
from collections.abc import Mapping

Change = tuple[float, float]

# (factor, offset), new = old * factor + offset; each is tried both ways.
KINDS: dict[str, tuple[frozenset[str], dict[str, Change]]] = {
    "temperature": (
        frozenset(["degf", "degc", "f", "c", "k", "°f", "°c", "fahrenheit", "celsius", "kelvin", "degree", "degrees"]),
        {"degrees Fahrenheit and Celsius": (5 / 9, -160 / 9), "Celsius and Kelvin": (1.0, 273.15)},
    ),
    "speed": (
        frozenset(["mph", "m/s", "km/h", "kmh", "kph", "knot", "knots", "kn"]),
        {
            "miles per hour and metres per second": (0.44704, 0.0),
            "kilometres per hour and metres per second": (3.6, 0.0),
        },
    ),
    "length": (
        frozenset(
            [
                "mile",
                "miles",
                "mi",
                "m",
                "metre",
                "metres",
                "meter",
                "meters",
                "km",
                "kilometre",
                "kilometres",
                "kilometer",
                "kilometers",
                "foot",
                "feet",
                "ft",
                "inch",
                "inches",
                "in",
                "cm",
                "centimetre",
                "centimetres",
                "centimeter",
                "centimeters",
                "mm",
                "millimetre",
                "millimetres",
                "millimeter",
                "millimeters",
            ]
        ),
        {
            "miles and metres": (1609.344, 0.0),
            "feet and metres": (0.3048, 0.0),
            "inches and centimetres": (2.54, 0.0),
            "inches and millimetres": (25.4, 0.0),
        },
    ),
    "weight": (
        frozenset(
            ["lb", "lbs", "pound", "pounds", "kg", "kilogram", "kilograms", "g", "gram", "grams", "oz", "ounces"]
        ),
        {"pounds and kilograms": (0.45359237, 0.0)},
    ),
    "pressure": (
        frozenset(["inhg", "millibar", "millibars", "mbar", "hpa", "mmhg"]),
        {"inches of mercury and millibar": (33.8639, 0.0)},
    ),
    "time": (
        frozenset(["second", "seconds", "s", "minute", "minutes", "min", "hour", "hours", "h", "day", "days", "d"]),
        {"a factor of 60": (60.0, 0.0), "a factor of 3,600": (3600.0, 0.0), "hours and days": (24.0, 0.0)},
    ),
}
# Of whatever is measured.
GENERAL: dict[str, Change] = {
    "a factor of 10": (10.0, 0.0),
    "percent and shares": (100.0, 0.0),
    "thousands and ones": (1000.0, 0.0),
    "the sign": (-1.0, 0.0),
}
# Too slight to be told from what happens anyway, unless the step itself is beyond what is usual.
SLIGHT: dict[str, dict[str, Change]] = {kind: {"miles and kilometres": (1.609344, 0.0)} for kind in ("speed", "length")}
UNITS: dict[str, Change] = {name: change for _, changes in KINDS.values() for name, change in changes.items()} | GENERAL
NEARER = 4.0  # times, that a change of units of the declared kind has to bring a column
CERTAIN = 10.0  # times nearer, that it takes where no unit of that kind is declared


def changes_of(unit: str, *, with_slight: bool = False) -> tuple[Mapping[str, Change], bool]:
    """Changes of units that a column may have gone through, by its declared `unit`; and whether that names their kind.

    A column without a unit may be anything; one whose unit is of no kind that is known, such as euro, is still
    measured in tens, hundreds or thousands of it. `with_slight`: also those of a kind that are `SLIGHT`.

    >>> [*changes_of("lb")[0]][:1], changes_of("lb")[1], [*changes_of("euro")[0]] == [*GENERAL], changes_of("")[1]
    (['pounds and kilograms'], True, True, False)
    """
    words = set(re.findall(r"[a-z°/]+", unit.lower()))
    kinds = [kind for kind, (known, _) in KINDS.items() if not unit or words & known]
    changes = {name: change for kind in kinds for name, change in KINDS[kind][1].items()}
    if with_slight:
        changes |= {name: change for kind in kinds for name, change in SLIGHT.get(kind, {}).items()}
    return changes | GENERAL, bool(unit and kinds)


def tenfold(changes: Mapping[str, Change]) -> dict[str, Change]:
    """Those that nothing but a change of units is likely to look like: by a factor of ten or more, or of the sign.

    >>> [*tenfold(changes_of("inch")[0])][:2]
    ['miles and metres', 'inches and millimetres']
    """
    return {name: (factor, offset) for name, (factor, offset) in changes.items() if factor < 0 or factor >= 10}
