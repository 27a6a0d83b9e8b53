"""The assets of a problem: what its DAGs tell each other, under one name each.

    ingest -> <problem>/events -> score -> <problem>/predictions -> monitor -> <problem>/retrain_request -> train
                                                                 -> release -> <problem>/model

An event carries the partition key of the run that emitted it, and wakes one run of the next DAG for that key.
A run without a key (a bulk history, a task that was skipped) wakes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow.sdk import Asset, AssetAlias


def events(problem: str) -> Asset:
    """New rows in `events` (and `labels`)."""
    return Asset(f"{problem}/events")


def predictions(problem: str) -> Asset:
    """A scored partition."""
    return Asset(f"{problem}/predictions")


def retrain_request(problem: str) -> Asset:
    """The monitor asks for a new model."""
    return Asset(f"{problem}/retrain_request")


def model(problem: str) -> Asset:
    """A version that was promoted to champion; wakes nobody, kept for lineage."""
    return Asset(f"{problem}/model")


def promotion(problem: str) -> AssetAlias:
    """`model`, of a task that does not promote each time that it succeeds: an event comes from those that do alone."""
    return AssetAlias(f"{problem}/model")


def is_promotion(result: Mapping[str, Any]) -> bool:
    """Whether a stage has let a version serve.

    >>> is_promotion({"how": "released"}), is_promotion({"action": "promoted"})
    (False, True)
    """
    return result.get("how") == "serves" or result.get("action") == "promoted"


def facts(result: Mapping[str, Any]) -> dict[str, Any]:
    """The scalars of a stage's result: small enough to travel with an asset event.

    >>> facts({"rows": 98, "version": 3, "columns": ["a", "b"], "verdict": "drift"})
    {'rows': 98, 'version': 3, 'verdict': 'drift'}
    """
    return {key: value for key, value in result.items() if isinstance(value, str | int | float)}
