"""shares: the partitions of a training set in groups, of which each has its features computed at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

SHARE_ROWS = 500_000
"""Rows of events in a share, at most, unless one partition has more: their features take a task half a minute, to which
its start and the past that it reads beside them add little; and a problem that has fewer rows keeps one task."""


def shares(keys: Sequence[str], rows: Mapping[str, int]) -> list[list[str]]:
    """`keys` in their order, in groups of at most `SHARE_ROWS` rows together, or of one partition.

    >>> shares(["a", "b", "c", "d"], {"a": 300_000, "b": 200_000, "c": 900_000, "d": 1})
    [['a', 'b'], ['c'], ['d']]
    """
    parted: list[list[str]] = []
    held = SHARE_ROWS
    for key in keys:
        held += rows.get(key, 0)
        if held > SHARE_ROWS or not parted:
            parted.append([])
            held = rows.get(key, 0)
        parted[-1].append(key)
    return parted
