from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pipelines.artifacts import table_schema
from pipelines.dataset.fingerprint import fingerprint
from pipelines.documents.lineage import Lineage
from pipelines.handoffs.training import BuildsOn, Checked
from pipelines.problem import ROOT, Problem
from pipelines.release.lineage import (
    PACKAGES,
    lineage,
    setting_changes,
    surroundings,
    surroundings_changes,
)
from tests.declared_keys import assert_declared
from tests.handed_on import example

ToyProblem = Callable[..., Problem]
PINS = {
    "training": "2024-01-09-1a2b",
    "training_set": "0123456789ab",
    "partition": "2024-01-09",
    "trained_until": "2024-01-06",
    "as_of": "2024-01-10T00:00:00+00:00",
    "events_version": 3,
    "labels_version": None,
    "features_version": 5,
    "training_set_version": 2,
}


@pytest.fixture
def rows(toy: ToyProblem) -> pa.Table:
    one = {
        "kettle_id": "a",
        "partition": "2024-01-02",
        "event_time": datetime(2024, 1, 2, tzinfo=UTC),
        "shelf": "top",
        "litres": 1.5,
        "shelf_rate_3d": None,
        "shelf_count_2d": 0,
        "label": 1,
        "weight": 1.0,
    }
    schema = table_schema(toy(), "features")
    schema = schema.append(pa.field("label", pa.int8())).append(pa.field("weight", pa.float64()))
    return pa.Table.from_pylist([one, {**one, "kettle_id": "b", "label": 0, "partition": "2024-01-01"}], schema)


def test_a_lineage_holds_all_and_goes_to_json(toy: ToyProblem, rows: pa.Table, tmp_path: Path) -> None:
    problem = toy(**{"training.seed": 4, "dataset.sampling": {"method": "random", "fraction": 0.5, "seed": 6}})
    problem._folder = tmp_path
    for name in ("events", "labels"):
        (tmp_path / f"{name}.sql").write_text(name)
    splits = {"train": fingerprint(problem, rows)}
    pins = example(
        Checked,
        **PINS,
        how="continue",
        window_from="2024-01-02",
        held=["2024-01-03"],
        builds_on=example(BuildsOn, version="6"),
    )
    found = lineage(problem, pins, splits, "xgboost", {"max_depth": 3}, surroundings(), is_streamed=True)
    assert (found["how"], found["window_from"], found["held"]) == ("continue", "2024-01-02", ["2024-01-03"])
    beside = lineage(problem, pins, splits, "prior", {}, surroundings())
    assert (beside["how"], beside["parent"]) == ("scratch", None), "a baseline beside it is fitted as ever"
    assert json.loads(json.dumps(found)) == found
    assert_declared(Lineage, found)
    assert found["tables"] == {"events": 3, "labels": None, "features": 5, "training_sets": 2}
    assert found["seeds"] == {"sampling": 6, "resampling": 0, "augmentation": 0, "training": 4, "bootstrap": 0}
    wanted = {
        "problem": problem.name,
        "candidate": "xgboost",
        "model": "xgboost",
        "parameters": {"max_depth": 3},
        "parent": "6",
        "is_streamed": True,
        "feature_set": problem.feature_set,
        "splits": splits,
        "config_hash": problem.config_hash,
        **{name: PINS[name] for name in list(PINS)[:5]},
    }
    assert {name: found[name] for name in wanted} == wanted
    assert found["queries"].keys() == {"events", "labels"}
    assert found["queries"]["events"] != found["queries"]["labels"]


def test_surroundings_are_those_of_this_process() -> None:
    found = surroundings()
    either = {"xgboost", "xgboost-cpu"}
    assert set(found["packages"]) - either == set(PACKAGES) - either
    assert len(set(found["packages"]) & either) == 1, "one build of XGBoost is installed, and it is told which"
    assert (len(found["lock_file"]) == 64) == (ROOT / "uv.lock").is_file()
    assert [line for line in surroundings_changes(found, found) if not line.startswith("code")] == []


@pytest.mark.parametrize(
    ("then", "now", "wanted"),
    [
        ({"git_commit": "a"}, {"git_commit": "a"}, []),
        ({"git_commit": "a"}, {"git_commit": "b-dirty"}, ["code: a -> b-dirty"]),
        ({"git_commit": "a"}, {"git_commit": None}, ["code: a -> none"]),
        ({"git_commit": None}, {"git_commit": None}, ["code: is not known; what was not committed then is not known"]),
        ({"git_commit": "a", "cpus": 2}, {"git_commit": "a", "cpus": 4}, ["CPUs: 2 -> 4"]),
    ],
)
def test_changes_of_surroundings_are_named(then: dict[str, Any], now: dict[str, Any], wanted: list[str]) -> None:
    assert surroundings_changes(then, now) == wanted


def test_long_values_are_cut_and_settings_that_are_new_or_gone_are_named() -> None:
    lines = setting_changes({"a": ["x" * 200], "gone": 1}, {"a": [], "new": {"b": 2}})
    assert [line.partition(":")[0] for line in lines] == ["a", "gone", "new"]
    assert lines[1:] == ["gone: 1 -> not there", "new: not there -> {'b': 2}"]
    assert len(lines[0]) < 100
