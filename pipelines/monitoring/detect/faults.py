"""What no world does, only a broken feed or a broken computation: values lost, frozen, strange, or sent twice."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

LOST_SHARE = 0.25  # of the rows, beyond the most that was usual: so many values do not go missing by chance
UNSEEN_SHARE = 0.5
TROUBLED_SHARE = 0.01  # of a feature's rows NaN or infinite, beyond the usual; of the scores, one is enough
EDGE_SHARE = 0.5  # of the scores exactly 0 or 1, beyond the usual: saturated
FROZEN = 0.01  # of the smallest standard deviation that a partition had
FEWEST_VALUES = 30  # by which a standard deviation is told from nought, and a unit from another
FEWEST_TROUBLED = 3  # rows of a feature: one odd reading of a few is no broken feed
# Of a share among few rows: chance that the usual one, or a twentieth of the rows, gives as many.
CERTAIN, LEAST_USUAL = 1e-4, 0.05


def column_faults(
    name: str, found: Mapping[str, Any], rows: int, *, is_score: bool
) -> Iterator[tuple[str, str, float]]:
    """(clause for people, name of the number, the number) for each fault of one column, of what `detect` found."""
    nulls, usual_nulls = found["null_share"], found["usual_null_share"]
    if nulls - usual_nulls > LOST_SHARE and _is_certain(nulls, usual_nulls, rows):
        yield f"{nulls:.0%} of {name} is empty (usual: up to {usual_nulls:.0%})", "null share", nulls
    troubled, usual = found["non_finite_share"], found["usual_non_finite_share"]
    if is_score:
        is_troubled = troubled > usual
    else:
        is_troubled = troubled - usual > TROUBLED_SHARE and troubled * rows >= FEWEST_TROUBLED
    if is_troubled:
        yield f"{troubled:.1%} of {name} is NaN or infinite (usual: up to {usual:.1%})", "non-finite share", troubled
    unseen = found["unseen_share"]
    if unseen > UNSEEN_SHARE and _is_certain(unseen, found.get("usual_unseen_share", 0.0), rows):
        most = " such as " + ", ".join(list(found["new"])[:3]) if found["new"] else ""
        yield f"{unseen:.0%} of {name} is new to the model{most}", "unseen share", unseen
    edge, usual_edge = found.get("edge_share", 0.0), found.get("usual_edge_share", 0.0)
    if edge - usual_edge > EDGE_SHARE and _is_certain(edge, usual_edge, rows):
        yield f"{edge:.0%} of the scores is exactly 0 or 1", "edge share", edge
    told = rows * (1 - nulls - troubled)
    if (unit := found.get("other_unit")) and told >= FEWEST_VALUES:
        mean, before = found["mean"], found["mean_before"]
        yield f"{name} has another unit ({unit}): mean {mean:.4g}, {before:.4g} before", "mean", mean
    std, usual_std = found["std"], found["usual_std"]
    if std is not None and usual_std and told >= FEWEST_VALUES and std < FROZEN * usual_std:
        yield f"{name} is frozen (standard deviation {std:.2g}, usual: {usual_std:.2g} or more)", "std", std


def _is_certain(share: float, usual: float, rows: int) -> bool:
    """Whether so large a share among so few rows is no chance (the upper tail of a binomial).

    >>> _is_certain(1.0, 0.0, 3), _is_certain(1.0, 0.0, 4), _is_certain(0.35, 0.05, 200)
    (False, True, True)
    """
    from scipy.special import bdtrc

    usual = max(usual, LEAST_USUAL)
    return usual < 1 and float(bdtrc(round(share * rows) - 1, rows, usual)) < CERTAIN
