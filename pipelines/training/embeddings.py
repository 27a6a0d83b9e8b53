"""Embeddings of a feature row to columns of the model's matrix: their numbers, and whether there are any."""

from __future__ import annotations

from typing import Literal, TypedDict

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.vectors.lists import matrix


class EmbeddingPlan(TypedDict):
    """How to prepare an embedding; a plain mapping, as it is part of every model file.

    `fill` is what a missing one is taken for, the mean of the training rows; `scale` what numbers are divided by, once
    `shift` is taken away: float32 (length,), each.
    """

    kind: Literal["embedding"]
    length: int
    fill: np.ndarray
    shift: np.ndarray
    scale: np.ndarray
    has_missing: bool


def fit_embedding(column: pa.ChunkedArray, weight: np.ndarray, scaling: str) -> EmbeddingPlan | str:
    """How to prepare such a column; or why it says nothing. Any scaling is the standard one, number by number."""
    is_there = column.is_valid().to_numpy()
    if not is_there.any():
        return "all values are missing"
    rows = matrix(column)[is_there].astype(np.float64)
    mean = np.average(rows, axis=0, weights=weight[is_there])
    spread = np.sqrt(np.average(np.square(rows - mean), axis=0, weights=weight[is_there]))
    if not spread.any() and is_there.all():
        return "all values are the same"
    is_scaled = scaling != "none"
    return {
        "kind": "embedding",
        "length": rows.shape[1],
        "fill": mean.astype(np.float32),
        "shift": (mean if is_scaled else np.zeros_like(mean)).astype(np.float32),
        "scale": np.where(is_scaled & (spread > 0), spread, 1).astype(np.float32),
        "has_missing": not is_there.all(),
    }


def embedding_names(plan: EmbeddingPlan, feature: str) -> list[str]:
    """Names of the columns, in their order."""
    columns = [f"{feature} #{place}" for place in range(plan["length"])]
    return columns + [f"{feature} is missing"] * plan["has_missing"]


def write_embedding(plan: EmbeddingPlan, column: pa.ChunkedArray, out: np.ndarray) -> None:
    """Fill `out`, float32 of shape (rows, columns of this feature)."""
    rows = matrix(column, plan["length"])
    filled = np.where(np.isnan(rows), plan["fill"], rows)
    out[:, : plan["length"]] = (filled - plan["shift"]) / plan["scale"]
    if plan["has_missing"]:
        out[:, -1] = pc.is_null(column).to_numpy()
