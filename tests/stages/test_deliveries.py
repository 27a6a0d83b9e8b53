"""A problem of deliveries from the first file to the second model: what is said of a delivery whose world has moved."""

from __future__ import annotations

import copy
import json
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import yaml

from pipelines import deliveries, ledger, local_run, quarantine, store
from pipelines.asof.as_known import holds_now
from pipelines.dataset import shares as shares_module
from pipelines.errors import NothingToDo
from pipelines.problem import load_problem
from pipelines.summary import missed
from tests.config.test_deliveries import SHORT
from tests.mlflow_database import mlflow_in
from tests.stages.conftest import judged_by_both

ROWS = 400
SETTINGS = SHORT | {
    "partitions": {"every": "delivery"},
    "sources": {
        "customers": {
            "path": "in",
            "format": "csv",
            "columns": {"customer": "string", "spend": "float", "age": "float", "left": "integer"},
        }
    },
    "training": {
        "candidates": {"prior": {"model": "prior"}, "logistic": {"model": "logistic"}},
        "refit": False,
    },
    "gate": {"limits": {"auc": {"min": 0.5}}, "gain_over_baselines": {"auc": 0.0}, "gain_over_champion": {"auc": -0.1}},
    "evaluation": {"bootstrap": {"resamples": 100}},
    "validation": {"expectation_rows": 100, "shape": None},
    "monitoring": {"report_rows": None, "policy": {"min_labels": 100}},
}


def deliver(folder: Path, number: int, shift: float = 0.0, customers: int = 0) -> None:
    """A file of a delivery; `customers` are the first of it, who were in the one before too."""
    drawn = np.random.default_rng(number)
    spend, age = drawn.gamma(4, 15, ROWS) + shift, drawn.normal(40, 9, ROWS)
    left = drawn.random(ROWS) < 1 / (1 + np.exp((spend - 60) / 25))
    lines = [
        f"c{number * ROWS + place - ROWS * (place < customers)},{spend[place]:.2f},{age[place]:.1f},{int(left[place])}"
        for place in range(ROWS)
    ]
    (folder / f"load_{number}.csv").write_text("\n".join(["customer,spend,age,left", *lines, ""]))


def watch(key: str) -> None:
    local_run.score("shop", key)
    with suppress(NothingToDo):  # nothing was asked for
        local_run.monitor("shop", key)


@pytest.mark.slow
def test_deliveries_are_ingested_learnt_scored_and_watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "problems" / "shop" / "in"
    folder.mkdir(parents=True)
    (folder.parent / "problem.yaml").write_text(yaml.safe_dump(copy.deepcopy(SETTINGS)))
    monkeypatch.setenv("EVERGREEN_PROBLEMS", str(tmp_path / "problems"))
    monkeypatch.setenv("EVERGREEN_STORE_URI", f"file://{tmp_path}/store")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_in(tmp_path))
    monkeypatch.chdir(tmp_path)  # MLflow keeps artifacts beside its database
    for number in (1, 2, 7, 8, 9):
        deliver(folder, number)
    with judged_by_both():
        first = local_run.ingest("shop")
    assert (first.first, first.last, first.events) == ("d00001", "d00005", 5 * ROWS)
    assert first.summary.startswith("2,000 events published of load_1.csv to load_9.csv")
    problem = load_problem("shop")
    with pytest.raises(NothingToDo, match=r"there is no new delivery \(5 have come\)"):
        local_run.ingest("shop")

    monkeypatch.setattr(shares_module, "SHARE_ROWS", 2 * ROWS)  # its features are computed by several tasks
    assert local_run.train("shop").version == "1"
    keys = [f"d0000{number}" for number in range(1, 6)]
    parted = shares_module.shares(keys, store.partition_rows(problem, "events"))
    assert parted == [keys[:2], keys[2:4], keys[4:]]
    assert store.partition_rows(problem, "features") == dict.fromkeys(keys, ROWS)

    # Half of the next delivery's customers were in the one before: rows of their own, on the side that they had.
    deliver(folder, 10, customers=ROWS // 2)
    assert missed(problem, problem.partitions.start("d00001")) == []
    assert local_run.ingest("shop").events == ROWS
    events = store.dataset(problem, "events")
    assert events.count_rows(filter=holds_now()) == 6 * ROWS
    watch("d00006")

    deliver(folder, 11, shift=40)
    assert local_run.run("ingest", "shop", {"partition": "load_11.csv"}).came == ["d00007"]
    watch("d00007")
    verdicts = {row["partition"]: row["verdict"] for row in ledger.decisions(problem, "monitoring")}
    assert verdicts == {"d00006": "stable", "d00007": "label shift"}

    # A changed file is told with the next delivery, and taken in as a correction when somebody says so.
    deliver(folder, 1, shift=1)
    deliver(folder, 12)
    said = local_run.ingest("shop")
    assert said.verdict == "other deliveries" and "load_1.csv" in str(said.reason)
    assert "--partition d00001" in str(said.reason)
    corrected = local_run.ingest("shop", "d00001", "d00001")
    assert corrected.corrected > 0.9 * ROWS and corrected.new == 0
    assert local_run.ingest("shop", "d00001", "d00001").unchanged == ROWS

    quarantine.readmit(problem, "d00007", "the world has moved", {"by": "hand"})
    promoted = local_run.train("shop", how="scratch")
    assert promoted.version == "2"
    (evaluation,) = (tmp_path / "store" / "shop" / "evaluations").glob("d00008-*.json")
    evidence = json.loads(evaluation.read_text())
    assert evidence["is_drawn"] and evidence["champion"]["learnt_test_rows"] == 0
    assert set(evidence["test_partitions"]) == {f"d0000{number}" for number in range(1, 9)}
    assert deliveries.shown(problem, "d00008") == "d00008 (load_12.csv)"
