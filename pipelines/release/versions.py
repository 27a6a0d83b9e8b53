"""What the store keeps of each registry version, so that serving and monitoring need no registry to read it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from typing_extensions import TypedDict

from pipelines import store
from pipelines.documents.lineage import VersionLineage
from pipelines.documents.version import VersionFiles
from pipelines.errors import DataError
from pipelines.paths import reference_uri, version_uri
from pipelines.problem import Problem, parse_problem

if TYPE_CHECKING:
    from pipelines.training.model import Model


def write_version_files(problem: Problem, version: str, files: VersionFiles) -> None:
    """Keep a version's files: bytes as they are, anything else as JSON, in its own order: that of the features counts,
    as a fit draws among its columns by their place."""
    for name, content in files.items():
        made = content if isinstance(content, bytes) else json.dumps(content, indent=1).encode()
        store.write_bytes(version_uri(problem, version, name), made)


def version_problem(problem: Problem, version: str) -> Problem:
    """The config that a version was trained with: it goes on scoring by its own features, whatever changes since.

    But for `release`: how versions come to serve is no business of one that is trained, and a setting of it that was
    given up since must not keep the version from scoring.
    """
    kept = store.read_json(version_uri(problem, version, "problem.json"))
    return parse_problem({name: value for name, value in kept.items() if name != "release"}, problem.folder)


def threshold_of(problem: Problem, version: str) -> float:
    """The decision threshold that goes with a version."""
    return float(store.read_json(reference_uri(problem, version))["reference"].get("threshold", 0.5))


def version_lineage(problem: Problem, version: str) -> VersionLineage:
    """What a version is made of.

    Raises:
        DataError: it is one of before lineages were kept.
    """
    lineage: VersionLineage = store.read_json(version_uri(problem, version, "lineage.json"))
    return lineage


def find_version_lineage(problem: Problem, version: str) -> VersionLineage | None:
    """What a version is made of; None of a version of before lineages were kept."""
    lineage: VersionLineage | None = store.find_json(version_uri(problem, version, "lineage.json"))
    return lineage


class ModelFiles(TypedDict):
    """SHA-256 of the files of a version's models, as its lineage keeps them."""

    model_sha256: str
    beside_sha256: dict[str, str]


def model_files(run_id: str, beside: Iterable[str], logged: Mapping[str, str]) -> ModelFiles:
    """Hashes of the file that the model of `run_id` lies in, and of those of the runs `beside` it.

    Args:
        logged: hashes that the files had when they were logged, by run, as far as they were kept.

    Raises:
        DataError: a file is another than was logged.
    """
    from pipelines import tracking

    hashes = {run: tracking.model_sha256(run) for run in sorted({run_id, *beside})}
    for run, sha256 in hashes.items():
        tracking.require_same(run, sha256, logged.get(run))
    return {"model_sha256": hashes.pop(run_id), "beside_sha256": hashes}


def load_version(problem: Problem, version: str, run_id: str | None = None) -> Model:
    """The model of a version. All that load one do so here, where its file is held against what was registered.

    `run_id`: of its MLflow run, or of another model that belongs to the version: the one that its gate tested, or a
    baseline of its training; None: as the lineage says. A file of before hashes were kept is taken as it is.

    Raises:
        DataError: the file is another than was registered, or cannot be trusted, or is gone.
    """
    from pipelines import tracking

    made_of = find_version_lineage(problem, version)
    if run_id is None:
        run_id = (made_of or version_lineage(problem, version))["run_id"]
    return tracking.load_model(run_id, registered_sha256(made_of, run_id) if made_of else None)


def registered_sha256(made_of: VersionLineage, run_id: str) -> str | None:
    """SHA-256 that a run's model had when the version was registered; None: it was not kept.

    >>> made_of = {"run_id": "a", "model_sha256": "1f", "beside_sha256": {"b": "2f"}}
    >>> [registered_sha256(made_of, run_id) for run_id in ("a", "b", "c")]
    ['1f', '2f', None]
    """
    own = {made_of["run_id"]: made_of.get("model_sha256")}
    return {**made_of.get("beside_sha256", {}), **own}.get(run_id)


class Taught(NamedTuple):
    """Training sets and partitions that a version's estimator has learnt from, those of its parents too."""

    sets: list[str]
    partitions: list[str]


def require_new(walked: set[str], version: str) -> str:
    """The version, from now on one of those that `walked` has.

    Raises:
        DataError: it is there already, so it would be its own ancestor, and the way back would never end.
    """
    if version in walked:
        raise DataError(
            f"version {version} is recorded as made from itself",
            where=f"lineage.json of version {version}",
            cure="find out who wrote it; promote another version, or train from scratch",
        )
    walked.add(version)
    return version


def taught(problem: Problem, version: str, is_tested: bool = False) -> Taught:
    """Back to the version that was trained from scratch. What only calibrated a version did not teach its estimator.

    `is_tested`: of the model that the version's gate measured, not of the one that was fitted again and serves. The
    sets are in either case those of the tested models: what a refit learns from is in no set.
    """
    sets: list[str] = []
    partitions: set[str] = set()
    walked: set[str] = set()
    parent: str | None = version
    while parent is not None:
        made_of = version_lineage(problem, require_new(walked, parent))
        refit = None if is_tested else made_of.get("refit")
        if made_of.get("how") != "recalibrate":
            sets.insert(0, made_of["training_set"])
            partitions |= set(made_of["splits"]["train"]["partitions"])
            partitions |= set(refit["rows"]["partitions"]) if refit else set()
        parent = made_of.get("parent")
        if parent is not None:
            run_id = refit["base"] if refit else made_of.get("parent_run")
            is_tested = run_id == measured_run(problem, parent)
    return Taught(sets, sorted(partitions))


def learnt_by(problem: Problem, version: str) -> set[str]:
    """Partitions that the model which serves was fitted or calibrated on: what it says of them tells nothing of how
    good it is.

    Empty for a version of before lineages were kept.
    """
    made_of = find_version_lineage(problem, version)
    if made_of is None:
        return set()
    refit = made_of.get("refit")
    own = [refit["rows"]] if refit else [made_of["splits"]["train"]]
    if made_of.get("how") == "recalibrate" and not refit:
        own.append(made_of["splits"]["validation"])
    return {*taught(problem, version).partitions, *(key for training in own for key in training["partitions"])}


def measured_run(problem: Problem, version: str) -> str | None:
    """The MLflow run of the model that a version's gate measured, where another one serves; None: that one serves."""
    made_of = find_version_lineage(problem, version)
    refit = made_of.get("refit") if made_of else None
    return refit["of"] if refit else None
