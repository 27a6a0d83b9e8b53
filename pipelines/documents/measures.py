"""Measured numbers, as every document has them."""

from __future__ import annotations

Interval = dict[str, float | None]
"""A number and the ends of its interval: value, low, high; None where one is not defined."""

Measured = dict[str, float | None]
"""Numbers by their metric; None where one is not defined."""
