"""Rows of the toy problem, with something to learn in them."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import pyarrow as pa


def kettles(days: int, rows_a_day: int = 40, seed: int = 0, first: int = 0) -> pa.Table:
    """Feature rows with partition, label and weight: full kettles, on the top shelf most of all, boil over."""
    rng = np.random.default_rng(seed)
    rows = days * rows_a_day
    litres, is_top = rng.normal(2, 1, rows), rng.random(rows) < 0.5
    chance = 1 / (1 + np.exp(-(1.5 * (litres - 2) + is_top)))
    keys = [(date(2024, 1, 1) + timedelta(days=first + day)).isoformat() for day in range(days)]
    return pa.table(
        {
            "kettle_id": np.arange(rows).astype(str),
            "partition": np.repeat(keys, rows_a_day),
            "shelf": np.where(is_top, "top", "bottom"),
            "litres": litres,
            "shelf_rate_3d": rng.random(rows),
            "shelf_count_2d": rng.integers(0, 9, rows).astype(np.float64),
            "label": (rng.random(rows) < chance).astype(np.int8),
            "weight": np.ones(rows),
        }
    )
