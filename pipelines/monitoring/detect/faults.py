"""What no world does, only a broken feed or a broken computation: values lost, frozen, strange, or sent twice."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from pipelines.monitoring.detect.detection import ColumnDrift

LOST_SHARE = 0.25  # of the rows, beyond the most that was usual: so many values do not go missing by chance
UNSEEN_SHARE = 0.5
TROUBLED_SHARE = 0.01  # of a feature's rows NaN or infinite, beyond the usual; of the scores, one is enough
EDGE_SHARE = 0.5  # of the scores exactly 0 or 1, beyond the usual: saturated
FROZEN = 0.01  # of the smallest standard deviation that a partition had
FEWEST_VALUES = 30  # by which a standard deviation is told from nought, and a unit from another
FEWEST_TROUBLED = 3  # rows of a feature: one odd reading of a few is no broken feed
# Of a share among few rows: chance that the usual one, or a twentieth of the rows, gives as many.
CERTAIN, LEAST_USUAL = 1e-4, 0.05


class Fault(NamedTuple):
    """What is wrong with a column."""

    clause: str
    """For people."""
    measure: str
    """What the number is of."""
    value: float


def column_faults(name: str, drift: ColumnDrift, rows: int, *, is_score: bool) -> Iterator[Fault]:
    """Each fault of one column, of what `detect` has found."""
    nulls, usual_nulls = drift.null_share, drift.usual_null_share
    if nulls - usual_nulls > LOST_SHARE and _is_certain(nulls, usual_nulls, rows):
        yield Fault(f"{nulls:.0%} of {name} is empty (usual: up to {usual_nulls:.0%})", "null share", nulls)
    troubled, usual = drift.non_finite_share, drift.usual_non_finite_share
    if is_score:
        is_troubled = troubled > usual
    else:
        is_troubled = troubled - usual > TROUBLED_SHARE and troubled * rows >= FEWEST_TROUBLED
    if is_troubled:
        clause = f"{troubled:.1%} of {name} is NaN or infinite (usual: up to {usual:.1%})"
        yield Fault(clause, "non-finite share", troubled)
    unseen = drift.unseen_share
    if unseen > UNSEEN_SHARE and _is_certain(unseen, drift.usual_unseen_share, rows):
        most = " such as " + ", ".join(list(drift.new)[:3]) if drift.new else ""
        yield Fault(f"{unseen:.0%} of {name} is new to the model{most}", "unseen share", unseen)
    edge, usual_edge = drift.edge_share, drift.usual_edge_share
    if edge - usual_edge > EDGE_SHARE and _is_certain(edge, usual_edge, rows):
        yield Fault(f"{edge:.0%} of the scores is exactly 0 or 1", "edge share", edge)
    values = rows * (1 - nulls - troubled)
    if (unit := drift.other_unit) and values >= FEWEST_VALUES and drift.mean is not None:
        before = f", {drift.mean_before:.4g} before" if drift.mean_before is not None else ""
        yield Fault(f"{name} has another unit ({unit}): mean {drift.mean:.4g}{before}", "mean", drift.mean)
    std, usual_std = drift.std, drift.usual_std
    if std is not None and usual_std and values >= FEWEST_VALUES and std < FROZEN * usual_std:
        yield Fault(f"{name} is frozen (standard deviation {std:.2g}, usual: {usual_std:.2g} or more)", "std", std)


def _is_certain(share: float, usual: float, rows: int) -> bool:
    """Whether so large a share among so few rows is no chance (the upper tail of a binomial).

    >>> _is_certain(1.0, 0.0, 3), _is_certain(1.0, 0.0, 4), _is_certain(0.35, 0.05, 200)
    (False, True, True)
    """
    from scipy.special import bdtrc

    usual = max(usual, LEAST_USUAL)
    return usual < 1 and float(bdtrc(round(share * rows) - 1, rows, usual)) < CERTAIN
