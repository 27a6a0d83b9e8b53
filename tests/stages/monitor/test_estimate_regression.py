"""The stage on a regression, whose tables are written by hand: no estimates, but what labels say."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import yaml

from pipelines import store
from pipelines.artifacts import TableName, table_schema
from pipelines.errors import NothingToDo
from pipelines.handoffs.monitoring import Profiled
from pipelines.metrics.scored import scored
from pipelines.monitoring.diagnose.shifts import shifts
from pipelines.monitoring.estimate.held_out import to_parquet
from pipelines.problem import Problem, load_problem
from pipelines.profiles.profile import profile, reference, to_rows
from pipelines.release.versions import write_version_files
from pipelines.stages.monitor import evidence
from pipelines.stages.monitor.estimate import Estimation, estimate
from tests.conftest import TOY

DAYS = [f"2024-01-{day:02}" for day in range(1, 13)]
ROWS = 400


@pytest.fixture
def kettle(tmp_path: Path, store_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Problem:
    """How many seconds over: version 1 was tested on the first three days and scored the others."""
    values = {
        "limits": {"rmse": {"max": 9}},
        "gain_over_baselines": {"rmse": 0},
        "gain_over_champion": {"rmse": 0},
        "slices": {"metric": "rmse"},
    }
    changes = {"task": "regression", "gate": values, "training": TOY["training"] | {"select_by": "rmse"}}
    folder = tmp_path / "problems" / "kettle"
    folder.mkdir(parents=True)
    (folder / "problem.yaml").write_text(yaml.safe_dump(TOY | changes))
    monkeypatch.setenv("EVERGREEN_PROBLEMS", str(folder.parent))
    return load_problem("kettle")


def rows_of(problem: Problem, key: str, off: float) -> pa.Table:
    random = np.random.default_rng(int(key[-2:]))
    shelf, litres = random.choice(["top", "bottom"], ROWS), random.normal(2, 0.5, ROWS)
    start = problem.partitions.start(key)
    times = pa.array([start + timedelta(minutes=minute) for minute in range(ROWS)], pa.timestamp("us", "UTC"))
    return pa.table(
        {
            "kettle_id": [f"{key} {place}" for place in range(ROWS)],
            "partition": [key] * ROWS,
            "event_time": times,
            "shelf": shelf,
            "litres": litres,
            "shelf_rate_3d": random.random(ROWS),
            "shelf_count_2d": random.random(ROWS),
            "score": litres,
            "label": litres + random.normal(0, 0.3, ROWS) + off * (shelf == "top"),
        }
    )


def write(problem: Problem, name: TableName, rows: pa.Table, key: str, **more: Any) -> None:
    for column, value in more.items():
        rows = rows.append_column(column, pa.array([value] * rows.num_rows))
    schema = table_schema(problem, name)
    for field in schema:
        if field.name not in rows.column_names:
            rows = rows.append_column(field.name, pa.nulls(rows.num_rows, field.type))
    store.write_table(problem, name, rows.select(schema.names).cast(schema), [key])


def lay_out(problem: Problem, drifts_from: str | None) -> None:
    parts = {key: rows_of(problem, key, 0.4 if drifts_from and key >= drifts_from else 0.0) for key in DAYS}
    test = pa.concat_tables([parts[key] for key in DAYS[:3]])
    found = scored(problem, test["label"].to_numpy(), test["score"].to_numpy())
    known = reference(test.select(problem.feature_names), found.labels, found)
    files = {
        "held_out.parquet": to_parquet(problem, test, found),
        "problem.json": problem.model_dump(mode="json"),
        "reference.json": {"reference": known.model_dump(mode="json")},
    }
    files["problem.json"].pop("folder", None)
    write_version_files(problem, "1", files)
    for key, rows in parts.items():
        seen = problem.partitions.end(key)
        profiles, _ = profile(rows.to_batches(), known)
        write(problem, "features", rows, key)
        write(
            problem,
            "labels",
            rows,
            key,
            known_time=seen - timedelta(minutes=1),
            source="natural",
            confidence=1.0,
            labeler="outcome",
        )
        if key > DAYS[2]:
            write(problem, "predictions", rows, key, model_version="1", variant="champion", scored_time=seen)
            store.write_table(problem, "profiles", to_rows(problem, key, "1", profiles), [key])


def estimation() -> Estimation:
    """What `estimate` finds of the last day."""
    estimated = estimate("kettle", Profiled(partition=DAYS[-1], version="1"))
    return evidence.read(Estimation, estimated.estimation)


@pytest.mark.parametrize("drifts_from", [None, DAYS[-1]])
def test_what_labels_say(kettle: Problem, drifts_from: str | None) -> None:
    lay_out(kettle, drifts_from)
    found = estimation()
    assert found.estimated == {} and found.label_shift is None and "no chances" in (found.notes["label_shift"] or "")
    assert found.concept is not None and found.feedback is not None and found.feedback.trend is not None
    assert found.concept.partition == DAYS[-1] and set(found.concept.compared) == {"rmse"}
    assert found.feedback.trend.partitions == 9 and "whatever the score" in found.feedback.note
    findings = list(shifts(kettle.monitoring.policy, found))
    assert [one.kind for one in findings] == ["concept drift"] * (drifts_from is not None)
    assert all(one.features[0] == "shelf" for one in findings)


def test_fewer_trailing_partitions_tell_less_of_what_is_usual(kettle: Problem) -> None:
    lay_out(kettle, None)
    path = kettle.folder / "problem.yaml"
    raw = yaml.safe_load(path.read_text())
    told = {}
    for count in (8, 2):
        path.write_text(yaml.safe_dump(raw | {"monitoring": {"policy": {"trailing_partitions": count}}}))
        concept = estimation().concept
        assert concept is not None
        told[count] = concept.usual_partitions
    assert told == {8: 3 + 8, 2: 3 + 2}


def test_without_labels_there_is_nothing_to_say(kettle: Problem) -> None:
    lay_out(kettle, None)
    store.delete_folder(store.store_uri("kettle", "predictions"))
    with pytest.raises(NothingToDo, match="no chances"):
        estimation()
