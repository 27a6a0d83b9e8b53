"""The monitor's stages on days of a few rows, whose tables are written by hand: pooled until they are enough."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import yaml

from pipelines import store
from pipelines.handoffs.monitoring import Decided, Explained
from pipelines.metrics.scored import scored
from pipelines.monitoring.detect.detection import Detection
from pipelines.monitoring.diagnose.finding import Diagnosis
from pipelines.monitoring.estimate.held_out import to_parquet
from pipelines.paths import version_uri
from pipelines.problem import Problem, load_problem
from pipelines.profiles.profile import reference
from pipelines.release.versions import write_version_files
from pipelines.stages import stage
from pipelines.stages.monitor import evidence
from pipelines.stages.monitor.estimate import Estimation
from pipelines.stages.monitor.labelled import with_or_without_label
from pipelines.training.calibrate import sigmoid
from tests.conftest import TOY
from tests.stages.monitor.test_estimate_regression import write

pytestmark = pytest.mark.slow

DAYS = [f"2024-01-{day:02}" for day in range(1, 25)]
TESTED, SCORED = DAYS[:16], DAYS[16:]
ROWS = 120


@pytest.fixture
def kettle(tmp_path: Path, store_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Problem:
    folder = tmp_path / "problems" / "kettle"
    folder.mkdir(parents=True)
    monitoring = {"policy": {"updates": "manual"}, "report_rows": None}
    (folder / "problem.yaml").write_text(yaml.safe_dump(TOY | {"monitoring": monitoring}))
    monkeypatch.setenv("EVERGREEN_PROBLEMS", str(folder.parent))
    return load_problem("kettle")


def day_of(problem: Problem, key: str, is_inverted: bool = False) -> pa.Table:
    random = np.random.default_rng(int(key[-2:]))
    litres = random.normal(2, 0.5, ROWS)
    scores = sigmoid(4 * (litres - 2))
    labels = (random.random(ROWS) < scores) != is_inverted
    start = problem.partitions.start(key)
    times = pa.array([start + timedelta(minutes=minute) for minute in range(ROWS)], pa.timestamp("us", "UTC"))
    return pa.table(
        {
            "kettle_id": [f"{key} {place}" for place in range(ROWS)],
            "partition": [key] * ROWS,
            "event_time": times,
            "shelf": random.choice(["top", "bottom"], ROWS),
            "litres": litres,
            "shelf_rate_3d": random.random(ROWS),
            "shelf_count_2d": random.random(ROWS),
            "score": scores,
            "label": labels.astype(np.int8),
        }
    )


def lay_out(problem: Problem, inverted: list[str]) -> None:
    """Version 1 was made from the first days, and scored the others; labels come at once."""
    parts = {key: day_of(problem, key, key in inverted) for key in DAYS}
    test = pa.concat_tables([parts[key] for key in TESTED])
    found = scored(problem, test["label"].to_numpy(), test["score"].to_numpy())
    history = test.select([*problem.feature_names, "score", "partition"])
    known = reference(test.select(problem.feature_names), found.labels, found, history=history)
    train = {"train": {"partitions": TESTED[:8]}}
    lineage = {"partition": TESTED[-1], "candidate": "xgboost", "training_set": "1", "splits": train}
    write_version_files(
        problem,
        "1",
        {
            "held_out.parquet": to_parquet(problem, test, found),
            "problem.json": problem.model_dump(mode="json", exclude={"folder"}),
            "reference.json": {"reference": known.model_dump(mode="json")},
            "lineage.json": lineage,
        },
    )
    for key in SCORED:
        seen = problem.partitions.end(key)
        write(problem, "features", parts[key], key)
        write(
            problem,
            "labels",
            parts[key],
            key,
            known_time=seen - timedelta(minutes=1),
            source="natural",
            confidence=1.0,
            labeler="outcome",
        )
        write(problem, "predictions", parts[key], key, model_version="1", variant="champion", scored_time=seen)


def monitored(key: str) -> tuple[Decided, Detection]:
    profiled = stage("monitor.profile")("kettle", key)
    estimated = stage("monitor.estimate")("kettle", profiled)
    diagnosed = stage("monitor.diagnose")("kettle", stage("monitor.detect")("kettle", profiled), estimated)
    explained = Explained(**diagnosed.model_dump())  # to explain takes a model
    return stage("monitor.decide")("kettle", explained), evidence.read(Detection, diagnosed.detection)


def test_the_first_day_is_not_judged_and_the_second_is_together_with_it(kettle: Problem) -> None:
    lay_out(kettle, inverted=[])
    first, _ = monitored(SCORED[0])
    assert first.verdict == "not judged" and first.action == "none"
    assert "not judged: 120 rows of 200" in first.reason and "stable" not in first.reason
    assert b"Verdict: not judged" in store.read_bytes(stage("monitor.report")("kettle", first).page)
    second, detection = monitored(SCORED[1])
    newest = detection.realised[-1]
    assert newest.partitions == tuple(SCORED[:2]) and newest.rows == 240
    assert second.verdict == "stable"


def test_labels_that_turned_round_are_found_in_pools_of_small_days(kettle: Problem) -> None:
    lay_out(kettle, inverted=SCORED[2:])
    for key in SCORED[:3]:
        stage("monitor.profile")("kettle", key)
    fourth, detection = monitored(SCORED[3])
    (pool, *_) = [part for part in detection.realised if part.partition == SCORED[3]]
    assert pool.partitions == tuple(SCORED[2:4]) and pool.auc is not None and pool.auc < 0.3
    assert fourth.verdict == "performance drop"
    assert evidence.read(Diagnosis, fourth.diagnosis).bad == (SCORED[3],)


def test_rows_without_a_label_are_known_as_such(kettle: Problem) -> None:
    lay_out(kettle, inverted=[])
    key, rows = SCORED[0], day_of(kettle, SCORED[0])
    seen = kettle.partitions.end(key)
    write(
        kettle,
        "labels",
        rows.slice(0, 90),
        key,
        known_time=seen - timedelta(minutes=1),
        source="natural",
        confidence=1.0,
        labeler="outcome",
    )
    found = with_or_without_label(kettle, kettle, SCORED[:2], SCORED[1])
    is_labelled = found["_is_labelled"].to_numpy()
    assert found.num_rows == 2 * ROWS and set(kettle.feature_names) <= set(found.column_names)
    assert is_labelled.tolist() == [True] * 90 + [False] * 30 + [True] * ROWS
    too_early = with_or_without_label(kettle, kettle, SCORED[:1], TESTED[-1])["_is_labelled"]
    assert not any(too_early.to_pylist()), "nothing was known then"
    profiled = stage("monitor.profile")("kettle", SCORED[1])
    estimation = evidence.read(Estimation, stage("monitor.estimate")("kettle", profiled).estimation)
    assert estimation.label_shift is not None and estimation.label_shift.rates
    assert estimation.estimated["positive_rate"].low is not None


def test_a_unit_that_is_declared_tells_which_change_of_units_may_have_happened(kettle: Problem) -> None:
    lay_out(kettle, inverted=[])
    lighter = day_of(kettle, SCORED[0])
    place = lighter.schema.get_field_index("litres")
    lighter = lighter.set_column(place, "litres", pc.multiply(pc.add(lighter["litres"], 0.2), 0.45359237))
    write(kettle, "features", lighter, SCORED[0])
    found = {}
    for unit in ("litre", "degF", "kg"):
        raw = yaml.safe_load((kettle.folder / "problem.yaml").read_text())
        raw["columns"]["litres"]["unit"] = unit
        (kettle.folder / "problem.yaml").write_text(yaml.safe_dump(raw))
        detected = stage("monitor.detect")("kettle", stage("monitor.profile")("kettle", SCORED[0]))
        columns = evidence.read(Detection, detected.detection).detected.columns
        found[unit] = columns["litres"].other_unit
    assert found == {"litre": None, "degF": None, "kg": "pounds and kilograms"}


def test_what_a_version_scored_of_rows_that_it_has_learnt_from_says_nothing_of_how_good_it_is(kettle: Problem) -> None:
    lay_out(kettle, inverted=[])
    made_of = store.read_json(version_uri(kettle, "1", "lineage.json"))
    refit = {"of": "tested", "base": None, "rows": {"partitions": [*TESTED, *SCORED[:2]]}}
    write_version_files(kettle, "1", {"lineage.json": made_of | {"refit": refit}})
    found = {}
    for key in SCORED[:4]:
        profiled = stage("monitor.profile")("kettle", key)
        detected, estimated = (stage(f"monitor.{name}")("kettle", profiled) for name in ("detect", "estimate"))
        found[key] = (
            evidence.read(Detection, detected.detection).realised,
            evidence.read(Estimation, estimated.estimation).realised,
        )
    assert [realised for realised, _ in found.values()][:2] == [(), ()]
    assert [part.partitions for part in found[SCORED[3]][0]] == [tuple(SCORED[2:4])]
    assert {key for _, measured in found.values() for key in measured} == set(SCORED[2:4])
