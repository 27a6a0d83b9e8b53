"""Another unit: the change of units that makes a strange number an ordinary one again."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipelines.ingest.shape.units import UNITS
from pipelines.monitoring.column import ColumnProfile

# A factor of 1.6 is too small to be told from what happens anyway, unless the step itself is beyond what is usual.
CHANGES = UNITS | {"miles and kilometres": (1.609344, 0.0)}
NEARER = 4.0  # times, that the change has to bring it
MOSTLY = 0.5  # of the values, in one bin
NEAR = 0.5  # standard deviations of the mean, or of the logarithm of the spread


def other_unit(found: ColumnProfile, before: Sequence[ColumnProfile], *, is_certain: bool = False) -> str | None:
    """The change of units, new = old * factor + offset or the reverse, that brings mean and spread of `found` next to
    those of one of the partitions `before`.

    None where it is near already, where none brings it near, or where a side has no spread; nor of a number that mostly
    is one value, as no rain is: a wet week has a multiple of a dry one's mean and spread, and is no other unit.
    `is_certain`: only changes that are large enough to be told from what happens anyway.
    """
    if any(max(one.counts[:-2], default=0) > MOSTLY * one.told for one in before):
        return None
    past = [(one.mean, one.std) for one in before if one.mean is not None and one.std]
    if not past or found.mean is None or not found.std:
        return None

    def off(mean: float, std: float) -> float:
        return min(abs(mean - its) / spread + float(abs(np.log(std / spread))) for its, spread in past)

    undone = {
        name: min(
            off((found.mean - offset) / factor, found.std / abs(factor)),
            off(found.mean * factor + offset, found.std * abs(factor)),
        )
        for name, (factor, offset) in (UNITS if is_certain else CHANGES).items()
    }
    name = min(undone, key=lambda one: undone[one])
    is_it = undone[name] < min(NEAR, off(found.mean, found.std) / NEARER)
    return name if is_it else None
