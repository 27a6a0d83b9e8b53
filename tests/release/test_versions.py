"""What a version has learnt from, as the lineages of it and of its parents tell it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipelines.errors import DataError
from pipelines.release.versions import learnt_by, taught, version_lineage, version_problem, write_version_files
from pipelines.stages.monitor.past import taught_by
from tests.conftest import ToyProblem

SCRATCH: dict[str, Any] = {
    "how": "scratch",
    "parent": None,
    "training_set": "1",
    "splits": {"train": {"partitions": ["a"]}, "validation": {"partitions": ["b"]}, "test": {"partitions": ["c"]}},
}
UPDATED = SCRATCH | {"how": "recalibrate", "parent": "1", "parent_run": "first", "training_set": "2"}
UPDATED |= {"splits": {name: {"partitions": [name]} for name in ("train", "validation", "test")}}
REFIT = {"of": "tested", "base": "first", "rows": {"partitions": ["validation", "test"]}}


@pytest.mark.parametrize(("refit", "calibrated_on"), [(None, {"train", "validation"}), (REFIT, {"validation", "test"})])
def test_what_a_version_was_calibrated_on_is_learnt_too_though_it_taught_its_trees_nothing(
    toy: ToyProblem, store_folder: Path, refit: dict[str, Any] | None, calibrated_on: set[str]
) -> None:
    problem = toy()
    write_version_files(problem, "1", {"lineage.json": SCRATCH})
    write_version_files(problem, "2", {"lineage.json": UPDATED | {"refit": refit}})
    assert taught(problem, "2").partitions == taught(problem, "1").partitions == ["a"]
    assert learnt_by(problem, "1") == {"a"}
    assert learnt_by(problem, "2") == {"a"} | calibrated_on


def test_a_version_goes_on_scoring_though_a_setting_of_releases_was_given_up_since(
    toy: ToyProblem, store_folder: Path
) -> None:
    problem = toy()
    trained = problem.model_dump(mode="json")
    trained["release"]["bandit"]["seed"] = 0
    write_version_files(problem, "1", {"problem.json": trained})
    assert version_problem(problem, "1").feature_set == problem.feature_set


@pytest.mark.parametrize("parents", [{"1": "1"}, {"1": "2", "2": "1"}])
def test_the_way_back_ends_where_a_version_is_its_own_ancestor(
    toy: ToyProblem, store_folder: Path, parents: dict[str, str]
) -> None:
    problem = toy()
    for version, parent in parents.items():
        files: Any = {"lineage.json": UPDATED | {"version": version, "parent": parent}}
        write_version_files(problem, version, files)
    with pytest.raises(DataError, match="made from itself"):
        taught(problem, "1")
    with pytest.raises(DataError, match="made from itself"):
        taught_by(problem, version_lineage(problem, "1"))
