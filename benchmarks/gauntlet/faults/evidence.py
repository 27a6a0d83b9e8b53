"""Faults of the evidence: the evaluation in the store is missing, harmed or another one's, and the gate is to judge."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from benchmarks.gauntlet.faults.fault import Fault, Site


def _changed(change: Callable[[dict[str, Any]], object]) -> Callable[[Site], None]:
    def harm(site: Site) -> None:
        from pipelines import store

        uri = site.pins["evaluate"]["evaluation"]
        evaluation = store.read_json(uri)
        change(evaluation)
        store.write_json(uri, evaluation)

    return harm


def _gone(site: Site) -> None:
    from pipelines import store

    store.delete(site.pins["evaluate"]["evaluation"])


def _of_another(site: Site) -> None:
    """The evaluation of the training before."""
    from pipelines import store

    others = site.pins["earlier"]["evaluate"]["evaluation"]
    store.write_json(site.pins["evaluate"]["evaluation"], store.read_json(others))


def _under_another_name(evaluation: dict[str, Any]) -> None:
    evaluation["training"] = "2000-01-03-00000000"


def _later(evaluation: dict[str, Any]) -> None:
    evaluation["as_of"] = (datetime.fromisoformat(evaluation["as_of"]) + timedelta(days=28)).isoformat()


def _not_a_number(evaluation: dict[str, Any]) -> None:
    for interval in evaluation["challenger"]["metrics"].values():
        interval["value"] = float("nan")


def _without_intervals(evaluation: dict[str, Any]) -> None:
    for interval in evaluation["champion"]["gain"].values():
        interval.pop("low")


_CHANGES: dict[str, Callable[[dict[str, Any]], object]] = {
    "the challenger's metrics are missing": lambda e: e["challenger"].pop("metrics"),
    "the challenger is missing": lambda e: e.pop("challenger"),
    "the gains over the champion are missing": lambda e: e["champion"].pop("gain"),
    "the gains have no intervals": _without_intervals,
    "the champion is missing": lambda e: e.update(champion=None),
    "the champion's slices are missing": lambda e: e["champion"].pop("slices"),
    "the baselines are missing": lambda e: e.update(baselines={}),
    "the metrics are not numbers": _not_a_number,
    "the slices are missing": lambda e: e["challenger"].pop("slices"),
    "the drift is missing": lambda e: e["challenger"].pop("drift"),
    "the end of the test is missing": lambda e: e.pop("test_end"),
    "the tested weeks are missing": lambda e: e.pop("test_partitions"),
    "nobody looked for leaks": lambda e: e.pop("leaks"),
    "the test rows are not counted": lambda e: e.pop("test_rows"),
}
FAULTS = [
    Fault("there is no evaluation", "evidence", "evaluated", _gone, is_critical=True),
    *(Fault(name, "evidence", "evaluated", _changed(change), is_critical=True) for name, change in _CHANGES.items()),
    Fault("evaluation of the training before", "evidence", "evaluated", _of_another),
    Fault("evaluation under another name", "evidence", "evaluated", _changed(_under_another_name)),
    Fault("four weeks have passed since the test", "evidence", "evaluated", _changed(_later)),
    Fault("500 test rows", "evidence", "evaluated", _changed(lambda e: e.update(test_rows=500))),
]
