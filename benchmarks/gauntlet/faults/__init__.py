"""The faults, by name."""

from __future__ import annotations

from benchmarks.gauntlet.faults import evidence, labels, models, settings, sources, training
from benchmarks.gauntlet.faults.fault import Fault, Site

__all__ = ["FAULTS", "Fault", "Site"]

FAULTS: dict[str, Fault] = {
    one.name: one for module in (sources, labels, settings, training, models, evidence) for one in module.FAULTS
}
