"""Values that there never were, and values that are gone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipelines.config import Shape
from pipelines.ingest.shape.distance import (
    A_DAY_OR_TWO,
    CLUSTERED,
    FEWEST_VALUES,
    FLOOR,
    Suspicion,
    allowed,
    drawn,
    independent,
)
from pipelines.ingest.shape.profile import ColumnShape

VALUES_FROM = 5  # partitions that are taken to have shown nearly all values that there are


def judge_values(settings: Shape, name: str, past: Sequence[ColumnShape], column: ColumnShape) -> dict[str, Suspicion]:
    """What is measured is rounded, and in another unit to other numbers; or it lies where nothing ever lay."""
    counts = [round(column_then.count * column_then.told_share) for column_then in past]
    now = round(drawn(past, column) * column.told_share)
    if len(past) < VALUES_FROM or min(*counts, now) < FEWEST_VALUES:
        return {}
    kinds = {"unseen": "values between the known ones", "beyond": "values beyond all known ones"}
    if column.kind == "pair":
        kinds = {"pairs": "combinations that there never were"}
    strange_then = [
        _strange(column_then, [*past[:place], *past[place + 1 :]]) for place, column_then in enumerate(past)
    ]
    suspicions = {}
    of_their_own = independent(past, column) * column.told_share
    shares = zip(kinds.items(), _strange(column, past), np.max(strange_then, axis=0), strict=False)
    for (kind, words), far, usual in shares:
        limit = allowed(FLOOR[kind], settings.tolerance * usual, counts, now, of_their_own)
        suspicions[f"{name}: {words}"] = Suspicion(far, float(usual), limit, "of the values")
    # No share is more than all: hardly any value known is odd, however many strange ones are usual.
    usual, limit = float(np.max(np.sum(strange_then, axis=1))), allowed(FLOOR["unseen"], 0.0, counts, now, of_their_own)
    if column.kind == "number" and usual < 0.5:
        strange = sum(_strange(column, past))
        known = Suspicion(strange, usual, max((2 + usual) / 3, limit), "of the values were not there before")
        suspicions[f"{name}: hardly a known value"] = known
    return suspicions


def _strange(column: ColumnShape, past: Sequence[ColumnShape]) -> tuple[float, float]:
    """Share of values that the past has not, though it has smaller and larger ones; and of those beyond all of it.

    Of combinations, as much as of the rows also of the different ones: many rows of one that is new are one group of
    travellers, and codes that were exchanged make many new ones.
    """
    known = np.concatenate([column_then.known for column_then in past])
    is_pair = column.kind == "pair"
    is_between = (column.known >= known.min()) & (column.known <= known.max()) | is_pair
    unseen = is_between & ~np.isin(column.known, known)
    share = float(column.known_shares[unseen].sum())
    if is_pair:
        share = min(share, float(unseen.mean()))
    return share, float(column.known_shares[~is_between].sum())


def judge_gone(past: Sequence[ColumnShape], column: ColumnShape) -> Suspicion:
    """Share that values had in every partition, never less than half of their mean, and have no tenth of now."""
    shares = np.stack([column_then.shares for column_then in past])
    least = shares.min(axis=0)
    is_steady = (least * column.count >= FEWEST_VALUES) & (least >= shares.mean(axis=0) / 2)
    gone = float(least[is_steady & (column.shares < least / 10)].sum())
    draws = drawn(past, column)
    chance = A_DAY_OR_TWO / draws if draws < column.count else np.sqrt(CLUSTERED / column.count)
    limit = max(FLOOR["gone"], float(chance))
    return Suspicion(gone, 0.0, limit, "of the rows had values that are gone")
