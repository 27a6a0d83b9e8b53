"""What a decision rests on beside the diagnosis: the ways to act, and what was measured of them."""

from __future__ import annotations

from pipelines.monitoring.decide.decide import Option
from pipelines.monitoring.decide.readings import Reading
from pipelines.profiles.column import Frozen


class Weighing(Frozen):
    """Each way to act with its expected gain, its cost, and why it was not taken; and the new readings."""

    options: tuple[Option, ...] = ()
    readings: tuple[Reading, ...] = ()
