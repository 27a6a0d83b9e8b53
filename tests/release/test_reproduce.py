from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import yaml

from pipelines import store, tracking
from pipelines.artifacts import table_schema
from pipelines.dataset import training_sets
from pipelines.dataset.fingerprint import fingerprint
from pipelines.dataset.label import SPLITS
from pipelines.errors import ConfigError, DataError
from pipelines.handoffs.training import FeaturizedShare
from pipelines.paths import version_uri
from pipelines.problem import Problem, load_problem
from pipelines.release.lineage import lineage, surroundings
from pipelines.release.reproduce import max_difference, on_disk, reproduce, training_rows
from pipelines.release.versions import write_version_files
from pipelines.stages import stage
from pipelines.training.fit import fit
from tests.handed_on import featurized
from tests.mlflow_database import mlflow_in

pytestmark = pytest.mark.slow

NAME, VERSION, CANDIDATE = "kettle", "7", "xgboost"
START, DAYS, A_DAY = datetime(2024, 1, 1, tzinfo=UTC), 9, 40
PARTITION = (START + timedelta(days=DAYS - 1)).date().isoformat()
SEARCHED = {"max_depth": 3}
RAW: dict[str, Any] = {
    "description": "Does the kettle boil over?",
    "owner": "kitchen",
    "key": "kettle_id",
    "partitions": {"every": "day", "first": "2024-01-01", "last": "2024-02-01"},
    "sources": {"kettles": {"path": "kettles.csv", "columns": {"kettle_id": "string"}}},
    "columns": {
        "shelf": {"type": "string", "available": "cutoff"},
        "litres": {"type": "float", "available": "cutoff"},
    },
    "labels": {"weigh_by_confidence": True},
    "dataset": {"sampling": {"method": "random", "fraction": 0.8, "seed": 3}},
    "features": {
        "columns": ["shelf", "litres"],
        "history": {"shelf_rate_3d": {"by": ["shelf"], "function": "mean", "window_days": 3}},
    },
    "training": {
        "baselines": ["prior"],
        "candidates": {
            "prior": {"model": "prior"},
            "xgboost": {"model": "xgboost", "parameters": {"n_estimators": 8, "subsample": 0.7}},
        },
    },
    "gate": {"limits": {"auc": {"min": 0.6}}, "gain_over_baselines": {"auc": 0}, "gain_over_champion": {"auc": 0}},
}


def kettles(days: int, seed: int = 0) -> tuple[pa.Table, pa.Table]:
    """Statements of `days` days: events, and labels that come an hour after them, some by hand."""
    rng, problem = np.random.default_rng(seed), load_problem(NAME)
    count = days * A_DAY
    times = [START + timedelta(days=n // A_DAY, minutes=n % A_DAY) for n in range(count)]
    litres = rng.uniform(0, 5, count)
    labels = (litres + rng.normal(0, 1, count) > 2.5).astype(int)
    shelves = rng.choice(["top", "bottom"], count)
    events = [
        {
            "kettle_id": f"k{n:04}",
            "event_time": at,
            "cutoff_time": at,
            "known_time": at - timedelta(hours=1),
            "shelf": str(shelves[n]),
            "litres": None if n % 17 == 0 else float(litres[n]),
            "statement": 0,
            "partition": at.date().isoformat(),
        }
        for n, at in enumerate(times)
    ]
    said = [
        {
            **{name: one[name] for name in ("kettle_id", "event_time", "partition")},
            "label": int(label),
            "statement": 0,
            "known_time": one["event_time"] + timedelta(hours=1),
            "source": "natural" if n % 5 else "hand",
            "confidence": 1.0 if n % 5 else 0.75,
            "labeler": "" if n % 5 else "ann",
        }
        for n, (one, label) in enumerate(zip(events, labels, strict=True))
    ]
    schemas = (table_schema(problem, "events"), table_schema(problem, "labels"))
    return pa.Table.from_pylist(events, schemas[0]), pa.Table.from_pylist(said, schemas[1])


def write(tables: tuple[pa.Table, pa.Table]) -> None:
    problem = load_problem(NAME)
    keys = sorted(set(tables[0]["partition"].to_pylist()))
    store.write_table(problem, "events", tables[0], keys)
    for source in ("hand", "natural"):
        rows = tables[1].filter(pa.compute.equal(tables[1]["source"], source))
        store.write_table(problem, "labels", rows, keys, source)


@dataclass
class Trained:
    environment: dict[str, str]
    pins: FeaturizedShare


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A version in a store and in MLflow: copy it before you change it."""
    folder = tmp_path_factory.mktemp("reproduce")
    home = folder / "problems" / NAME
    home.mkdir(parents=True)
    (home / "problem.yaml").write_text(yaml.safe_dump(RAW, sort_keys=False))
    (home / "events.sql").write_text("SELECT * FROM kettles")
    (home / "labels.sql").write_text("SELECT * FROM kettles")
    environment = {
        "EVERGREEN_PROBLEMS": str(folder / "problems"),
        "EVERGREEN_STORE_URI": (folder / "store").as_uri(),
        "MLFLOW_TRACKING_URI": mlflow_in(folder),
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        patch.chdir(folder)  # MLflow keeps artifacts beside its database
        write(kettles(DAYS))
        (pins,) = featurized(NAME, stage("train.label")(NAME, PARTITION))
        problem = load_problem(NAME)
        rows = {split: training_sets.split(problem, pins, split) for split in SPLITS}
        model = fit(problem, CANDIDATE, rows["train"], rows["validation"], parameters=SEARCHED)
        made_of = lineage(
            problem,
            pins,
            {split: fingerprint(problem, one) for split, one in rows.items()},
            CANDIDATE,
            SEARCHED,
            surroundings(),
        )
        tags = {"partition": PARTITION, "training_set": pins.training_set, "training": pins.training}
        run_id, _ = tracking.log_candidate(
            problem,
            CANDIDATE,
            model,
            tags=tags,
            parameters={},
            metrics={},
            files={},
            dataset_uri=store.table_uri(problem, "training_sets"),
            dataset_version=pins.training_set_version,
            example=rows["train"].select(problem.feature_names).slice(0, 5),
        )
        settings = tracking.run_file(run_id, "problem.json")
        files = {"problem.json": settings, "lineage.json": {**made_of, "run_id": run_id, "version": VERSION}}
        write_version_files(problem, VERSION, files)
    return Trained(environment, pins)


@pytest.fixture
def kettle(trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Problem]:
    """The trained problem, its store and its config this test's own."""
    for name, value in trained.environment.items():
        monkeypatch.setenv(name, value)
    shutil.copytree(trained.environment["EVERGREEN_STORE_URI"].removeprefix("file://"), tmp_path / "store")
    shutil.copytree(trained.environment["EVERGREEN_PROBLEMS"], tmp_path / "problems")
    monkeypatch.setenv("EVERGREEN_STORE_URI", (tmp_path / "store").as_uri())
    monkeypatch.setenv("EVERGREEN_PROBLEMS", str(tmp_path / "problems"))
    yield load_problem(NAME)


def change(problem: Problem, file: str, path: str, value: Any) -> None:
    """One value of what is kept of the version; dots lead to it."""
    uri = version_uri(problem, VERSION, f"{file}.json")
    content = store.read_json(uri)
    *parents, last = path.split(".")
    place = content
    for name in parents:
        place = place[name]
    place[last] = value
    store.write_json(uri, content)


def of_rows_and_settings(differences: list[str]) -> list[str]:
    """Without what a checkout with uncommitted changes says of itself."""
    return [one for one in differences if not one.startswith("code:")]


def test_a_version_is_made_again_to_the_last_bit_whatever_came_later(kettle: Problem) -> None:
    later, said = kettles(DAYS + 2, seed=1)
    write((later, said))
    before = {name: store.table_version(kettle, name) for name in ("events", "labels", "features", "training_sets")}
    found = reproduce(NAME, VERSION)
    assert (found.identical, found.max_difference, of_rows_and_settings(found.differences)) == (True, 0.0, [])
    assert found.rows == 2 * A_DAY
    assert before == {name: store.table_version(kettle, name) for name in before}, "nothing is written"


def test_rows_are_made_again_as_the_stages_made_them(kettle: Problem, trained: Trained) -> None:
    events, labels = (
        store.dataset(kettle, name, getattr(trained.pins, f"{name}_version")) for name in ("events", "labels")
    )
    again = training_rows(kettle, events, labels, PARTITION, datetime.fromisoformat(trained.pins.as_of))
    for split in SPLITS:
        assert again[split].equals(training_sets.split(kettle, trained.pins, split)), split
    assert 0 < again["train"].num_rows < 6 * A_DAY, "sampled"
    assert {1.0, 0.75} <= set(again["train"]["weight"].to_pylist())


def test_what_changed_since_is_named_and_the_recorded_settings_are_used(kettle: Problem) -> None:
    raw = dict(RAW) | {"training": RAW["training"] | {"seed": 9}, "owner": "cellar"}
    (kettle.folder / "problem.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))
    (kettle.folder / "events.sql").write_text("SELECT * FROM kettles WHERE true")
    change(kettle, "lineage", "surroundings.git_commit", "1234abcd")
    change(kettle, "lineage", "surroundings.python", "3.9.1")
    change(kettle, "lineage", "surroundings.packages.numpy", "1.0")
    change(kettle, "lineage", "surroundings.lock_file", "f" * 64)
    change(kettle, "lineage", "surroundings.system", "Plan 9")
    found = reproduce(NAME, VERSION)
    assert found.identical, "made again with what was recorded"
    assert found.differences[:2] == [
        "config owner: kitchen -> cellar (made again with what it was)",
        "config training.seed: 0 -> 9 (made again with what it was)",
    ]
    rest = "\n".join(found.differences[2:])
    for part in (
        "events.sql is another text",
        "code: 1234abcd -> ",
        "Python: 3.9.1 -> 3.",
        "package numpy: 1.0 -> ",
        f"lock file: {'f' * 64} -> ",
        "system: Plan 9 -> ",
    ):
        assert part in rest
    assert "labels.sql" not in rest


@pytest.mark.parametrize(
    ("file", "path", "value"),
    [("problem", "training.seed", 9), ("lineage", "parameters.max_depth", 1)],
)
def test_another_model_is_told_apart(kettle: Problem, file: str, path: str, value: Any) -> None:
    change(kettle, file, path, value)
    found = reproduce(NAME, VERSION)
    assert not found.identical
    assert 0 < found.max_difference < 1
    assert ("config training.seed: 9 -> 0 (made again with what it was)" in found.differences) == (value == 9)


def test_other_rows_are_named(kettle: Problem) -> None:
    write(kettles(DAYS, seed=1))
    change(kettle, "lineage", "tables.events", store.table_version(kettle, "events"))
    found = reproduce(NAME, VERSION)
    assert not found.identical
    named = [one for one in found.differences if one.startswith("rows of ")]
    assert [one.split(",")[0] for one in named] == ["rows of train", "rows of validation", "rows of test"]


def test_rows_from_disk_are_read_from_disk_again(kettle: Problem, trained: Trained, tmp_path: Path) -> None:
    change(kettle, "lineage", "is_streamed", True)
    streamed = reproduce(NAME, VERSION)
    rows = {split: training_sets.split(kettle, trained.pins, split) for split in SPLITS}
    fitted = (
        fit(kettle, CANDIDATE, train, rows["validation"], parameters=SEARCHED).scores(rows["test"])
        for train in (rows["train"], on_disk(rows["train"], str(tmp_path)))
    )
    assert streamed.max_difference == max_difference(*fitted)
    many = pa.concat_tables([rows["train"]] * (100_000 // rows["train"].num_rows))
    batches = on_disk(many, str(tmp_path)).to_batches(batch_readahead=1, fragment_readahead=1)
    assert [batch.num_rows for batch in batches] == [65_536, many.num_rows - 65_536]


def test_tables_that_are_gone_are_an_error_that_says_so(kettle: Problem) -> None:
    from deltalake import DeltaTable

    write(kettles(DAYS, seed=1))
    table = DeltaTable(store.table_uri(kettle, "events"))
    table.vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False, full=True)
    with pytest.raises(DataError, match=r"files of the tables as they were .* are gone") as error:
        reproduce(NAME, VERSION)
    assert "vacuumed" in error.value.cure
    change(kettle, "lineage", "tables.events", 99)
    with pytest.raises(DataError, match="table events has no version 99 any more"):
        reproduce(NAME, VERSION)
    store.delete_folder(store.table_uri(kettle, "labels"))
    change(kettle, "lineage", "tables.events", store.table_version(kettle, "events"))
    with pytest.raises(DataError, match=r"table labels has no version \d any more"):
        reproduce(NAME, VERSION)


def test_a_table_that_was_not_there_is_empty(kettle: Problem) -> None:
    change(kettle, "lineage", "tables.labels", None)
    with pytest.raises(DataError, match=r".*") as error:
        reproduce(NAME, VERSION)
    assert "gone" not in error.value.what


def test_versions_without_a_lineage_or_with_settings_of_other_code(kettle: Problem) -> None:
    with pytest.raises(DataError, match="kettle has no version 8 whose lineage is known"):
        reproduce(NAME, "8")
    change(kettle, "problem", "training.momentum", 3)
    with pytest.raises(ConfigError, match="the code of today does not take the settings of version 7") as error:
        reproduce(NAME, VERSION)
    assert "check out the code" in error.value.cure
