"""Numbers of a feature row to columns of the model's matrix: missing values, bins, scales."""

from __future__ import annotations

import warnings
from typing import Literal, TypedDict

import numpy as np
import pyarrow as pa

from pipelines.config import Discretise, Missing
from pipelines.dataset.columns import numbers

LARGEST = float(np.finfo(np.float32).max)


def read(column: pa.ChunkedArray) -> np.ndarray:
    """float64, shape (rows,): NaN where the value is missing or infinite, and nothing that float32 cannot hold."""
    values = numbers(column)
    return np.clip(values, -LARGEST, LARGEST, out=values)


class NumberPlan(TypedDict):
    """How to prepare a number; a plain mapping, as it is part of every model file.

    `fill` and `edges` are None where nothing is filled or binned. `has_value` is False where only the gaps differ and
    the indicator alone is left.
    """

    kind: Literal["number"]
    fill: float | None
    edges: np.ndarray | None
    log: bool
    shift: float
    scale: float
    has_value: bool
    has_indicator: bool


def fit_number(
    values: np.ndarray, weight: np.ndarray, missing: Missing, scaling: str, discretise: Discretise | None, seed: int
) -> NumberPlan | str:
    """How to prepare a column like `values` (see `read`); or why it says nothing."""
    there = ~np.isnan(values)
    if not there.any():
        return "all values are missing"
    has_gaps = not there.all()
    used, its_weight = (values[there], weight[there]) if has_gaps else (values, weight)
    fill = _fill(used, its_weight, missing)
    if fill is not None and has_gaps:
        used, its_weight = np.where(there, values, fill), weight
    plan: NumberPlan = {
        "kind": "number",
        "fill": fill,
        "edges": None,
        "log": scaling == "log",
        "shift": 0.0,
        "scale": 1.0,
        "has_value": True,
        "has_indicator": missing.indicator and has_gaps,
    }
    if discretise is not None:
        plan["edges"] = _edges(used, its_weight, discretise, seed)
    prepared = _prepared(plan, used)
    if prepared.min() == prepared.max() and (fill is not None or not has_gaps):
        if not plan["has_indicator"]:
            return "all values are the same" if discretise is None else "all values are in one bin"
        plan["has_value"] = False
        return plan
    shift, scale = _scale(prepared, its_weight, scaling)
    return {**plan, "shift": shift, "scale": scale}


def number_names(plan: NumberPlan, feature: str) -> list[str]:
    """Names of the columns, in their order."""
    return [feature] * plan["has_value"] + [f"{feature} is missing"] * plan["has_indicator"]


def write_number(plan: NumberPlan, column: pa.ChunkedArray, out: np.ndarray) -> None:
    """Fill `out`, float32 of shape (rows, columns of this feature): the value, then whether it is missing."""
    is_plain = plan["fill"] is None and plan["edges"] is None and not plan["log"] and not plan["has_indicator"]
    if is_plain and plan["shift"] == 0 and plan["scale"] == 1:
        plain = column.cast(pa.float32(), safe=False).to_numpy()
        if not np.isinf(plain).any():
            out[:, 0] = plain
            return
    values = read(column)
    if plan["has_value"]:
        out[:, 0] = np.clip((_prepared(plan, values) - plan["shift"]) / plan["scale"], -LARGEST, LARGEST)
    if plan["has_indicator"]:
        out[:, -1] = np.isnan(values)


def quantile(values: np.ndarray, weight: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Weighted quantiles; between two values their mean (Hyndman & Fan 1996, type 2), so that 0.5 is the median.

    >>> quantile(np.array([3.0, 1.0, 2.0, 4.0]), np.array([1, 1, 1, 2]), np.array([0.4, 0.5])).tolist()
    [2.5, 3.0]
    """
    order = np.argsort(values, kind="stable")
    upto = np.cumsum(weight[order])
    wanted = shares * upto[-1]
    low, high = (np.minimum(np.searchsorted(upto, wanted, side), len(values) - 1) for side in ("left", "right"))
    return np.asarray(values[order][low] / 2 + values[order][high] / 2)


def _fill(values: np.ndarray, weight: np.ndarray, missing: Missing) -> float | None:
    match missing.method:
        case "native":
            return None
        case "constant":
            return missing.value
        case "mean":
            return float(np.average(values, weights=weight))
        case "most_frequent":  # of several the least
            distinct, position = np.unique(values, return_inverse=True)
            return float(distinct[np.argmax(np.bincount(position, weight))])
        case "median" | "drop":
            return float(quantile(values, weight, np.array([0.5]))[0])


def _edges(values: np.ndarray, weight: np.ndarray, discretise: Discretise, seed: int) -> np.ndarray:
    """Inner edges of the bins, ascending; a value at an edge belongs to the bin above."""
    from sklearn.preprocessing import KBinsDiscretizer

    binner = KBinsDiscretizer(
        discretise.bins,
        encode="ordinal",
        strategy=discretise.strategy,
        subsample=None,
        random_state=seed,
        quantile_method="averaged_inverted_cdf",
    )
    with warnings.catch_warnings():  # that there are fewer values than bins, or bins of no width
        warnings.simplefilter("ignore")
        # Equal widths know no weights, and scikit-learn refuses them there.
        binner.fit(values.reshape(-1, 1), sample_weight=None if discretise.strategy == "uniform" else weight)
    return np.asarray(binner.bin_edges_[0][1:-1], dtype=np.float64)


def _prepared(plan: NumberPlan, values: np.ndarray) -> np.ndarray:
    """Filled, then binned, then its logarithm: what the scale is measured on."""
    missing = np.isnan(values)
    if plan["fill"] is not None:
        values, missing = np.where(missing, plan["fill"], values), np.zeros_like(missing)
    if plan["edges"] is not None:
        values = np.where(missing, np.nan, np.searchsorted(plan["edges"], values, side="right"))
    return np.sign(values) * np.log1p(np.abs(values)) if plan["log"] else values


def _scale(values: np.ndarray, weight: np.ndarray, scaling: str) -> tuple[float, float]:
    """What is taken off, and what the rest is divided by."""
    match scaling:
        case "none":
            return 0.0, 1.0
        case "min_max":
            shift, scale = values.min(), values.max() - values.min()
        case "robust":
            low, shift, high = quantile(values, weight, np.array([0.25, 0.5, 0.75]))
            scale = high - low
        case _:  # standard, and of logarithms
            shift = np.average(values, weights=weight)
            scale = np.sqrt(np.average((values - shift) ** 2, weights=weight))
    return float(shift), float(scale) if scale > 0 else 1.0
