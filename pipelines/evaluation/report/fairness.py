"""Are decisions alike between groups of people or things? Fairlearn's measures, with intervals.

Demographic parity: groups are decided for equally often. Equal opportunity: those who are positive are, whatever their
group (Hardt, Price and Srebro 2016). Equalised odds: and those who are negative are not. Each is the largest difference
between two groups, 0 where all are equal. Which of them matters is no question of statistics, and the three cannot all
be 0 where base rates differ (Kleinberg et al. 2017).
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipelines.documents.evaluation import Condition, Fairness, FairnessGroup
from pipelines.evaluation.report.conditions import cut, name_of
from pipelines.metrics.block_sums import intervals_of_sums, summed_blocks
from pipelines.metrics.metric_sums import ratio

if TYPE_CHECKING:
    from pipelines.metrics.scored import Scored
    from pipelines.problem import Problem

Array = NDArray[Any]
RATES = ("selection_rate", "true_positive_rate", "false_positive_rate")


def fairness(problem: Problem, groups: pa.Table, scored: Scored, blocks: Array) -> dict[str, Fairness]:
    """For each column of `groups`: its groups with their rates, and the three measures with their intervals.

    A group is a value of the column, "missing" where there is none; numbers with more than 12 values are cut into
    quarters, and beyond a column's 100 most frequent values the others are one group. Groups smaller than `min_rows`
    are not compared. A rate is None, and the group left out of what needs it, where a group has no positives, or no
    negatives. Several classes are each taken against the others and the worst class counts; rates are those of the
    class ("class") that is decided for most unequally.

    A largest difference of several estimates lies above the true one, the more so the smaller the groups are: an
    interval that starts above 0 is no proof, but its upper bound is a safe one.
    """
    rule = problem.evaluation.fairness
    if rule is None:
        return {}
    used = scored.weights > 0
    groups, scored, blocks = groups.filter(pa.array(used)), scored.take(used), blocks[used]
    return {name: _between(problem, groups, name, scored, blocks, rule.min_rows) for name in groups.column_names}


def _between(problem: Problem, groups: pa.Table, name: str, scored: Scored, blocks: Array, min_rows: int) -> Fairness:
    axis = cut(groups, name, min_rows=1)
    names = [_group(conditions) for conditions in axis.slices]
    rows = np.bincount(axis.cells, minlength=len(names))
    is_compared = rows >= min_rows
    classes = [1] if scored.task == "binary" else list(range(len(scored.classes)))
    all_sums = _sums(scored, classes, axis.cells, len(names), blocks)
    rates, sums = _rates_of(all_sums.sum(axis=0)), all_sums[:, is_compared]
    for at, label in enumerate(classes):
        rates[is_compared, at] = _fairlearn_rates(scored, label, axis.cells, np.flatnonzero(is_compared))
    gaps = intervals_of_sums(
        sums.reshape(len(sums), int(np.prod(sums.shape[1:]))),
        lambda flat: _differences(_rates_of(flat.reshape(*flat.shape[:-1], *sums.shape[1:]))),
        problem.evaluation.bootstrap,
    )
    values = _differences(rates[is_compared])
    shown = int(np.argmax(np.nan_to_num(_spread(rates[is_compared, :, 0].T), nan=-1.0)))
    listed: list[FairnessGroup] = []
    for at in np.argsort(-rows, kind="stable").tolist():
        selection, true_positive, false_positive = map(_number, rates[at, shown])
        listed.append(
            {
                "group": names[at],
                "rows": int(rows[at]),
                "is_compared": bool(is_compared[at]),
                "selection_rate": selection,
                "true_positive_rate": true_positive,
                "false_positive_rate": false_positive,
            }
        )
    parity, opportunity, odds = (
        interval | {"value": _number(value)} for interval, value in zip(gaps, values, strict=True)
    )
    return {
        "class": scored.classes[classes[shown]],
        "groups": listed,
        "demographic_parity": parity,
        "equal_opportunity": opportunity,
        "equalised_odds": odds,
    }


def _fairlearn_rates(scored: Scored, label: int, cells: Array, groups: Array) -> Array:
    """Rates of a class against the others, (groups, 3); NaN where a group has no rows to take it of."""
    from fairlearn.metrics import MetricFrame, false_positive_rate, selection_rate, true_positive_rate

    among = np.isin(cells, groups)  # a group of a single row is one that Fairlearn cannot take
    if not among.any():
        return np.empty((0, len(RATES)))
    cells, scored = cells[among], scored.take(among)
    actual, decided = scored.labels == label, scored.decisions == label
    frame = MetricFrame(
        metrics={
            "selection_rate": partial(selection_rate, pos_label=1),
            "true_positive_rate": partial(true_positive_rate, pos_label=1),
            "false_positive_rate": partial(false_positive_rate, pos_label=1),
        },
        y_true=actual.astype(np.int64),
        y_pred=decided.astype(np.int64),
        sensitive_features=cells,
        sample_params={rate: {"sample_weight": scored.weights} for rate in RATES},
    )
    rates: Array = frame.by_group.loc[groups, list(RATES)].to_numpy(dtype=np.float64, copy=True)
    size = int(groups.max()) + 1  # of no positives, or no negatives, Fairlearn says that the rate is 0
    rates[np.bincount(cells, actual, size)[groups] == 0, 1] = np.nan
    rates[np.bincount(cells, ~actual, size)[groups] == 0, 2] = np.nan
    return rates


def _sums(scored: Scored, classes: list[int], groups: Array, count: int, blocks: Array) -> Array:
    """Weight of the positives, of those decided for, of the negatives, of those: (blocks, groups, classes, 4)."""
    place, size = summed_blocks(blocks)
    cells = place * count + groups
    sums = np.empty((size, count, len(classes), 4))
    for at, label in enumerate(classes):
        actual, decided = scored.labels == label, scored.decisions == label
        for part, rows in enumerate((actual, actual & decided, ~actual, ~actual & decided)):
            sums[:, :, at, part] = np.bincount(cells, scored.weights * rows, size * count).reshape(size, count)
    return sums


def _rates_of(sums: Array) -> Array:
    """(..., 4) sums -> (..., 3) rates."""
    positive, hits, negative, alarms = np.moveaxis(sums, -1, 0)
    rates = ratio(hits + alarms, positive + negative), ratio(hits, positive), ratio(alarms, negative)
    return np.stack(rates, axis=-1)


def _differences(rates: Array) -> Array:
    """(..., groups, classes, 3) rates -> the three measures (..., 3), each of its worst class."""
    parity, opportunity, other = np.moveaxis(_spread(np.moveaxis(rates, -3, -1)), -1, 0)
    each = np.stack([parity, opportunity, np.maximum(opportunity, other)], axis=-1)
    worst = np.where(np.isnan(each), -np.inf, each).max(axis=-2)
    return np.where(np.isfinite(worst), worst, np.nan)


def _spread(rates: Array) -> Array:
    """Largest difference along the last axis; NaN where fewer than two are defined."""
    is_there = np.isfinite(rates)
    high = np.where(is_there, rates, -np.inf).max(axis=-1, initial=-np.inf)
    low = np.where(is_there, rates, np.inf).min(axis=-1, initial=np.inf)
    return np.where(is_there.sum(axis=-1) >= 2, high - low, np.nan)


def _group(conditions: list[Condition]) -> str:
    first = conditions[0]
    if first["op"] == "=":
        value = first["value"]
        return value if isinstance(value, str) else f"{value:.15g}"
    return {"missing": "missing", "not in": "any other"}.get(first["op"]) or name_of(conditions)


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
