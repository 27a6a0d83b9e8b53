"""A problem.yaml with nothing in it but what is required, for each task."""

from __future__ import annotations

from typing import Any

REQUIRED: dict[str, Any] = {
    "description": "How long does the kettle take?",
    "owner": "kitchen",
    "key": "kettle_id",
    "partitions": {"every": "week", "first": "2024-01-01"},
    "sources": {"kettles": {"path": "kettles.parquet"}},
    "available": "cutoff",
    "columns": {"litres": {"type": "float"}, "watts": {"type": "float"}, "shelf": {"type": "string"}},
    "features": {"columns": "all"},
}
# What a task requires beside that.
OF_TASK: dict[str, dict[str, Any]] = {
    "binary": {},
    "multiclass": {"task": "multiclass", "labels": {"classes": ["fast", "slow", "never"]}},
    "regression": {"task": "regression"},
}
