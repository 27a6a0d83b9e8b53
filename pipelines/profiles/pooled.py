"""pooled: neighbouring partitions that are judged together, where one alone has too few rows to prove anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce

from pipelines.profiles.column import ColumnProfile, merge
from pipelines.profiles.profile import SCORE, Profiles


def windows(rows: Sequence[int], enough: int) -> list[range]:
    """Places of neighbouring partitions that together have at least `enough` rows, the oldest window first.

    Windows are filled from the newest partition backwards, so that the newest is always in the last one. What is left
    over at the old end, too few rows, is dropped, unless it is all there is.

    >>> windows([500, 300, 120, 90], 200), windows([150, 120], 200), windows([30, 40], 200), windows([], 200)
    ([range(0, 1), range(1, 2), range(2, 4)], [range(0, 2)], [range(0, 2)], [])
    """
    pools: list[range] = []
    end, total = len(rows), 0
    for place in range(len(rows) - 1, -1, -1):
        total += rows[place]
        if total >= enough:
            pools.append(range(place, end))
            end, total = place, 0
    if not pools and rows:
        pools.append(range(len(rows)))
    return pools[::-1]


def pooled_profiles(partitions: Mapping[str, Profiles], enough: int) -> dict[str, Profiles]:
    """Profiles of windows of neighbouring partitions (oldest first), each under its newest partition's key."""
    keys = list(partitions)
    rows = [partitions[key][SCORE].rows for key in keys]
    return {
        keys[window[-1]]: _merged([partitions[keys[place]] for place in window]) for window in windows(rows, enough)
    }


def _merged(parts: Sequence[Profiles]) -> dict[str, ColumnProfile]:
    return {name: reduce(merge, [part[name] for part in parts]) for name in parts[0]}
