"""Tests of a model by changing its input (Ribeiro et al., Beyond Accuracy: Behavioral Testing with CheckList, 2020;
Huyen, ch. 6): a good average says nothing of what a model does when one thing changes."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipelines.dataset.columns import numbers
from pipelines.documents.evaluation import BehaviourResult
from pipelines.errors import ConfigError
from pipelines.evaluation.report.conditions import is_number

if TYPE_CHECKING:
    from pipelines.config import Behaviour
    from pipelines.problem import Problem
    from pipelines.training.model import Model

Array = NDArray[Any]
MOST_ROWS = 5_000
TOLERANCE = 1e-9  # less is rounding, no move
NAMED = 20  # categories that a message names


def behaviours(problem: Problem, model: Model, rows: pa.Table, labels: Array) -> list[BehaviourResult]:
    """Each declared test, on at most 5,000 rows, drawn by the seed.

    perturbation, invariance: `value` is the mean absolute change of the scores (of several classes over all of their
    probabilities; of a regression in standard deviations of `labels`). directional: the share of rows whose score does
    not move the wrong way. None, and not passed, where that is undefined: no rows, or labels that are all the same.
    What is missing stays missing, and an integer a whole number. The same seed makes the same changes.

    Raises:
        ConfigError: a change does not go with its column, `set` names a category that training did not see, or a
            directional test is declared for several classes, whose scores have no one direction.
    """
    declared, seed = problem.evaluation.behaviours, problem.evaluation.bootstrap.seed
    if not declared:
        return []
    for name, behaviour in declared.items():
        _require(problem, model, rows, name, behaviour)
    deviation = float(np.std(labels)) if problem.task == "regression" and len(labels) else 1.0
    if rows.num_rows > MOST_ROWS:
        drawn = np.random.default_rng(seed).choice(rows.num_rows, MOST_ROWS, replace=False, shuffle=False)
        rows = rows.take(pa.array(np.sort(drawn)))
    rows = rows.select(model.features)
    before = model.scores(rows)
    return [
        _judged(name, behaviour, before, model.scores(changed(rows, name, behaviour, seed)), deviation)
        for name, behaviour in declared.items()
    ]


def changed(rows: pa.Table, name: str, behaviour: Behaviour, seed: int) -> pa.Table:
    """The rows with their columns changed as the test `name` says; the others as they are."""
    random = np.random.default_rng([seed, zlib.crc32(name.encode())])  # its own, whatever other tests there are
    # One order for all of its columns: what belongs together stays so.
    order = pa.array(random.permutation(rows.num_rows)) if behaviour.shuffle else None
    for column in behaviour.columns:
        old = rows[column]
        if order is not None:
            new = old.take(order)
        elif behaviour.set is not None:
            new = _filled(old, behaviour.set)
        else:
            new = _moved(old, behaviour, random)
        rows = rows.set_column(rows.schema.get_field_index(column), column, new)
    return rows


def _moved(old: pa.ChunkedArray, behaviour: Behaviour, random: np.random.Generator) -> pa.Array:
    values = numbers(old)
    if behaviour.noise is not None:
        there = values[~np.isnan(values)]
        deviation = float(there.std()) if there.size else 0.0
        values = values + random.normal(0, behaviour.noise * deviation, len(values))
    elif behaviour.multiply is not None:
        values = values * behaviour.multiply
    else:
        values = values + (behaviour.add or 0.0)
    return _typed(values, old.type)


def _typed(values: Array, kind: pa.DataType) -> pa.Array:
    """NaN as null; in an integer column rounded, and within what it can hold.

    >>> _typed(np.array([1.6, np.nan, -1.0]), pa.uint8()).to_pylist()
    [2, None, 0]
    """
    missing = np.isnan(values)
    if pa.types.is_integer(kind):
        ends = np.iinfo(kind.to_pandas_dtype())
        # The float next to the largest int64 is one above it.
        high = float(ends.max) if ends.max <= 2**53 else np.nextafter(float(ends.max), 0)
        values = np.clip(np.rint(np.where(missing, 0, values)), float(ends.min), high)
    return pa.array(values, mask=missing).cast(kind, safe=False)


def _filled(old: pa.ChunkedArray, value: str | float) -> pa.Array:
    if is_number(old):
        return _typed(np.full(len(old), float(value)), old.type)
    kind = old.type.value_type if pa.types.is_dictionary(old.type) else old.type
    return pa.array([_text(old, value)], pa.string()).cast(kind).take(pa.array(np.zeros(len(old), dtype=np.int64)))


def _text(old: pa.ChunkedArray, value: str | float) -> str:
    """A category as text: YAML reads a category 7 as a number, and yes as true."""
    if isinstance(value, str):
        return value.lower() if pa.types.is_boolean(old.type) else value
    if pa.types.is_boolean(old.type) and value in (0, 1):
        return "true" if value else "false"
    return f"{value:.15g}"


def _require(problem: Problem, model: Model, rows: pa.Table, name: str, behaviour: Behaviour) -> None:
    """That the test can be made at all.

    Raises:
        ConfigError: it cannot.
    """
    where = f"{problem.folder / 'problem.yaml'}, evaluation.behaviours.{name}"
    if behaviour.kind == "directional" and problem.task == "multiclass":
        raise ConfigError(
            "scores of several classes have no one direction",
            where=where,
            cure="declare an invariance or a perturbation, or leave the test out",
        )
    for column in behaviour.columns:
        old, value = rows[column], behaviour.set
        if not is_number(old) and value is None and not behaviour.shuffle:
            raise ConfigError(
                f"{column!r} is a category, and add, multiply and noise are for numbers",
                where=where,
                cure="take set or shuffle for it",
            )
        if value is None:
            continue
        if is_number(old):
            if isinstance(value, str):
                raise ConfigError(f"{column!r} is a number, and {value!r} is none", where=where, cure="set a number")
        elif column in model.prepare.categories_:
            vocabulary = model.prepare.categories_[column]
            known = sorted({*vocabulary["known"], *vocabulary["rare"]})
            if _text(old, value) not in known:
                more = f" and {len(known) - NAMED} more" if len(known) > NAMED else ""
                raise ConfigError(
                    f"{column!r} was never {_text(old, value)!r} in training: a model has nothing to say of it",
                    where=where,
                    cure=f"set one of {', '.join(map(repr, known[:NAMED]))}{more}" if known else "take another column",
                )


def _judged(name: str, behaviour: Behaviour, before: Array, after: Array, deviation: float) -> BehaviourResult:
    if behaviour.kind == "directional":
        move = after - before if behaviour.expect == "up" else before - after
        value = float((move >= -TOLERANCE).mean()) if len(move) else None
        passed = value is not None and value >= behaviour.min_share
        against = "down" if behaviour.expect == "up" else "up"
        wanted = f"at least {behaviour.min_share:.4g} of the rows do not go {against}"
    else:
        change = float(np.abs(after - before).mean()) if len(before) else None
        value = None if change is None or not deviation else change / deviation
        assert behaviour.max_change is not None  # config's validator
        passed = value is not None and value <= behaviour.max_change
        wanted = f"mean change at most {behaviour.max_change:.4g}"
    return {"name": name, "kind": behaviour.kind, "passed": passed, "value": value, "wanted": wanted}
