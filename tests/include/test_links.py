"""A button's address is worked out when its task ends."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from include.links import DriftReport


def test_drift_report() -> None:
    run = SimpleNamespace(partition_key="2013-04-01")
    ended: Any = SimpleNamespace(dag_id="flight_delay.monitor", get_template_context=lambda: {"dag_run": run})
    assert DriftReport().get_link(None, ti_key=ended) == "/evergreen/reports/flight_delay/2013-04-01"
