"""Reading evidence that may be missing or broken: each gives what was asked for, or None, and never raises."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import date, datetime
from typing import Any, NamedTuple


class Span(NamedTuple):
    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:+.4f} ({self.low:+.4f} to {self.high:+.4f})"


def at(tree: Any, *path: str) -> Any:
    """What lies at the end of a path of keys.

    >>> at({"a": {"b": 1}}, "a", "b"), at({"a": None}, "a", "b")
    (1, None)
    """
    for key in path:
        if not isinstance(tree, Mapping):
            return None
        tree = tree.get(key)
    return tree


def number(tree: Any, *path: str) -> float | None:
    """A finite number."""
    found = at(tree, *path)
    if not isinstance(found, (int, float)) or isinstance(found, bool):
        return None
    try:
        value = float(found)
    except OverflowError:
        return None
    return value if math.isfinite(value) else None


def text(tree: Any, *path: str) -> str | None:
    found = at(tree, *path)
    return found if isinstance(found, str) and found else None


def texts(tree: Any, *path: str) -> list[str] | None:
    """A list of texts, that may be empty."""
    found = at(tree, *path)
    if not isinstance(found, list) or not all(isinstance(one, str) and one for one in found):
        return None
    return found


def entries(tree: Any, *path: str) -> list[Any] | None:
    found = at(tree, *path)
    return found if isinstance(found, list) else None


def span(tree: Any, *path: str) -> Span | None:
    """An interval, whole and the right way round."""
    found = at(tree, *path)
    value, low, high = (number(found, part) for part in Span._fields)
    if value is None or low is None or high is None or not low <= value <= high:
        return None
    return Span(value, low, high)


def moment(tree: Any, *path: str) -> datetime | None:
    """A time with its zone, from ISO."""
    try:
        found = datetime.fromisoformat(text(tree, *path) or "")
    except ValueError:
        return None
    return found if found.tzinfo else None


def is_day(value: Any) -> bool:
    """Whether it names a partition: 2024-01-31."""
    try:
        return isinstance(value, str) and date.fromisoformat(value).isoformat() == value
    except ValueError:
        return False


def show(value: float | None) -> str:
    return "missing" if value is None else f"{value:.4f}"
