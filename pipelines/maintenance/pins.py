"""What the versions of a problem rest on: table versions and MLflow runs that have to stay as they are."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import NamedTuple

from pipelines import store, tracking
from pipelines.documents.lineage import Lineage, VersionLineage
from pipelines.errors import DataError
from pipelines.problem import Problem


class Pins(NamedTuple):
    """What may not be taken away."""

    tables: dict[str, set[int]]
    """Versions, by the table's URI."""
    runs: set[str]
    """Of the models of versions, of those that they went on from, of their gates' and of their baselines."""


def pins(problem: Problem) -> Pins:
    """What every registered version rests on, whether the store or only MLflow still knows its lineage.

    Raises:
        DataError: a lineage cannot be read, so nobody can say what it pins.
    """
    tables: dict[str, set[int]] = defaultdict(set)
    runs: set[str] = set()
    kept = lineages(problem)
    for version in tracking.versions(problem):
        runs |= {version.run_id, *_baselines(version.run_id)}
        if version.number not in kept:
            _pin(problem, tracking.run_lineage(version.run_id), tables, runs)
    for made_of in kept.values():  # those of versions that the registry has lost too
        _pin(problem, made_of, tables, runs)
        runs |= {made_of["run_id"], *made_of.get("beside_sha256", ())}
    return Pins(dict(tables), runs)


def lineages(problem: Problem) -> dict[str, VersionLineage]:
    """What the store says that each version is made of.

    Raises:
        DataError: one of them cannot be read.
    """
    kept: dict[str, VersionLineage] = {}
    for file in store.listing(store.store_uri(problem.name, "models")):
        *_, version, name = file.uri.split("/")
        if name == "lineage.json":
            kept[version] = _read(file.uri)
    return kept


def table_uris(problem: Problem, made_of: Lineage) -> dict[str, int]:
    """The versions of tables that a model was made of, by the tables' URIs."""
    versions: dict[str, int] = {}
    for name, version in made_of["tables"].items():
        if isinstance(version, int):
            parts = [made_of["feature_set"]] if name == "features" else []
            versions[store.store_uri(problem.name, name, *parts)] = version
    return versions


def _read(uri: str) -> VersionLineage:
    try:
        made_of: VersionLineage = store.read_json(uri)
        made_of["tables"]
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise DataError(
            f"a version's lineage cannot be read: {error!r}",
            where=uri,
            cure="bring it back from a backup, or from the version's run in MLflow, which has a lineage.json too",
        ) from error
    return made_of


def _pin(problem: Problem, made_of: Lineage, tables: dict[str, set[int]], runs: set[str]) -> None:
    for uri, version in table_uris(problem, made_of).items():
        tables[uri].add(version)
    refit = made_of.get("refit")
    named = [made_of.get("parent_run"), *((refit["of"], refit["base"]) if refit else ())]
    runs |= {run for run in named if run is not None}


def _baselines(run_id: str) -> set[str]:
    """Runs of the baselines of a version's training: one of them may be fallen back to."""
    try:
        evaluation = tracking.run_evaluation(run_id)
    except DataError:  # it has none: there is nothing to fall back to
        return set()
    return {baseline["run_id"] for baseline in evaluation.get("baselines", {}).values()}
