"""A button's address is worked out when its task ends."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from include.links import Datasheet, DriftReport, Evaluation, ModelCard, Monitoring, Page, Validation, WeakSupervision
from pipelines.handoffs.annotation import Voted
from pipelines.handoffs.training import Evaluated, Registered, Share
from tests.handed_on import example

BUTTONS = [
    (Monitoring, "monitor", "2013-04-01", {}, "reports/2013-04-01/monitoring.html"),
    (DriftReport, "monitor", "2013-04-01", {}, "reports/2013-04-01/drift.html"),
    (Validation, "ingest", "2013-04-01", {}, "reports/2013-04-01_2013-04-01/validation.html"),
    (
        Validation,
        "ingest",
        None,
        {"first": "2013-01-07", "last": "2013-04-01"},
        "reports/2013-01-07_2013-04-01/validation.html",
    ),
    (Datasheet, "train", None, {}, "datasheets/0123456789ab.html"),
    (Evaluation, "train", None, {}, "evaluations/2013-04-01-01234567.html"),
    (ModelCard, "train", None, {}, "models/3/card.html"),
    (WeakSupervision, "annotate", None, {}, "reports/2013-04-08/weak_supervision.html"),
]


@pytest.mark.parametrize(("button", "dag", "key", "params", "path"), BUTTONS)
def test_buttons(button: type[Page], dag: str, key: str | None, params: dict[str, str], path: str) -> None:
    context = {"dag_run": SimpleNamespace(partition_key=key), "params": params}
    returned = {
        "sample": [example(Share, training_set="0123456789ab").model_dump(mode="json")],
        "vote": example(Voted, partition="2013-04-08").model_dump(mode="json"),
        "evaluate": example(Evaluated, training="2013-04-01-01234567").model_dump(mode="json"),
        "register": example(Registered, version="3").model_dump(mode="json"),
    }
    ended: Any = SimpleNamespace(
        dag_id=f"flight_delay.{dag}",
        get_template_context=lambda: context,
        xcom_pull=lambda task_ids: returned[task_ids],
    )
    assert button().get_link(None, ti_key=ended) == f"/evergreen/pages/flight_delay/{path}"
