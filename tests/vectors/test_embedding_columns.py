"""An embedding in every place that treats a column by its kind, from its source to its drift."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import skops.io

from pipelines.artifacts import table_schema
from pipelines.config import Column
from pipelines.dataset.fingerprint import fingerprint
from pipelines.dataset.single_feature import single_feature_aucs
from pipelines.errors import ConfigError, SchemaError
from pipelines.evaluation.report.importance import importances
from pipelines.features.schema import feature_schema
from pipelines.ingest.extract import extract, extracted_schema
from pipelines.ingest.sources import opened
from pipelines.metrics.scored import Scored
from pipelines.monitoring.detect.detect import detect
from pipelines.monitoring.estimate.domain import domain
from pipelines.problem import Problem
from pipelines.profiles.profile import Reference, profile, reference
from pipelines.training.fit import fit
from pipelines.training.model import TRUSTED_TYPES
from pipelines.training.prepare import Preparation
from pipelines.vectors.measures import measured
from tests.ingest.set_aside import bad_rows, expectations

ToyProblem = Callable[..., Problem]
NOON = datetime(2024, 1, 1, 12, tzinfo=UTC)
ROWS, LENGTH = 400, 4
KIND = pa.list_(pa.field("element", pa.float32()))
IS_LATE = np.random.default_rng(7).random(ROWS) < 0.5
VALUES = np.random.default_rng(8).normal(size=(ROWS, LENGTH)) + IS_LATE[:, None] * np.array([0.0, 2.0, 0.0, 0.0])


@pytest.fixture
def photographed(toy: ToyProblem) -> Callable[..., Problem]:
    """The toy problem with an embedding of a photo among its features."""

    def build(**changes: Any) -> Problem:
        photo = {"type": "embedding", "length": LENGTH, "available": "cutoff"}
        return toy(**{"columns.photo": photo, "features": {"columns": ["shelf", "photo"]}, **changes})

    return build


def embeddings(values: Any) -> pa.Array:
    return pa.array([None if row is None else list(row) for row in values], KIND)


def rows_of(values: Any, labels: Any = IS_LATE) -> pa.Table:
    count = len(values)
    return pa.table(
        {
            "shelf": ["top", "bottom"] * (count // 2),
            "photo": embeddings(values),
            "label": np.asarray(labels)[:count].astype(np.int64),
            "weight": np.ones(count),
            "partition": ["2024-01-01"] * count,
            "event_time": pa.array([NOON] * count, pa.timestamp("us", "UTC")),
        }
    )


def test_an_embedding_has_a_length_and_nothing_else_has() -> None:
    for wrong in ({"type": "embedding"}, {"type": "float", "length": 3}):
        with pytest.raises(ValueError, match="length goes with type embedding"):
            Column.model_validate(wrong)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"evaluation": {"slices": {"by": ["photo"]}}}, "'photo' is an embedding"),
        ({"dataset.augmentation": {"method": "mixup"}}, "mixup does not know how to mix embeddings"),
        (
            {"evaluation.behaviours": {"b": {"kind": "invariance", "columns": ["photo"], "set": 1, "max_change": 1}}},
            "take shuffle for it",
        ),
    ],
)
def test_what_embeddings_cannot_do_is_refused(
    photographed: Callable[..., Problem], changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        photographed(**changes)


@pytest.mark.parametrize("kind", ["parquet", "fixed", "jsonl"])
def test_lists_of_numbers_come_from_files(photographed: Callable[..., Problem], tmp_path: Path, kind: str) -> None:
    lists: list[Any] = [[1, 2.5, 3, 4], None, [4, 3, 2, 1]]
    path = tmp_path / ("photos.jsonl" if kind == "jsonl" else "photos.parquet")
    if kind == "jsonl":
        path.write_text("".join(json.dumps({"kettle_id": f"k{n}", "photo": row}) + "\n" for n, row in enumerate(lists)))
    else:
        type_ = pa.list_(pa.float64(), 4) if kind == "fixed" else pa.list_(pa.float64())
        pq.write_table(pa.table({"kettle_id": ["k0", "k1", "k2"], "photo": pa.array(lists, type_)}), path)
    declared = {"kettle_id": "string", "photo": "list<float>"}
    problem = photographed(sources={"photos": {"path": str(path), "columns": declared}})
    (problem.folder / "events.sql").write_text(
        "SELECT kettle_id, TIMESTAMPTZ '2024-01-01 12:00+00' AS event_time, 'top' AS shelf, 1.0 AS litres, 3 AS age, "
        "photo FROM photos"
    )
    with opened(problem, "2024-01-01", "2024-01-01") as sources:
        found = pa.Table.from_batches(extract(problem, "events", sources.database, "2024-01-01", "2024-01-01"))
    assert found.schema.field("photo").type == table_schema(problem, "events").field("photo").type == KIND
    by_key = dict(zip(found["kettle_id"].to_pylist(), found["photo"].to_pylist(), strict=True))
    assert by_key == {"k0": lists[0], "k1": None, "k2": lists[2]}
    assert found["faults"].to_pylist() == [[], [], []]


def test_lists_of_another_length_and_odd_numbers_are_set_aside_by_name(photographed: Callable[..., Problem]) -> None:
    problem = photographed()
    values = [[1, 2, 3, 4], [1, 2, 3], [1, 2, None, 4], [1, float("nan"), 3, 4], [1, 2, float("inf"), 4], None]
    usual = {"event_time": NOON, "known_time": NOON, "cutoff_time": NOON, "shelf": "top", "partition": "2024-01-01"}
    rows = [
        {**usual, "kettle_id": f"k{n}", "photo": value, "faults": [], "number": n, "raw": None}
        for n, value in enumerate(values)
    ]
    staged = pa.Table.from_pylist(rows, schema=extracted_schema(problem, "events"))
    broken = {
        json.loads(row["row"])["kettle_id"]: row["rules"] for row in bad_rows(problem, "events", staged).to_pylist()
    }
    odd = ["photo: a number of it is missing or not finite"]
    assert broken == {"k1": ["photo: not 4 numbers"], "k2": odd, "k3": odd, "k4": odd}
    found = {rule.rule: rule.unexpected for rule in expectations(problem, "events", staged)}
    assert (found["photo: not 4 numbers"], found[odd[0]]) == (1, 3)


@pytest.mark.parametrize("scaling", ["none", "standard"])
def test_a_row_is_prepared_the_same_alone_and_from_a_file(scaling: str) -> None:
    values = [None if n % 10 == 0 else row for n, row in enumerate(VALUES)]
    rows = rows_of(values)
    made = Preparation(["photo"], [], {"scaling": scaling}, "binary", 0, {"photo": "embedding"}).fit(rows)
    whole = made.transform(rows)
    read = skops.io.loads(skops.io.dumps(made), trusted=TRUSTED_TYPES)
    alone = np.vstack([read.transform(rows.slice(place, 1)) for place in range(40)])
    assert np.array_equal(alone, whole[:40])
    assert made.names_ == ["photo #0", "photo #1", "photo #2", "photo #3", "photo is missing"]
    there = rows["photo"].is_valid().to_numpy()
    if scaling == "standard":
        assert np.allclose(whole[there, :LENGTH].std(0), 1, atol=1e-5)
    else:
        assert np.allclose(whole[there, :LENGTH], VALUES[there])
    assert np.allclose(whole[0, :LENGTH], whole[there, :LENGTH].mean(0), atol=1e-5), "a missing one is the mean"
    with pytest.raises(SchemaError, match="lists of 3 numbers, and 4 are wanted"):
        made.transform(pa.table({"photo": embeddings([[1, 2, 3]])}))


@pytest.mark.parametrize("model", ["logistic", "xgboost"])
def test_models_learn_from_embeddings_and_are_explained_by_column(
    photographed: Callable[..., Problem], model: str
) -> None:
    candidates = {"prior": {"model": "prior"}, "seeing": {"model": model}}
    problem = photographed(training={"candidates": candidates, "baselines": ["prior"], "threads": 1})
    rows = rows_of(VALUES)
    made = fit(problem, "seeing", rows.slice(0, 300), rows.slice(300))
    assert ((made.scores(rows.slice(300)) > 0.5) == IS_LATE[300:]).mean() > 0.75
    assert importances(problem, made, rows)[0]["feature"] == "photo"
    assert fingerprint(problem, rows)["hash"] == fingerprint(problem, rows.to_batches(max_chunksize=7))["hash"]
    assert fingerprint(problem, rows)["hash"] != fingerprint(problem, rows_of(VALUES + 0.5))["hash"]


def test_what_its_numbers_foretell_is_looked_at_for_leaks() -> None:
    found = single_feature_aucs(rows_of(VALUES), ["photo"], 0, {"photo": "embedding"})["photo"]
    assert (found.by, found.value > 0.8) == ("its numbers", True)


def test_it_is_looked_at_by_its_norm(photographed: Callable[..., Problem]) -> None:
    table = measured(rows_of([*VALUES[:3], None]), {"photo": "embedding"})
    assert table["photo (norm)"].to_pylist() == [
        *np.linalg.norm(VALUES[:3].astype(np.float32).astype(float), axis=1),
        None,
    ]
    (photo,) = (feature for feature in feature_schema(photographed(), rows_of(VALUES)) if feature["name"] == "photo")
    norms = np.linalg.norm(VALUES.astype(np.float32), axis=1)
    assert (photo["unit"], photo["min"]) == ("norm", pytest.approx(norms.min()))


def partition(shift: Any = 0.0, rows: int = 200, seed: int = 99) -> pa.Table:
    random = np.random.default_rng(seed)
    values = random.normal(size=(rows, LENGTH)) * [3, 2, 1, 0.5] + np.asarray(shift)
    return pa.table({"photo": embeddings(values), "score": random.random(rows)})


def learnt() -> Reference:
    parts = [partition(seed=n).append_column("partition", pa.array([f"{n}"] * 200)) for n in range(8)]
    history = pa.concat_tables(parts)
    labels = np.arange(history.num_rows) % 2
    tested = Scored("binary", ("0", "1"), labels, history["score"].to_numpy(), np.ones(len(labels)))
    return reference(history.select(["photo"]), labels, tested, history=history, vectors={"photo": "embedding"})


@pytest.mark.parametrize(
    ("shift", "moved"),
    [(0.0, set()), ([6, 0, 0, 0], {"photo (direction 1)"}), ([0, 0, 0, 4], {"photo (distance)", "photo (norm)"})],
)
def test_a_shift_is_seen_along_the_directions_and_beside_them(shift: Any, moved: set[str]) -> None:
    fitted = learnt()
    profiles, _ = profile(partition(shift).to_batches(), fitted)
    drifts = detect(fitted, profiles).columns
    found = {name for name, drift in drifts.items() if drift.is_beyond("step")}
    assert found >= moved
    assert bool(found) == bool(moved)


def test_rows_with_other_embeddings_are_told_apart(photographed: Callable[..., Problem]) -> None:
    problem, blocks = photographed(), np.arange(ROWS) // 20
    moved = domain(problem, rows_of(VALUES), blocks, rows_of(VALUES + 1.5), blocks, problem.evaluation.bootstrap)
    assert moved is not None and moved.has_moved
