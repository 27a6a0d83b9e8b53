"""Conditions on features: what a slice is made of, and the ways in which one feature is cut into slices.

A condition's operator is `=` a value, `<=` or `>` a number, `missing` (value None), or `not in` a list of values. All
conditions of a slice hold at once. They survive JSON, so that a slice found on one day's rows can be looked up on
another's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipelines.dataset.columns import numbers
from pipelines.documents.evaluation import Condition, Operator
from pipelines.errors import SchemaError

Array = NDArray[Any]
QUARTERS = (0.25, 0.5, 0.75)
FEW_VALUES = 12  # a number with no more of them is cut into its values
MAX_VALUES = 100  # of a category, the most frequent; the others are counted together


@dataclass(frozen=True)
class Axis:
    """One feature, cut: which cell each row lies in, and the slices, each of them some of the cells.

    cells: int64 (n,). slices: the conditions of each. members: bool (slices, cells).
    """

    feature: str
    cells: Array
    slices: list[list[Condition]]
    members: Array

    def rows_of(self, position: int) -> Array:
        """Whether each row lies in the slice, bool (n,)."""
        return np.asarray(self.members[position][self.cells])


def mask(rows: pa.Table, conditions: list[Condition]) -> Array:
    """Whether each row fulfils all conditions, bool (n,); a missing or infinite value fulfils `missing` alone.

    Raises:
        SchemaError: the rows lack a feature.

    >>> rows = pa.table({"dest": ["ATL", "ATL", None], "hour": [7, 19, 20]})
    >>> late = {"feature": "hour", "op": ">", "value": 18.2}
    >>> mask(rows, [{"feature": "dest", "op": "=", "value": "ATL"}, late]).tolist()
    [False, True, False]
    >>> mask(rows, [{"feature": "dest", "op": "missing", "value": None}, late]).tolist()
    [False, False, True]
    """
    chosen = np.ones(rows.num_rows, dtype=bool)
    for condition in conditions:
        if condition["feature"] not in rows.schema.names:
            raise SchemaError(
                f"the rows have no column {condition['feature']!r}",
                where=f"slice {name_of(conditions)}",
                cure="give the rows with all features that the slice was made of",
            )
        chosen &= _holds(rows[condition["feature"]], condition["op"], condition["value"])
    return chosen


def name_of(conditions: list[Condition]) -> str:
    """How people read it.

    >>> name_of([{"feature": "dest", "op": "=", "value": "ATL"}, {"feature": "hour", "op": ">", "value": 18.2}])
    'dest = ATL and hour > 18.2'
    """
    return " and ".join(_words(condition["feature"], condition["op"], condition["value"]) for condition in conditions)


def is_number(column: pa.ChunkedArray) -> bool:
    return bool(pa.types.is_integer(column.type) or pa.types.is_floating(column.type))


def texts(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A category as string, whatever its type: yes and no as true and false."""
    return column.cast(pa.string())


def cut(rows: pa.Table, feature: str, *, min_rows: int, at: tuple[float, ...] = QUARTERS) -> Axis:
    """A feature in slices that do not overlap and that each row is in one of.

    A category: its values with `min_rows` rows or more, at most 100 of them, and all the others together. A number:
    its parts between the quantiles `at`, or its values, where there are no more than 12. And the missing.
    """
    column = rows[feature]
    if is_number(column):
        return _cut_number(feature, numbers(column), at)
    return _cut_category(feature, texts(column), min_rows, MAX_VALUES)


def ranges(rows: pa.Table, feature: str, *, min_rows: int, at: tuple[float, ...], max_values: int) -> Axis:
    """As `cut`, for a search: of a number also all that lies below and all that lies above each cut; of a category its
    `max_values` most frequent values, without the others."""
    column = rows[feature]
    if not is_number(column):
        axis = _cut_category(feature, texts(column), min_rows, max_values)
        named = [position for position, conditions in enumerate(axis.slices) if conditions[0]["op"] != "not in"]
        return Axis(feature, axis.cells, [axis.slices[position] for position in named], axis.members[named])
    axis = _cut_number(feature, numbers(column), at)
    parts = [conditions for conditions in axis.slices if conditions[0]["op"] != "missing"]
    slices, members = list(axis.slices), list(axis.members)
    cells = np.arange(axis.members.shape[1])
    for position, part in enumerate(parts[:-1]):
        edge = next(condition["value"] for condition in part if condition["op"] in ("<=", "="))
        if position > 0:  # the lowest part is already all that lies below the first cut
            slices.append([_condition(feature, "<=", edge)])
            members.append(cells <= position)
        if position < len(parts) - 2:
            slices.append([_condition(feature, ">", edge)])
            members.append((cells > position) & (cells < len(parts)))
    return Axis(feature, axis.cells, slices, np.array(members, dtype=bool).reshape(len(slices), len(cells)))


def _cut_number(feature: str, values: Array, at: tuple[float, ...]) -> Axis:
    there = values[~np.isnan(values)]
    distinct = np.unique(there)
    if len(distinct) <= FEW_VALUES:
        edges, has_few = distinct[:-1], True
    else:
        # Six digits: a cut is what its name says, and a person would not give more.
        rounded = [float(f"{edge:.6g}") for edge in np.quantile(there, at, method="inverted_cdf")]
        edges = np.unique([edge for edge in rounded if distinct[0] <= edge < distinct[-1]])
        if not len(edges):  # most of the values are the largest one
            edges = distinct[-2:-1]
        has_few = False
    parts = len(edges) + 1 if len(there) else 0
    cells = np.where(np.isnan(values), parts, np.searchsorted(edges, values, side="left"))
    slices = []
    for position in range(parts):
        above = [_condition(feature, ">", float(edges[position - 1]))] if position else []
        below = [_condition(feature, "<=", float(edges[position]))] if position < len(edges) else []
        slices.append([_condition(feature, "=", float(distinct[position]))] if has_few else above + below)
    return _with_missing(feature, cells, slices, parts)


def _cut_category(feature: str, values: pa.ChunkedArray, min_rows: int, max_values: int) -> Axis:
    counted = pc.value_counts(values.drop_null())
    names, counts = counted.field("values"), counted.field("counts").to_numpy()
    by_count = pc.sort_indices(pa.table([names, counts], ["name", "n"]), [("n", "descending"), ("name", "ascending")])
    frequent = names.take(by_count)[: min(int((counts >= min_rows).sum()), max_values)]
    rare = len(names) - len(frequent)
    place = pc.index_in(values, value_set=frequent, skip_nulls=True).fill_null(len(frequent)).to_numpy()
    parts = len(frequent) + (rare > 0)
    cells = np.where(values.is_null().to_numpy(), parts, place)
    known = frequent.to_pylist()
    slices = [[_condition(feature, "=", value)] for value in known]
    slices += [[_condition(feature, "not in", known)]] if rare else []
    return _with_missing(feature, cells, slices, parts)


def _with_missing(feature: str, cells: Array, slices: list[list[Condition]], parts: int) -> Axis:
    """The missing values lie in the cell after all others, and are a slice where there are any."""
    slices = [*slices, [_condition(feature, "missing", None)]] if (cells == parts).any() else slices
    return Axis(feature, cells.astype(np.int64), slices, np.eye(len(slices), parts + 1, dtype=bool))


def _condition(feature: str, op: Operator, value: str | float | list[str] | None) -> Condition:
    return {"feature": feature, "op": op, "value": value}


def _holds(column: pa.ChunkedArray, op: str, value: Any) -> Array:
    if op == "missing":
        return np.asarray(np.isnan(numbers(column))) if is_number(column) else np.asarray(column.is_null().to_numpy())
    if is_number(column):
        values = numbers(column)
        with np.errstate(invalid="ignore"):
            if op == "not in":
                return np.asarray(~np.isin(values, value) & ~np.isnan(values))
            compare = {"=": np.equal, "<=": np.less_equal, ">": np.greater}[op]
            return np.asarray(compare(values, value))
    known = pc.is_in(texts(column), value_set=pa.array(value if op == "not in" else [value], pa.string()))
    is_held = np.asarray(known.to_numpy())
    return ~is_held & np.asarray(column.is_valid().to_numpy()) if op == "not in" else is_held


def _words(feature: str, op: str, value: Any) -> str:
    if op == "missing":
        return f"{feature} is missing"
    if op == "not in":
        return f"{feature} = any other"
    return f"{feature} {op} {value:.15g}" if isinstance(value, float) else f"{feature} {op} {value}"
