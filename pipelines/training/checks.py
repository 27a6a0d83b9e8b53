"""What a fit refuses before it starts, in words that say what to change."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.config import Parameters, Preprocessing
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


def refuse_unused(problem: Problem, name: str, parameters: Parameters) -> None:
    """Settings of the candidate's own that nothing would come of.

    Raises:
        ConfigError: a baseline has any, or an ensemble has what only its parts can use.
    """
    candidate = problem.training.candidates[name]
    settings = ["preprocessing", "selection", "imbalance", *(["calibration"] if candidate.is_baseline else [])]
    unused = [name for name in settings if getattr(candidate, name) is not None]
    if candidate.is_baseline and parameters:
        unused.append("parameters")
    if (candidate.is_baseline or candidate.of) and unused:
        raise ConfigError(
            f"{candidate.model} has no use for {', '.join(unused)}",
            where=place(problem, name),
            cure="remove them" + (f", or give them to {', '.join(candidate.of)}" if candidate.of else ""),
        )


def refuse_gaps(problem: Problem, name: str, preprocessing: Preprocessing) -> None:
    """A linear model takes neither gaps nor category codes, and either may come when it scores.

    Raises:
        ConfigError: a feature would reach it with gaps or as codes.
    """
    for feature in problem.feature_names:
        if feature in problem.vector_features:  # has no gaps, once it is prepared
            continue
        own = preprocessing.columns.get(feature)
        is_category = feature in problem.categorical_features
        missing = own.missing if own and own.missing else preprocessing.missing
        encoding = own.encoding if own and own.encoding else preprocessing.encoding
        if (encoding if is_category else missing.method) == "native":
            setting, cure = ("encoding", "one_hot") if is_category else ("missing.method", "median")
            raise ConfigError(
                f"{problem.training.candidates[name].model} cannot take {feature} as it is: {setting} is native",
                where=place(problem, name),
                cure=f"set preprocessing.{setting}: {cure}, or leave preprocessing out: it then has what it needs",
            )


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
