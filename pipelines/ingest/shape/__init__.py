"""Shape rules: does a partition look like those before it, or has something happened to the feed?

What a column may hold says nothing about degrees that became Celsius, a column that froze, or last week's file sent
once more. Those show only beside the partitions before: how far a column usually moves from one to the next is known,
and a partition that lies several times as far off from *all* of them is not a season but a fault.
"""

from __future__ import annotations

from pipelines.ingest.shape.measure import LARGEST, shapes
from pipelines.ingest.shape.profile import ColumnShape, Moments, PartitionShape
from pipelines.ingest.shape.rules import shape_refusals, shape_rules
from pipelines.ingest.shape.units import UNITS

__all__ = [
    "LARGEST",
    "UNITS",
    "ColumnShape",
    "Moments",
    "PartitionShape",
    "shape_refusals",
    "shape_rules",
    "shapes",
]
