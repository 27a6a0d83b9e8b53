"""What a version has learnt from, as the lineages of it and of its parents tell it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipelines import tracking
from pipelines.errors import DataError
from pipelines.release.versions import (
    learnt_by,
    load_version,
    taught,
    version_lineage,
    version_problem,
    write_version_files,
)
from pipelines.stages.monitor.past import taught_by
from tests.conftest import ROOT, ToyProblem

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


MODELS: dict[str, Any] = {"run_id": "serves", "model_sha256": "1f", "beside_sha256": {"tested": "2f"}}


@pytest.mark.parametrize(
    ("lineage", "run_id", "compared_with"),
    [
        (MODELS, None, ("serves", "1f")),
        (MODELS, "serves", ("serves", "1f")),
        (MODELS, "tested", ("tested", "2f")),
        ({"run_id": "serves"}, None, ("serves", None)),
        (None, "serves", ("serves", None)),
    ],
)
def test_a_version_is_loaded_as_the_very_file_that_was_registered(
    toy: ToyProblem,
    store_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    lineage: Any,
    run_id: str | None,
    compared_with: tuple[str, str | None],
) -> None:
    problem = toy()
    if lineage is not None:
        write_version_files(problem, "1", {"lineage.json": lineage})
    loaded: list[tuple[str, str | None]] = []
    monkeypatch.setattr(tracking, "load_model", lambda *of: loaded.append(of))
    load_version(problem, "1", run_id)
    assert loaded == [compared_with]


def test_nobody_else_loads_a_version() -> None:
    """Who loads a model by its run alone has one that no version has: a candidate, or what its gate has let through.

    Those are held against what was logged."""
    by_run = {
        path.relative_to(ROOT).as_posix()
        for folder in ("pipelines", "include", "plugins", "dags")
        for path in (ROOT / folder).rglob("*.py")
        if "tracking.load_model(" in path.read_text()
    }
    candidates = {"stages/train/evaluate.py", "stages/train/refit.py", "labeling/scores.py"}
    assert by_run == {f"pipelines/{name}" for name in {"release/versions.py", *candidates}}
