"""Two small problems, from a CSV to a monitored model: one of four classes, one of numbers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as csv
import pytest

from pipelines import ledger, local_run, store
from pipelines.artifacts import table_schema
from pipelines.dataset import shares as shares_module
from pipelines.dataset import training_sets
from pipelines.errors import ConfigError, DataError, NothingToDo
from pipelines.handoffs.base import to_json
from pipelines.monitoring.detect.detection import Detection
from pipelines.problem import load_problem
from pipelines.stages import stage
from pipelines.stages.monitor import evidence
from tests.handed_on import featurized
from tests.mlflow_database import mlflow_in
from tests.stages.conftest import judged_by_both

pytestmark = pytest.mark.slow

START = datetime(2024, 1, 1, 6, tzinfo=UTC)
DAYS, A_DAY = 30, 60
HISTORY = ("2024-01-01", "2024-01-26")
NEXT = ("2024-01-27", "2024-01-28", "2024-01-29")
CLASSES = ["lost", "late", "in_time", "early"]

SHARED = """
owner: post
key: parcel_id
partitions: {every: day, first: 2024-01-01, last: 2024-01-30}
sources:
  parcels:
    path: parcels.csv
    columns: {parcel_id: string, sent_at: timestamp, service: string, region: string, kilos: float, told: string}
columns:
  service: {type: string, available: cutoff}
  region: {type: string, available: cutoff}
  kilos: {type: float, unit: kg, available: cutoff}
validation: {shape: null} # a day has 60 rows only, and one of them balloons
scoring: {shard_rows: 25, batch_rows: 10}
monitoring: {report_rows: 100, policy: {min_labels: 40, max_column_psi: 9, max_prediction_psi: 1}}
"""
OF_CLASSES = (
    SHARED
    + """
description: How will this parcel arrive?
task: multiclass
labels: {classes: [lost, late, in_time, early], delay_days: 1, description: as the recipient signed}
dataset:
  split: {validation_partitions: 3, test_partitions: 6}
  sampling: {method: stratified, fraction: 0.9, by: [label]}
  leaks: {accepted: [kilos]} # it tells the lost ones, as it should
features:
  columns: [service, kilos]
  history:
    outcomes_7d: {by: [service], function: distinct, window_days: 7}
    parcels_7d: {by: [service], function: count, window_days: 7}
training:
  baselines: [prior]
  candidates:
    prior: {model: prior}
    logistic: {model: logistic}
    xgboost: {model: xgboost, parameters: {n_estimators: 30, max_depth: 3}}
evaluation: {bootstrap: {resamples: 50}, fairness: {groups: [region], min_rows: 10}}
costs: {unit: EUR, matrix: {lost: {in_time: 20, early: 20, late: 10}, in_time: {lost: 1}}}
gate:
  limits: {auc: {min: 0.6}}
  gain_over_baselines: {log_loss: 0.0}
  gain_over_champion: {log_loss: -0.1}
  max_prediction_shift: null
  min_rows: 50
"""
)
OF_NUMBERS = (
    SHARED
    + """
description: How long does this parcel take?
task: regression
labels: {delay_days: 1, description: hours until the recipient signed}
dataset: {split: {validation_partitions: 3, test_partitions: 6}}
features:
  columns: [service, kilos]
  history:
    hours_7d: {by: [service], function: mean, window_days: 7}
    spread_7d: {by: [service], function: std, window_days: 7}
training:
  select_by: rmse
  baselines: [prior]
  candidates:
    prior: {model: prior}
    linear: {model: linear}
    xgboost: {model: xgboost, parameters: {n_estimators: 60, max_depth: 3}}
evaluation: {bootstrap: {resamples: 50}}
gate:
  limits: {r2: {min: 0.3}}
  gain_over_baselines: {rmse: 0.0}
  gain_over_champion: {rmse: -1.0}
  slices: {metric: rmse, max_loss: 5}
  max_prediction_shift: null
  min_rows: 50
"""
)
EVENTS = "SELECT parcel_id, sent_at AS event_time, service, region, kilos FROM parcels"
LABELS = "SELECT parcel_id, sent_at AS event_time, sent_at + INTERVAL 1 HOUR AS known_time, told AS label FROM parcels"
TASKS = {"parcels_of_classes": OF_CLASSES, "parcels_of_numbers": OF_NUMBERS}


def parcels(name: str) -> pa.Table:
    """60 parcels a day; heavy ones are slow, some services too. The first day has a label that is none."""
    random, count = np.random.default_rng(7), DAYS * A_DAY
    service, kilos = random.integers(0, 3, count), random.gamma(2, 3, count)
    hours = 20 + 8 * service + 2 * kilos + random.normal(0, 4, count)
    if name == "parcels_of_numbers":
        told = [f"{value:.3f}" for value in hours]
        told[3] = "inf"
    else:
        place = np.clip(np.searchsorted([24.0, 36, 55], hours), 0, 3)
        told = [CLASSES[3 - n] for n in place]
        told[3] = "eaten"
    return pa.table(
        {
            "parcel_id": [f"p{n}" for n in range(count)],
            "sent_at": pa.array(
                [START + timedelta(days=n // A_DAY, minutes=n % A_DAY) for n in range(count)], pa.timestamp("s", "UTC")
            ),
            "service": [("air", "road", "sea")[n] for n in service],
            "region": [("north", "south")[n] for n in random.integers(0, 2, count)],
            "kilos": kilos.round(3),
            "told": told,
        }
    )


def write_problem(name: str, folder: Path) -> None:
    """The problem `name` and its CSV, below a folder of problems."""
    home = folder / name
    home.mkdir(parents=True)
    for file, text in (("problem.yaml", TASKS[name]), ("events.sql", EVENTS), ("labels.sql", LABELS)):
        (home / file).write_text(text)
    csv.write_csv(parcels(name), home / "parcels.csv")


@pytest.fixture(scope="module", params=list(TASKS))
def problem(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A problem's name; its history is ingested."""
    name: str = request.param
    folder = tmp_path_factory.mktemp(name)
    write_problem(name, folder / "problems")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EVERGREEN_PROBLEMS", str(folder / "problems"))
        patch.setenv("EVERGREEN_STORE_URI", (folder / "store").as_uri())
        patch.setenv("MLFLOW_TRACKING_URI", mlflow_in(folder))
        patch.chdir(folder)  # MLflow keeps artifacts beside its database
        with judged_by_both():
            local_run.ingest(name, *HISTORY)
        yield name


@pytest.fixture(scope="module")
def checked(problem: str) -> dict[str, Any]:
    """A training set that was looked through."""
    return stage("train.check")(problem, featurized(problem, stage("train.label")(problem, HISTORY[1])))


@pytest.fixture(scope="module")
def champion(problem: str) -> str:
    """The version that serves: its training is run stage by stage, each given what the one before has printed."""
    labelled = by_hand("train.label", problem, partition=HISTORY[1])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shares_module, "SHARE_ROWS", 10 * A_DAY)
        shares = by_hand("train.sample", problem, labelled)
    assert len(shares) == 3
    featurized_shares = by_hand("train.featurize", problem, shares)
    checked = by_hand("train.check", problem, featurized_shares)
    names = load_problem(problem).training.candidates
    trained = [by_hand("train.train", problem, checked, candidate=name) for name in names]
    result = by_hand("train.evaluate", problem, {"checked": checked, "trained": trained})
    for name in ("gate", "refit", "register", "promote"):
        result = by_hand(f"train.{name}", problem, result)
    return str(result["version"])


def by_hand(name: str, problem: str, given: Any = None, **options: str) -> Any:
    """What `evergreen run` prints of a stage, read again as `--input` is."""
    return json.loads(json.dumps(to_json(local_run.run(name, problem, options, given))))


def is_of_numbers(problem: str) -> bool:
    return load_problem(problem).task == "regression"


def test_labels_are_kept_as_the_task_says_and_what_is_none_is_set_aside(problem: str) -> None:
    config = load_problem(problem)
    labels = store.dataset(config, "labels").to_table()
    assert labels.num_rows == 26 * A_DAY - 1 - A_DAY, "one is set aside, those of the last day arrive a day late"
    assert labels.schema.field("label").type == (pa.float64() if is_of_numbers(problem) else pa.string())
    (bad,) = store.dataset(config, "quarantine").to_table().to_pylist()
    told = "label: not a finite number: 'inf'" if is_of_numbers(problem) else "label: not one of labels.classes"
    assert bad["rules"] == [told] and bad["source"] == "labels" and '"p3"' in bad["row"]


def test_a_corrected_label_is_a_statement_of_its_own(problem: str) -> None:
    from pipelines.ingest.publish import natural_label_statements

    config = load_problem(problem)
    told = store.dataset(config, "labels").to_table(filter=pc.field("partition") == "2024-01-05")
    other: Any = 1.5 if is_of_numbers(problem) else "lost"
    label = pc.if_else(
        pc.equal(told["parcel_id"], told["parcel_id"][0]), pa.scalar(other, told["label"].type), told["label"]
    )
    columns = [config.key, "event_time", "known_time", "label", "partition"]
    delivered = told.set_column(told.column_names.index("label"), "label", label).select(columns)
    now = datetime(2024, 2, 1, tzinfo=UTC)
    stated = natural_label_statements(config, told, delivered, now, ingested=["2024-01-05"]).read_all()
    assert stated.schema.equals(table_schema(config, "labels"))
    newer = stated.filter(pc.equal(stated["known_time"], pa.scalar(now, stated["known_time"].type)))
    assert newer["label"].to_pylist() == [other] and stated.num_rows == told.num_rows + 1
    assert stated["superseded_time"].null_count == stated.num_rows - 1


def test_the_training_set_holds_the_label_and_the_split_its_number(problem: str, checked: dict[str, Any]) -> None:
    config = load_problem(problem)
    kept = training_sets.training_set(config, checked, "train")
    rows = training_sets.split(config, checked, "train", extra=["region", "kilos", "region"])
    assert rows.column_names.count("region") == rows.column_names.count("kilos") == 1
    assert rows.num_rows == kept.num_rows and rows["region"].null_count == 0
    key = [(config.key, "ascending")]
    region = {one["parcel_id"]: one["region"] for one in parcels(problem).to_pylist()}
    assert all(region[one["parcel_id"]] == one["region"] for one in rows.to_pylist())
    told, number = kept.sort_by(key)["label"].to_pylist(), rows.sort_by(key)["label"]
    if is_of_numbers(problem):
        assert number.type == pa.float64() and number.to_pylist() == told
    else:
        assert number.type == pa.int64() and number.to_pylist() == [CLASSES.index(name) for name in told]
    assert training_sets.split(config, checked, "test").column_names[-2:] == ["label", "weight"]


def test_features_look_back_on_labels(problem: str, checked: dict[str, Any]) -> None:
    rows = training_sets.split(load_problem(problem), checked, "test")
    if is_of_numbers(problem):
        assert pc.min(rows["hours_7d"]).as_py() > 15 and pc.max(rows["spread_7d"]).as_py() < 20
    else:
        assert pc.max(rows["outcomes_7d"]).as_py() in (3, 4)
        assert pc.min(rows["parcels_7d"]).as_py() > 60


def test_the_datasheet_tells_what_the_labels_are_like(problem: str, checked: dict[str, Any]) -> None:
    sheet = store.read_bytes(checked.datasheet.replace(".html", ".md")).decode()
    assert "positive rate" not in sheet
    if is_of_numbers(problem):
        assert "| mean | sd | min | 5% | 25% | 50% | 75% | 95% | max |" in sheet
    else:
        assert "| lost | late | in_time | early |" in sheet


def test_a_training_set_that_gives_the_label_away_is_stopped(
    problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The label itself, as a feature: an own store, from the source on."""
    home = tmp_path / "problems" / problem
    home.mkdir(parents=True)
    kind = "float" if is_of_numbers(problem) else "string"
    text = TASKS[problem].replace(
        "columns:\n  service:", f"columns:\n  told: {{type: {kind}, available: cutoff}}\n  service:"
    )
    (home / "problem.yaml").write_text(text.replace("columns: [service, kilos]", "columns: [service, kilos, told]"))
    value = "TRY_CAST(told AS DOUBLE)" if is_of_numbers(problem) else "told"
    finite = f"CASE WHEN isfinite({value}) THEN {value} END" if is_of_numbers(problem) else value
    (home / "events.sql").write_text(EVENTS.replace("kilos FROM", f"kilos, {finite} AS told FROM"))
    (home / "labels.sql").write_text(LABELS)
    csv.write_csv(parcels(problem), home / "parcels.csv")
    monkeypatch.setenv("EVERGREEN_PROBLEMS", str(tmp_path / "problems"))
    monkeypatch.setenv("EVERGREEN_STORE_URI", (tmp_path / "store").as_uri())
    local_run.ingest(problem, *HISTORY)
    shares = featurized(problem, stage("train.label")(problem, HISTORY[1]))
    with pytest.raises(DataError, match="told alone predicts the label with an "):
        stage("train.check")(problem, shares)


def test_numbers_are_no_strata(problem: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    home = tmp_path / problem
    home.mkdir()
    text = OF_NUMBERS.replace("dataset: {", "dataset: {sampling: {method: stratified, fraction: 0.5, by: [label]}, ")
    for file, content in (("problem.yaml", text), ("events.sql", EVENTS), ("labels.sql", LABELS)):
        (home / file).write_text(content)
    if is_of_numbers(problem):
        monkeypatch.setenv("EVERGREEN_PROBLEMS", str(tmp_path))
        with pytest.raises(ConfigError, match="label is a number"):
            stage("train.sample")(problem, stage("train.label")(problem, HISTORY[1]))


def test_a_model_is_trained_scores_and_is_monitored(problem: str, champion: str) -> None:
    config = load_problem(problem)
    for day in NEXT:
        local_run.ingest(problem, day, day)
        shards = by_hand("score.plan", problem, partition=day)
        assert len(shards) == 3
        published = by_hand("score.publish", problem, by_hand("score.score", problem, shards), partition=day)
    table = store.dataset(config, "predictions").to_table()
    assert table.num_rows == len(NEXT) * A_DAY and set(table["model_version"].to_pylist()) == {champion}
    if is_of_numbers(problem):
        assert table["decision"].null_count == table["probabilities"].null_count == table.num_rows
        assert 20 < pc.mean(table["score"]).as_py() < 60
    else:
        assert set(table["decision"].to_pylist()) <= set(CLASSES)
        chances = np.array(table["probabilities"].to_pylist())
        assert chances.shape == (table.num_rows, 4)
        np.testing.assert_allclose(chances.sum(axis=1), 1, atol=1e-3)
        decided = [CLASSES.index(name) for name in table["decision"].to_pylist()]
        np.testing.assert_array_equal(chances[np.arange(len(decided)), decided], table["score"].to_numpy())
    manifest = json.loads(store.read_bytes(published["manifest"]))
    assert manifest["unseen"] == {}, "every service was seen in training"

    with pytest.raises(NothingToDo):
        local_run.monitor(problem, NEXT[-1])
    (row,) = ledger.decisions(config, "monitoring")
    assert (row["verdict"], row["action"]) == ("stable", "none")
    realised = row["evidence"]["realised"]
    assert [one["partition"] for one in realised] == list(NEXT[:2])
    assert all(one["rows"] == A_DAY for one in realised)
    if is_of_numbers(problem):
        assert all(abs(one["bias"]) < 5 and one["rmse"] < 10 for one in realised)
    else:
        assert all(one["auc"] > 0.7 and one["cost"] < 5 for one in realised)


def test_what_is_new_to_the_model_is_counted_and_noticed(problem: str, champion: str) -> None:
    config = load_problem(problem)
    path = config.folder / "events.sql"
    balloons = "CASE WHEN parcel_id LIKE '%7' THEN 'balloon' ELSE service END AS service, region"
    path.write_text(EVENTS.replace("service, region", balloons))
    try:
        local_run.ingest(problem, "2024-01-30", "2024-01-30")
    finally:
        path.write_text(EVENTS)
    shards = stage("score.plan")(problem, "2024-01-30")
    scored = [stage("score.score")(problem, shard) for shard in shards]
    assert len(shards) == 3 and sum(one.unseen.get("service", 0) for one in scored) == A_DAY // 10
    published = stage("score.publish")(problem, "2024-01-30", scored)
    assert json.loads(store.read_bytes(published.manifest))["unseen"] == {"service": A_DAY // 10}
    detected = stage("monitor.detect")(problem, stage("monitor.profile")(problem, "2024-01-30"))
    found = evidence.read(Detection, detected.detection)
    assert found.detected.columns["service"].unseen_share == pytest.approx(0.1)
