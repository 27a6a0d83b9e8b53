"""The files of a version and of an MLflow run, by their names: JSON, or bytes."""

from __future__ import annotations

from typing import Any

from typing_extensions import TypedDict

from pipelines.documents.evaluation import Evaluation, GateVerdict
from pipelines.documents.lineage import VersionLineage


class VersionReference(TypedDict):
    """What monitoring compares a version's scores and features with."""

    trained_until: str | None
    """Last partition before the test split."""
    reference: Any
    """`profiles.profile.Reference` as JSON."""


# What the store keeps of a version, under models/<version>/. No class could have such names as fields.
VersionFiles = TypedDict(
    "VersionFiles",
    {
        "problem.json": Any,  # `Problem.model_dump`: the config that it was trained with
        "reference.json": VersionReference,
        "held_out.parquet": bytes,  # `monitoring.estimate.held_out`
        "lineage.json": VersionLineage,
        "card.md": bytes,
        "card.html": bytes,
    },
    total=False,
)

# What comes to a candidate's run after its training; the page of its release is that of the newest partition.
RunFiles = TypedDict(
    "RunFiles",
    {
        "evaluation.json": Evaluation,
        "evaluation.html": bytes,
        "gate.json": GateVerdict,
        "reference.json": VersionReference,
        "model_card.md": bytes,
        "model_card.html": bytes,
        "release.html": bytes,
    },
    total=False,
)
