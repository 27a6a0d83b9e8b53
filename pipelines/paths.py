"""Where each file of a problem lies in the store."""

from __future__ import annotations

from pipelines import store
from pipelines.problem import Problem


def version_uri(problem: Problem, version: str, name: str) -> str:
    return store.store_uri(problem.name, "models", version, name)


def reference_uri(problem: Problem, version: str) -> str:
    return version_uri(problem, version, "reference.json")


def datasheet_uri(problem: Problem, training_set: str) -> str:
    """The page about a training set; its Markdown and its facts lie beside it."""
    return store.store_uri(problem.name, "datasheets", f"{training_set}.html")


def evaluation_uri(problem: Problem, training: str, kind: str = "json") -> str:
    """What was found out about the challenger of a training; its page lies beside it."""
    return store.store_uri(problem.name, "evaluations", f"{training}.{kind}")


def manifest_uri(problem: Problem, partition: str) -> str:
    """What says that a partition has been scored, and by which version."""
    return store.store_uri(problem.name, "predictions_manifest", f"{partition}.json")


def facts_uri(problem: Problem, training_set: str) -> str:
    """What the datasheet says, for machines."""
    return datasheet_uri(problem, training_set).replace(".html", ".json")


def feature_schema_uri(problem: Problem) -> str:
    """What the features of the problem's feature set are."""
    return store.store_uri(problem.name, "feature_sets", f"{problem.feature_set}.json")


def config_uri(problem_name: str, config_hash: str) -> str:
    """The config that runs began with."""
    return store.store_uri(problem_name, "configs", f"{config_hash}.json")


def ingest_staging_uri(problem: Problem, first: str, last: str) -> str:
    """Rows of an ingest, between its stages."""
    return store.store_uri(problem.name, "staging", "ingest", f"{first}_{last}")


def train_staging_uri(problem: Problem, training: str) -> str:
    """What a training hands on between its stages."""
    return store.store_uri(problem.name, "staging", "train", training)


def labelled_uri(problem: Problem, training: str) -> str:
    """Rows of a training's `label`."""
    return f"{train_staging_uri(problem, training)}/labelled"


def score_staging_uri(problem: Problem, partition: str, *parts: str) -> str:
    """Scores of a partition, until they are published."""
    return store.store_uri(problem.name, "staging", "score", partition, *parts)


def evidence_uri(problem: Problem, partition: str, version: str, name: str) -> str:
    """What a stage of the monitor has found in a partition that a version scored, such as its `diagnosis`."""
    return store.store_uri(problem.name, "monitoring", partition, version, f"{name}.json")


def release_page_uri(problem: Problem, partition: str) -> str:
    """How far a release had come at the end of a partition."""
    return store.store_uri(problem.name, "reports", partition, "release.html")
