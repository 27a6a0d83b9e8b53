"""Another unit: the change of units that makes a strange number an ordinary one again."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipelines.ingest.shape.units import CERTAIN, GENERAL, NEARER, changes_of
from pipelines.profiles.column import ColumnProfile

MOSTLY = 0.5  # of the values, in one bin
NEAR = 0.5  # standard deviations of the mean, or of the logarithm of the spread


def other_unit(
    newest: ColumnProfile,
    before: Sequence[ColumnProfile],
    unit: str = "",
    *,
    is_step: bool = True,
    is_far: bool = True,
) -> str | None:
    """The change of units, new = old * factor + offset or the reverse, that brings mean and spread of `newest` next to
    those of one of the partitions `before`.

    Args:
        newest: the column in the partition that is judged.
        before: the same column in earlier partitions.
        unit: as declared of the column. A change of that kind has to bring it `NEARER`; any other, of which a price or
            a mild week is not free, takes overwhelming evidence: `CERTAIN`, of what `is_far`.
        is_step: whether the column moved by more than is usual. Only then is a slight change told from what happens
            anyway.
        is_far: whether it lies far from each of `before`, whatever is usual.

    None where it is near already, where none brings it near, or where a side has no spread; nor of a number that mostly
    is one value, as no rain is: a wet week has a multiple of a dry one's mean and spread, and is no other unit. Of what
    has been on both sides of zero the sign is not told: a warm week may be the mirror of a frosty one.
    """
    if any(max(part.counts[:-2], default=0) > MOSTLY * part.valued for part in before):
        return None
    past = [(part.mean, part.std) for part in before if part.mean is not None and part.std]
    if not past or newest.mean is None or not newest.std:
        return None

    def off(mean: float, std: float) -> float:
        return min(abs(mean - usual) / spread + float(abs(np.log(std / spread))) for usual, spread in past)

    changes, is_declared = changes_of(unit, with_slight=is_step)
    has_sign = _is_one_sided(before)
    now, likely = off(newest.mean, newest.std), {}
    for name, (factor, offset) in changes.items():
        is_of_kind = is_declared and name not in GENERAL
        if not (is_of_kind or is_far) or (factor < 0 and not has_sign):
            continue
        undone = min(
            off((newest.mean - offset) / factor, newest.std / abs(factor)),
            off(newest.mean * factor + offset, newest.std * abs(factor)),
        )
        if undone < min(NEAR, now / (NEARER if is_of_kind else CERTAIN)):
            likely[name] = undone
    return min(likely, key=lambda name: likely[name], default=None)


def _is_one_sided(before: Sequence[ColumnProfile]) -> bool:
    """Whether no value was below zero, or none above it."""
    lowest = min((part.min for part in before if part.min is not None), default=0.0)
    highest = max((part.max for part in before if part.max is not None), default=0.0)
    return lowest >= 0 or highest <= 0
