"""A problem as the benchmark of real tables has it, of whatever columns a test needs."""

from __future__ import annotations

import yaml

from pipelines.problem import Problem

PROBLEM = """
description: Will it come back?
owner: shop
key: order_id
partitions: {every: week, timezone: America/Chicago, first: 2024-01-01, last: 2024-12-30}
sources: {orders: {path: data/orders.parquet}}
training: {baselines: [prior], candidates: {prior: {model: prior}, xgboost: {model: xgboost}}}
gate: {limits: {auc: {min: 0.5}}, gain_over_baselines: {auc: 0.0}, gain_over_champion: {auc: 0.0}}
"""


def problem_of(*columns: str, **more: object) -> Problem:
    """A binary problem with these columns, each as a line of YAML, all of them features."""
    declared = yaml.safe_load("\n".join(columns))
    settings = yaml.safe_load(PROBLEM) | {"columns": declared, "features": {"columns": list(declared)}} | more
    return Problem.model_validate(settings)
