"""Faults that somebody makes in problem.yaml or in its queries."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchmarks.gauntlet.faults.fault import Fault, Site


def _outcome_as_feature(column: str, expression: str, available: str) -> Callable[[Site], None]:
    """A column that is learnt with the outcome, declared as a feature, and all that is known ingested anew."""

    def harm(site: Site) -> None:
        path = site.folder / "events.sql"
        text = path.read_text()
        path.unlink()
        path.write_text(text.replace("    f.carrier,\n", f"    f.carrier,\n    {expression} AS {column},\n", 1))

        def declare(raw: dict[str, Any]) -> None:
            raw["columns"][column] = {"type": "float", "available": available}
            raw["features"]["columns"].append(column)

        site.configure(declare)
        site.weeks = (site.stretch.history[0], site.weeks[1])
        site.pin(restate=True)

    return harm


def _set(change: Callable[[dict[str, Any]], object]) -> Callable[[Site], None]:
    return lambda site: site.configure(change)


FAULTS = [
    Fault(
        "departure delay as a feature",
        "leaks",
        "history",
        _outcome_as_feature("dep_delay", "f.dep_delay", "cutoff"),
        is_critical=True,
    ),
    Fault(
        "time in the air as a feature",
        "leaks",
        "history",
        _outcome_as_feature("air_time", "f.air_time", "later"),
        is_critical=True,
    ),
    Fault(
        "arrival time as a feature",
        "leaks",
        "history",
        _outcome_as_feature("arrived", "f.arr_time + 0.0 * f.dep_delay", "cutoff"),
        is_critical=True,
    ),
    Fault(
        "gate without thresholds",
        "thresholds",
        "evaluated",
        _set(lambda raw: raw["gate"].update(limits={}, gain_over_baselines={}, gain_over_champion={})),
    ),
    Fault("gate without limits", "thresholds", "evaluated", _set(lambda raw: raw["gate"].update(limits={}))),
    Fault(
        "gate without a champion's threshold",
        "thresholds",
        "evaluated",
        _set(lambda raw: raw["gate"].pop("gain_over_champion")),
    ),
]
