"""What no world does, only a broken feed or a broken computation: values lost, frozen, strange, or sent twice."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

LOST_SHARE = 0.25  # of the rows, beyond the most that was usual: so many values do not go missing by chance
UNSEEN_SHARE = 0.5
TROUBLED_SHARE = 0.01  # of a feature's rows NaN or infinite, beyond the usual; of the scores, one is enough
EDGE_SHARE = 0.5  # of the scores exactly 0 or 1, beyond the usual: saturated
FROZEN = 0.01  # of the smallest standard deviation that a partition had
FEWEST_VALUES = 30  # by which a standard deviation is told from nought


def column_faults(
    name: str, found: Mapping[str, Any], rows: int, *, is_score: bool
) -> Iterator[tuple[str, str, float]]:
    """(clause for people, name of the number, the number) for each fault of one column, of what `detect` found."""
    nulls, usual_nulls = found["null_share"], found["usual_null_share"]
    if nulls - usual_nulls > LOST_SHARE:
        yield f"{nulls:.0%} of {name} is empty (usual: up to {usual_nulls:.0%})", "null share", nulls
    troubled, usual = found["non_finite_share"], found["usual_non_finite_share"]
    if troubled - usual > (0 if is_score else TROUBLED_SHARE):
        yield f"{troubled:.1%} of {name} is NaN or infinite (usual: up to {usual:.1%})", "non-finite share", troubled
    unseen = found["unseen_share"]
    if unseen > UNSEEN_SHARE:
        most = " such as " + ", ".join(list(found["new"])[:3]) if found["new"] else ""
        yield f"{unseen:.0%} of {name} is new to the model{most}", "unseen share", unseen
    edge = found.get("edge_share", 0.0)
    if edge - found.get("usual_edge_share", 0.0) > EDGE_SHARE:
        yield f"{edge:.0%} of the scores is exactly 0 or 1", "edge share", edge
    if unit := found.get("other_unit"):
        mean, before = found["mean"], found["mean_before"]
        yield f"{name} has another unit ({unit}): mean {mean:.4g}, {before:.4g} before", "mean", mean
    std, usual_std = found["std"], found["usual_std"]
    told = rows * (1 - nulls - troubled)
    if std is not None and usual_std and told >= FEWEST_VALUES and std < FROZEN * usual_std:
        yield f"{name} is frozen (standard deviation {std:.2g}, usual: {usual_std:.2g} or more)", "std", std
