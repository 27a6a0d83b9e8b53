"""What a fit refuses before it starts, in words that say what to change."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.config import Parameters
from pipelines.errors import ConfigError, DataError
from pipelines.problem import Problem


def place(problem: Problem, name: str) -> str:
    """Where the candidate is written down."""
    return f"{problem.folder / 'problem.yaml'}, training.candidates.{name}"


@contextmanager
def explained(problem: Problem, name: str, parameters: Parameters) -> Iterator[None]:
    """Turn a library's complaint about the candidate's parameters into a ConfigError."""
    try:
        yield
    except (TypeError, ValueError) as error:
        kind = problem.training.candidates[name].model
        raise ConfigError(
            f"{kind} refuses its parameters: {error}",
            where=place(problem, name),
            cure=f"look up the parameters of {kind}; given: {parameters}",
        ) from error


def require_weights(y: np.ndarray, weight: np.ndarray) -> None:
    """Raises:
    DataError: a weight is negative or no number, all of them are 0, or a label is no number.
    """
    if not (np.isfinite(weight) & (weight >= 0)).all():
        raise DataError(
            "a weight is negative or no number", where="training rows", cure="look at dataset.sampling and its weights"
        )
    if not weight.any():
        raise DataError(
            f"none of {len(weight)} rows has a weight above 0",
            where="training rows",
            cure="learn from more partitions (dataset.window_partitions), or sample more rows (dataset.sampling)",
        )
    if not np.isfinite(y.astype(np.float64)).all():
        raise DataError("a label is no number", where="training rows", cure="leave rows without a label out")


def require_classes(problem: Problem, y: np.ndarray, where: str) -> None:
    """Raises:
    DataError: a classifier would learn from one class only.
    """
    if problem.task != "regression" and len(np.unique(y)) < 2:
        raise DataError(
            f"all {len(y)} rows have the same label, so that there is nothing to learn",
            where=where,
            cure="learn from more partitions (dataset.window_partitions), or sample by label (dataset.sampling)",
        )


def newest_apart(rows: pa.Table, partitions: int) -> tuple[pa.Table, pa.Table]:
    """The rows without those of the newest partitions, and these; nothing and all where there are no more."""
    keys = sorted(rows["partition"].unique().to_pylist())
    is_new = pc.is_in(rows["partition"], value_set=pa.array(keys[-partitions:], pa.string()))
    return rows.filter(pc.invert(is_new)), rows.filter(is_new)
