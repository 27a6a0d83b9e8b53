"""A problem.yaml with nothing in it but what is required, for each task."""

from __future__ import annotations

from typing import Any

REQUIRED: dict[str, Any] = {
    "description": "How long does the kettle take?",
    "owner": "kitchen",
    "key": "kettle_id",
    "partitions": {"every": "week", "first": "2024-01-01"},
    "sources": {"kettles": {"path": "kettles.parquet"}},
    "columns": {
        "litres": {"type": "float", "available": "cutoff"},
        "watts": {"type": "float", "available": "cutoff"},
        "shelf": {"type": "string", "available": "cutoff"},
    },
    "features": {"columns": ["litres", "watts", "shelf"]},
}
# What a task requires beside that: the models that compete, and what they have to reach.
OF_TASK: dict[str, dict[str, Any]] = {
    "binary": {
        "training": {
            "candidates": {
                "prior": {"model": "prior"},
                "logistic": {"model": "logistic"},
                "xgboost": {"model": "xgboost"},
            },
            "baselines": ["prior"],
        },
        "gate": {
            "limits": {"auc": {"min": 0.5}},
            "gain_over_baselines": {"auc": 0.0},
            "gain_over_champion": {"auc": 0.0},
        },
    },
    "multiclass": {
        "task": "multiclass",
        "labels": {"classes": ["fast", "slow", "never"]},
        "training": {
            "candidates": {
                "prior": {"model": "prior"},
                "logistic": {"model": "logistic"},
                "xgboost": {"model": "xgboost"},
            },
            "baselines": ["prior"],
        },
        "gate": {
            "limits": {"macro_f1": {"min": 0.2}},
            "gain_over_baselines": {"auc": 0.0},
            "gain_over_champion": {"auc": 0.0},
        },
    },
    "regression": {
        "task": "regression",
        "training": {
            "candidates": {"prior": {"model": "prior"}, "linear": {"model": "linear"}, "xgboost": {"model": "xgboost"}},
            "baselines": ["prior"],
        },
        "gate": {
            "limits": {"r2": {"min": 0.1}},
            "gain_over_baselines": {"rmse": 0.0},
            "gain_over_champion": {"rmse": 0.0},
        },
    },
}
