"""Reading evidence that may be missing or broken: each gives what was asked for, or None, and never raises."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime
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
    leaf = at(tree, *path)
    if not isinstance(leaf, (int, float)) or isinstance(leaf, bool):
        return None
    try:
        value = float(leaf)
    except OverflowError:
        return None
    return value if math.isfinite(value) else None


def text(tree: Any, *path: str) -> str | None:
    value = at(tree, *path)
    return value if isinstance(value, str) and value else None


def texts(tree: Any, *path: str) -> list[str] | None:
    """A list of texts, that may be empty."""
    values = at(tree, *path)
    if not isinstance(values, list) or not all(isinstance(value, str) and value for value in values):
        return None
    return values


def entries(tree: Any, *path: str) -> list[Any] | None:
    values = at(tree, *path)
    return values if isinstance(values, list) else None


def span(tree: Any, *path: str) -> Span | None:
    """An interval, whole and the right way round."""
    interval = at(tree, *path)
    value, low, high = (number(interval, part) for part in Span._fields)
    if value is None or low is None or high is None or not low <= value <= high:
        return None
    return Span(value, low, high)


def moment(tree: Any, *path: str) -> datetime | None:
    """A time with its zone, from ISO."""
    try:
        time = datetime.fromisoformat(text(tree, *path) or "")
    except ValueError:
        return None
    return time if time.tzinfo else None


def show(value: float | None) -> str:
    return "missing" if value is None else f"{value:.4f}"
