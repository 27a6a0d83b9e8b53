"""Evidence comes back as it was, from the store as from the run that handed it on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pipelines import store
from pipelines.handoffs.monitoring import Profiled
from pipelines.monitoring.detect.detection import NOTHING, ColumnDrift, Detection, Drift, LabelledPartition, Level
from pipelines.problem import Problem
from pipelines.stages.monitor import evidence

DETECTION = Detection(
    detected=Drift(
        rows=120,
        columns={"litres": ColumnDrift(psi=0.1, js=0.2, std=None, levels={"js": Level(far=0.2, far_level=None)})},
        prediction=None,
        same_as=None,
    ),
    realised=(LabelledPartition(partition="2024-01-07", rows=90, auc=None, log_loss=0.5),),
)


def test_it_comes_back_as_it_was_and_a_repeated_run_writes_the_same_place(
    toy: Callable[..., Problem], store_folder: Path
) -> None:
    profiled = Profiled(partition="2024-01-08", version="3")
    uri = evidence.keep(toy(), profiled, "detection", DETECTION)
    assert uri.endswith("/monitoring/2024-01-08/3/detection.json")
    assert evidence.read(Detection, uri) == DETECTION == evidence.read(Detection, DETECTION.model_dump(mode="json"))
    content = store.read_bytes(uri)
    assert evidence.keep(toy(), profiled, "detection", DETECTION) == uri and store.read_bytes(uri) == content


def test_its_json_has_what_was_measured_and_nothing_else() -> None:
    whole = DETECTION.model_dump(mode="json")
    assert whole["detected"]["columns"]["litres"] == {
        "psi": 0.1,
        "js": 0.2,
        "std": None,
        "levels": {"js": {"far": 0.2, "far_level": None}},
    }
    assert whole["realised"] == [{"partition": "2024-01-07", "rows": 90, "auc": None, "log_loss": 0.5}]
    assert whole["detected"]["prediction"] == {} and "waiting" not in whole
    assert Detection.model_validate({"detected": NOTHING.model_dump(), "realised": [], "of_later": 1}).realised == ()
