"""error_slices: of which rows did the loss rise more than of all others?

Difference in differences (Snow 1855; Card and Krueger 1994): the loss of a slice after a change less before, less the
same of all other rows, so that neither a slice that was always hard nor a bad week for everyone counts. The search is
that of evaluation (Slice Finder); what it finds on every other block of rows is put to the test on the blocks between,
under Benjamini and Hochberg's correction for all slices that were looked at.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipelines.documents.evaluation import Condition
from pipelines.evaluation.report.conditions import mask, name_of
from pipelines.evaluation.report.slice_search import search_sums
from pipelines.metrics.block_sums import intervals_of_sums, summed_blocks
from pipelines.metrics.bootstrap import drawn_blocks
from pipelines.metrics.mean_tests import Worse, discoveries, row_sums, standardised, welch
from pipelines.metrics.metric_sums import log_losses, ratio, squares
from pipelines.profiles.column import Frozen

if TYPE_CHECKING:
    from pipelines.metrics.scored import Scored
    from pipelines.problem import Problem
from pipelines.vectors.measures import measured, measured_names

Array = NDArray[Any]


class ErrorSlice(Frozen):
    """Rows whose loss rose more than that of all others.

    `loss_before` and `loss`: mean loss of all its rows on either side (log loss; of a regression the squared error);
    `excess`, `low`, `high`: how much more it rose than elsewhere, with its interval, on the blocks that the search had
    not seen.
    """

    name: str
    conditions: tuple[Condition, ...]
    rows_before: int
    rows: int
    loss_before: float
    loss: float
    excess: float
    low: float
    high: float


def losses_of(scored: Scored) -> Array:
    """What is lost on each row, (n,)."""
    return squares(scored) if scored.task == "regression" else log_losses(scored)


def error_slices(
    problem: Problem, rows: pa.Table, losses: Array, is_after: Array, blocks: Array
) -> tuple[list[ErrorSlice], int]:
    """The slices of one or two features whose loss rose the most beyond that of all others, the worst first; and how
    many slices were looked at.

    Args:
        rows: labelled rows of both sides, with the features.
        losses: (n,) of each. is_after: (n,) which are of the later side. blocks: (n,) such as days.
    """
    rule, vectors = problem.evaluation.slices, problem.vector_features
    names = [name for name in problem.feature_names if name in rows.column_names]
    rows = measured(rows, vectors)
    if min(is_after.sum(), (~is_after).sum()) < 2 * rule.min_rows:
        return [], 0
    sums = _row_sums(losses, is_after)
    is_unseen = drawn_blocks(blocks) % 2 == 1
    candidates, looked_at = search_sums(
        rows.filter(pa.array(~is_unseen)),
        measured_names(names, vectors),
        sums[:, ~is_unseen],
        _rose_more,
        min_rows=(rule.min_rows + 1) // 2,
        max_found=2 * rule.max_found,
    )
    inside = [mask(rows, conditions) for conditions in candidates]
    p_values = []
    for chosen in inside:
        part, rest = (sums[:, is_unseen & side].sum(axis=1) for side in (chosen, ~chosen))
        p_values.append(float(_rose_more(part, rest).p_value))
    is_sure = discoveries(np.array(p_values), looked_at, rule.false_discovery_rate)
    worse = [
        error_slice
        for conditions, chosen, sure in zip(candidates, inside, is_sure.tolist(), strict=True)
        if sure and (error_slice := _told(problem, conditions, chosen, losses, is_after, blocks, is_unseen))
    ]
    return sorted(worse, key=lambda error_slice: -error_slice.excess)[: rule.max_found], looked_at


def _told(
    problem: Problem,
    conditions: list[Condition],
    inside: Array,
    losses: Array,
    is_after: Array,
    blocks: Array,
    is_unseen: Array,
) -> ErrorSlice | None:
    """None where whole blocks, drawn again and again, do not bear it out, or where it only fell less than elsewhere."""
    place, count = summed_blocks(blocks[is_unseen])
    sides = [part & when for part in (inside, ~inside) for when in (is_after, ~is_after)]
    sums = [np.bincount(place, (values * side)[is_unseen], count) for side in sides for values in (losses, 1.0)]
    (excess,) = intervals_of_sums(np.stack(sums, axis=1), _excess, problem.evaluation.bootstrap)
    value, low, high = excess["value"], excess["low"], excess["high"]
    if value is None or low is None or high is None or low <= 0:
        return None
    before, after = float(losses[inside & ~is_after].mean()), float(losses[inside & is_after].mean())
    if after <= before:
        return None
    return ErrorSlice(
        name=name_of(conditions),
        conditions=tuple(conditions),
        rows_before=int((inside & ~is_after).sum()),
        rows=int((inside & is_after).sum()),
        loss_before=before,
        loss=after,
        excess=value,
        low=low,
        high=high,
    )


def _row_sums(losses: Array, is_after: Array) -> Array:
    """(12, n): what `welch` adds up, of the later side's rows and then of the earlier side's."""
    alike = standardised(losses, np.ones(len(losses)))
    sums = row_sums(alike, np.ones(len(alike)))
    return np.concatenate([sums * is_after, sums * ~is_after])


def _rose_more(part: Array, rest: Array) -> Worse:
    """Difference in differences from sums (..., 12) each, in the terms of a Welch test of four means."""
    sides = [welch(rows[..., :6], rows[..., 6:]) for rows in (part, rest)]
    with np.errstate(divide="ignore", invalid="ignore"):
        rises = [_rise(rows) for rows in (part, rest)]
        # Without a rise its error cannot be told from t: such a slice is of no interest.
        error = np.hypot(*(np.abs(rise / side.t) for rise, side in zip(rises, sides, strict=True)))
        excess = rises[0] - rises[1]
        t = excess / error
    return Worse(excess, t, np.minimum(sides[0].df, sides[1].df))


def _rise(sums: Array) -> Array:
    after, before = sums[..., :6], sums[..., 6:]
    return np.asarray(after[..., 3] / after[..., 1] - before[..., 3] / before[..., 1])


def _excess(sums: Array) -> Array:
    """(..., 8) sums of loss and rows: slice after, slice before, others after, others before -> (..., 1)."""
    mean = ratio(sums[..., 0::2], sums[..., 1::2])
    return np.asarray((mean[..., 0] - mean[..., 1]) - (mean[..., 2] - mean[..., 3]))[..., None]
