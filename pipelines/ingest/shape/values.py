"""Values that there never were, and values that are gone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipelines.config import Shape
from pipelines.ingest.shape.distance import FEWEST_VALUES, FLOOR, allowed
from pipelines.ingest.shape.profile import ColumnShape

VALUES_FROM = 5  # partitions that are taken to have shown nearly all values that there are


def judge_values(settings: Shape, name: str, past: Sequence[ColumnShape], column: ColumnShape) -> dict[str, float]:
    """What is measured is rounded, and in another unit to other numbers; or it lies where nothing ever lay."""
    counts, now = ([round(one.count * one.told_share) for one in several] for several in (past, [column]))
    if len(past) < VALUES_FROM or min(*counts, *now) < FEWEST_VALUES:
        return {}
    kinds = {"unseen": "values between the known ones", "beyond": "values beyond all known ones"}
    if column.kind == "pair":
        kinds = {"pairs": "combinations that there never were"}
    seen = [_strange(one, [*past[:place], *past[place + 1 :]]) for place, one in enumerate(past)]
    found = {}
    for (kind, words), far, usual in zip(kinds.items(), _strange(column, past), np.max(seen, axis=0), strict=False):
        found[f"{name}: {words}"] = far / allowed(FLOOR[kind], settings.tolerance * usual, counts, now[0])
    # No share is more than all: hardly any value known is odd, however many strange ones are usual.
    usual, limit = float(np.max(np.sum(seen, axis=1))), allowed(FLOOR["unseen"], 0.0, counts, now[0])
    if column.kind == "number" and usual < 0.5:
        found[f"{name}: hardly a known value"] = sum(_strange(column, past)) / max((1 + usual) / 2, limit)
    return found


def _strange(column: ColumnShape, past: Sequence[ColumnShape]) -> tuple[float, float]:
    """Share of values that the past has not, though it has smaller and larger ones; and of those beyond all of it."""
    known = np.concatenate([one.known for one in past])
    is_between = (column.known >= known.min()) & (column.known <= known.max()) | (column.kind == "pair")
    unseen = is_between & ~np.isin(column.known, known)
    return float(column.known_shares[unseen].sum()), float(column.known_shares[~is_between].sum())


def judge_gone(past: Sequence[ColumnShape], column: ColumnShape) -> float:
    """Share that values had at least in every partition, and have no tenth of now."""
    least = np.min([one.shares for one in past], axis=0)
    is_gone = (column.shares < least / 10) & (least * column.count >= FEWEST_VALUES)
    return float(least[is_gone].sum()) / FLOOR["gone"]
