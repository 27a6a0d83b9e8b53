"""What the store keeps of each version of the registry: a file of JSON or bytes each, under models/<version>/."""

from __future__ import annotations

from typing import Any, TypedDict

from pipelines.documents.lineage import VersionLineage


class VersionReference(TypedDict):
    """What monitoring compares a version's scores and features with."""

    trained_until: str | None
    """Last partition before the test split."""
    reference: Any
    """`profiles.profile.Reference` as JSON."""


# Files of a version by their names, which no class could have as fields.
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
