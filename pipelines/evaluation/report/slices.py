"""Parts of the test rows, measured by themselves: those that somebody declared, and the worst that a search finds.

One number over all rows hides whom a model fails (Huyen, ch. 6, on slice-based evaluation). But whoever looks at ten
thousand slices finds some that are bad by chance alone. Three things stand against that. The search sees every other
block of rows (such as every other day), and what it finds is tested on the blocks between them. A slice has to pass
Welch's test under Benjamini and Hochberg's correction for all slices that were looked at. And it has to pass once more
as a matter of blocks, so that one bad day is not taken for a bad slice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipelines.documents.evaluation import ComparedSlice, Condition, MeasuredSlice, Slice, Slices
from pipelines.documents.measures import Interval
from pipelines.evaluation.report.conditions import cut, mask, name_of
from pipelines.evaluation.report.slice_search import search
from pipelines.metrics.block_sums import intervals_of_sums, summed_blocks
from pipelines.metrics.bootstrap import drawn_blocks, gains, intervals
from pipelines.metrics.mean_tests import blocked_p_value, discoveries, group_sums, row_sums, standardised, welch
from pipelines.metrics.metric_sums import log_losses, ratio, squares
from pipelines.vectors.measures import measured, measured_names

if TYPE_CHECKING:
    from pipelines.metrics.scored import Scored
    from pipelines.problem import Problem

Array = NDArray[Any]
SEARCHED_ROWS = 500_000


@dataclass(frozen=True)
class _Part:
    """Rows on which slices are measured: all of them, or those that the search has not seen."""

    rows: pa.Table
    scored: Scored
    losses: Array
    blocks: Array

    def take(self, which: Array) -> _Part:
        return _Part(self.rows.filter(pa.array(which)), self.scored.take(which), self.losses[which], self.blocks[which])


def slices(problem: Problem, rows: pa.Table, scored: Scored, blocks: Array) -> Slices:
    """The declared slices, and the worst that a search finds.

    Of a found one, metrics, loss and p-value are those of the rows that the search had not seen. Values that are too
    rare to be a slice are one, and not tested; a slice with fewer rows than `min_rows` has no intervals either. The
    worst come first; `found` holds significant ones alone. Rows of weight 0 are left out.
    """
    rule = problem.evaluation.slices
    used = scored.weights > 0
    rows = measured(rows, problem.vector_features)
    whole = _Part(rows, scored, _losses(scored), blocks).take(used)
    declared = [conditions for name in rule.by for conditions in cut(whole.rows, name, min_rows=rule.min_rows).slices]
    candidates: list[list[Condition]] = []
    searched = 0
    is_unseen = drawn_blocks(whole.blocks) % 2 == 1
    if rule.find:
        candidates, searched = _search(problem, whole.take(~is_unseen))
        candidates = [conditions for conditions in candidates if mask(whole.rows, conditions).sum() >= rule.min_rows]
    unseen = whole.take(is_unseen)
    tests = [_test(whole, conditions, rule.min_rows) for conditions in declared]
    looked_at = sum(test is not None for test in tests) + searched
    tests += [_test(unseen, conditions, rule.min_rows // 4) or (1.0, 1.0) for conditions in candidates]
    is_significant = _significant(tests, looked_at, rule.false_discovery_rate)
    certain = [at for at in range(len(declared), len(tests)) if is_significant[at]]
    parts = _measured(problem, whole, declared, whole)
    parts += _measured(problem, unseen, [candidates[at - len(declared)] for at in certain], whole)
    tested: list[Slice] = []
    for part, at in zip(parts, [*range(len(declared)), *certain], strict=True):
        test = tests[at]
        p_value = None if test is None else max(test)
        tested.append({**part, "p_value": p_value, "is_significant": bool(is_significant[at])})
    return {
        "declared": _worst_first(tested[: len(declared)]),
        "found": _worst_first(tested[len(declared) :])[: rule.max_found],
        "looked_at": looked_at,
    }


def compared_slices(
    problem: Problem, found_slices: list[Slice], rows: pa.Table, ours: Scored, theirs: Scored, blocks: Array
) -> list[ComparedSlice]:
    """How much better `ours` is than `theirs` on each slice, by the gate's metric.

    Slices with fewer rows than `min_rows`, and those on whose rows the metric has no interval (AUC where there is one
    class), are left out; so are all of them where the gate asks for none.
    """
    if problem.gate.slices is None:
        return []
    metric, rule = problem.gate.slices.metric, problem.evaluation.bootstrap
    rows = measured(rows, problem.vector_features)
    compared: list[ComparedSlice] = []
    for each_slice in found_slices:
        inside = mask(rows, each_slice["conditions"]) & (ours.weights > 0)
        if inside.sum() < problem.evaluation.slices.min_rows:
            continue
        gain = gains(ours.take(inside), theirs.take(inside), blocks[inside], rule, [metric])[metric]
        if None not in gain.values():
            compared.append({"name": each_slice["name"], "rows": int(inside.sum()), "metric": metric, "gain": gain})
    return compared


def _losses(scored: Scored) -> Array:
    return squares(scored) if scored.task == "regression" else log_losses(scored)


def _search(problem: Problem, part: _Part) -> tuple[list[list[Condition]], int]:
    rule = problem.evaluation.slices
    if part.rows.num_rows > SEARCHED_ROWS:
        random = np.random.default_rng(problem.evaluation.bootstrap.seed)
        drawn = np.zeros(part.rows.num_rows, dtype=bool)
        drawn[random.choice(part.rows.num_rows, SEARCHED_ROWS, replace=False)] = True
        part = part.take(drawn)
    # Half of the rows are searched; twice as many candidates as are wanted, for some will not stand the test.
    return search(
        part.rows,
        measured_names(problem.feature_names, problem.vector_features),
        part.losses,
        part.scored.weights,
        min_rows=(rule.min_rows + 1) // 2,
        max_found=2 * rule.max_found,
    )


def _test(part: _Part, conditions: list[Condition], min_rows: int) -> tuple[float, float] | None:
    """p-values over rows and over blocks; None where the slice or the rest has fewer rows than `min_rows`."""
    inside = mask(part.rows, conditions)
    if min(inside.sum(), (~inside).sum()) < max(min_rows, 2) or conditions[0]["op"] == "not in":
        return None
    weights = part.scored.weights
    rest, ours = group_sums(row_sums(part.losses, weights), inside.astype(np.int64), 2)
    blocks = drawn_blocks(part.blocks)
    return float(welch(ours, rest).p_value), blocked_p_value(
        standardised(part.losses, weights), weights, inside, blocks
    )


def _significant(tests: list[tuple[float, float] | None], looked_at: int, rate: float) -> Array:
    """Over rows, corrected for all slices that were looked at; and over blocks, corrected for those that were tested.

    The second asks less of each: only those that the search chose by other rows come so far, and with a dozen blocks no
    slice could pass for ten thousand.
    """
    tested = np.array([at for at, test in enumerate(tests) if test is not None], dtype=np.int64)
    p_values = np.array([test for test in tests if test is not None]).reshape(-1, 2)
    is_significant = np.zeros(len(tests), dtype=bool)
    is_significant[tested] = discoveries(p_values[:, 0], looked_at, rate) & discoveries(
        p_values[:, 1], len(p_values), rate
    )
    return is_significant


def _measured(problem: Problem, part: _Part, several: list[list[Condition]], whole: _Part) -> list[MeasuredSlice]:
    """What `part` tells of slices of the whole."""
    inside = [mask(part.rows, conditions) for conditions in several]
    slices_measured: list[MeasuredSlice] = []
    for conditions, chosen, loss in zip(several, inside, _loss_intervals(problem, part, inside), strict=True):
        rows = int(mask(whole.rows, conditions).sum())
        metrics = intervals(part.scored.take(chosen), part.blocks[chosen], problem.evaluation.bootstrap)
        if rows < problem.evaluation.slices.min_rows:
            metrics, loss = {name: _bare(interval) for name, interval in metrics.items()}, _bare(loss)
        slices_measured.append(
            {
                "name": name_of(conditions),
                "conditions": conditions,
                "rows": rows,
                "share": rows / whole.rows.num_rows,
                "metrics": metrics,
                "loss": loss,
            }
        )
    return slices_measured


def _bare(interval: Interval) -> Interval:
    return interval | {"low": None, "high": None}


def _loss_intervals(problem: Problem, part: _Part, inside: list[Array]) -> list[Interval]:
    """Mean loss per row of each slice less that of the other rows."""
    if not inside:
        return []
    weights = part.scored.weights
    place, count = summed_blocks(part.blocks)
    chosen = [np.ones_like(inside[0]), *inside]
    sums = [np.bincount(place, values * rows, count) for values in (weights * part.losses, weights) for rows in chosen]

    def difference(sums: Array) -> Array:
        lost, weight = np.split(sums, 2, axis=-1)
        rest = ratio(lost[..., :1] - lost[..., 1:], weight[..., :1] - weight[..., 1:])
        return ratio(lost[..., 1:], weight[..., 1:]) - rest

    return intervals_of_sums(np.stack(sums, axis=1), difference, problem.evaluation.bootstrap)


def _worst_first(several: list[Slice]) -> list[Slice]:
    return sorted(
        several, key=lambda each_slice: -np.inf if each_slice["loss"]["value"] is None else each_slice["loss"]["value"]
    )[::-1]
