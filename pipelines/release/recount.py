"""Did each row of a release get both scores, and did each unit get the version that it was to get?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict

from pipelines import sql
from pipelines.metrics.sample_ratio import Assigned, p_value
from pipelines.problem import Problem
from pipelines.release.assign import is_challengers

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.dataset as ds

    from pipelines.handoffs.releases import Assignment

UNLIKELY = 0.0005  # p-value of each of two tests below which an assignment is broken: at most 1 in 1,000 clean releases


class Recount(BaseModel):
    """What stands of one partition in `predictions` and `shadow_predictions`."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    partition: str
    share: float
    """Of the units that the challenger was to serve."""
    events: int
    champion_rows: int
    """That the champion served."""
    challenger_rows: int
    champion_missing: int
    """Events without a score by the champion, served or not."""
    challenger_missing: int
    repeated: int
    """Events that a version has scored more than once."""
    misplaced: int
    """Rows that another version served, or scored beside it, than was to."""
    champion_units: int = 0
    """Units that were seen for the first time, where they stay what they were."""
    challenger_units: int = 0

    @property
    def faults(self) -> dict[str, int]:
        """How many rows are wrong, by what is wrong with them."""
        return {
            "champion_missing": self.champion_missing,
            "challenger_missing": self.challenger_missing,
            "repeated": self.repeated,
            "misplaced": self.misplaced,
        }


def recount(
    problem: Problem,
    assignments: Mapping[str, Assignment],
    scored: Mapping[str, int],
    predictions: ds.Dataset,
    shadows: ds.Dataset,
) -> list[Recount]:
    """Each partition of `assignments` counted row by row, in the order of the partitions.

    Args:
        assignments: of partitions that have been scored, by partition.
        scored: how many events were scored then, by partition, where that is known.
        predictions, shadows: the tables.
    """
    units = _units(problem, assignments, predictions)
    counted = []
    for partition, assignment in sorted(assignments.items()):
        rows = _counts(problem, partition, assignment, predictions, shadows)
        gone = max(scored.get(partition, 0) - rows["events"], 0)  # from both tables
        for count in ("events", "champion_missing", "challenger_missing"):
            rows[count] += gone
        champion_units, challenger_units = (units.get((partition, name), 0) for name in ("champion", "challenger"))
        counted.append(
            Recount(
                partition=partition,
                share=assignment.share,
                champion_units=champion_units,
                challenger_units=challenger_units,
                **rows,
            )
        )
    return counted


def _counts(
    problem: Problem, partition: str, assignment: Assignment, predictions: ds.Dataset, shadows: ds.Dataset
) -> dict[str, int]:
    key, its_own = sql.quote(problem.key), pc.field("partition") == partition
    columns = f"""{key} AS event, coalesce(unit, {key}) AS unit, partition, variant, model_version,
        isfinite(score) IS TRUE AS is_scored"""
    is_right = f"""model_version = CASE WHEN variant = 'challenger' THEN $challenger ELSE $champion END
        AND serves = ((variant = 'challenger') = ({is_challengers(assignment)}))"""
    counted = sql.query(
        f"""WITH rows AS (
            SELECT {columns}, true AS serves FROM p UNION ALL SELECT {columns}, false AS serves FROM s
        ),
        events AS (
            SELECT event, count_if(model_version = $champion AND is_scored) AS champion,
                count_if(model_version = $challenger AND is_scored) AS challenger,
                count_if(serves AND variant = 'champion') AS by_champion,
                count_if(serves AND variant = 'challenger') AS by_challenger,
                count_if(NOT ({is_right})) AS misplaced
            FROM rows GROUP BY event
        )
        SELECT count(*) AS events,
            coalesce(sum(by_champion), 0)::BIGINT AS champion_rows,
            coalesce(sum(by_challenger), 0)::BIGINT AS challenger_rows,
            count_if(champion = 0) AS champion_missing, count_if(challenger = 0) AS challenger_missing,
            count_if(champion > 1 OR challenger > 1) AS repeated, coalesce(sum(misplaced), 0)::BIGINT AS misplaced
        FROM events""",
        {"p": predictions.filter(its_own), "s": shadows.filter(its_own)},
        {"champion": assignment.champion, "challenger": assignment.challenger},
    )
    rows: dict[str, int] = counted.to_pylist()[0]
    return rows


def _units(
    problem: Problem, assignments: Mapping[str, Assignment], predictions: ds.Dataset
) -> dict[tuple[str, str], int]:
    """Units by partition and variant; each once, in its first partition, where units keep their version."""
    is_sticky = any(assignment.sticky for assignment in assignments.values())
    together = "unit" if is_sticky else "unit, partition"
    counted: pa.Table = sql.query(
        f"""SELECT partition, variant, count(*) AS units FROM (
            SELECT min(partition) AS partition, arg_min(variant, partition) AS variant
            FROM (SELECT coalesce(unit, {sql.quote(problem.key)}) AS unit, partition, variant FROM p)
            GROUP BY {together}
        ) GROUP BY ALL""",
        {"p": predictions.filter(sql.is_among("partition", assignments))},
    )
    return {(row["partition"], row["variant"]): row["units"] for row in counted.to_pylist()}


def ratio_p(counts: Sequence[tuple[int, int]], shares: Sequence[float]) -> float | None:
    """Chance of counts so far from their shares, at any time, where all is as it is to be; None: nothing was drawn.

    Args:
        counts: of the champion and of the challenger, in each partition, the oldest first.
        shares: of the challenger.

    >>> ratio_p([(500, 500)], [0.5]) > 0.5, ratio_p([(500, 0)], [0.0])
    (True, None)
    """
    periods = [Assigned(pair, (1 - share, share)) for pair, share in zip(counts, shares, strict=True) if 0 < share < 1]
    return p_value(periods) if periods else None


def _rows(rows: int, what: str) -> str:
    return f"{rows:,} row{'s' * (rows != 1)} {what.format(are='is' if rows == 1 else 'are')}"


def broken(
    champion: str, challenger: str, recounts: Sequence[Recount], assigned_p: float | None, labelled_p: float | None
) -> str | None:
    """What is wrong with an assignment, by name; None: nothing is known to be.

    Args:
        champion, challenger: the versions.
        assigned_p: of the units that each version got.
        labelled_p: of those of them that have a label.
    """
    words = {
        "champion_missing": f"of version {champion} {{are}} missing",
        "challenger_missing": f"of version {challenger} {{are}} missing",
        "repeated": "{are} scored twice by one version",
        "misplaced": "{are} not where the assignment puts them",
    }
    wrong = [
        f"{_rows(rows, words[fault])} in {counted.partition}"
        for counted in recounts
        for fault, rows in counted.faults.items()
        if rows
    ]
    if assigned_p is not None and assigned_p < UNLIKELY:
        champions, challengers = (
            sum(getattr(counted, f"{name}_units") for counted in recounts) for name in ("champion", "challenger")
        )
        wrong.append(
            f"units are not assigned as they were to be: {champions:,} to version {champion} and {challengers:,} to "
            f"version {challenger} (p {assigned_p:.2g})"
        )
    if labelled_p is not None and labelled_p < UNLIKELY:
        wrong.append(f"labels come for one version's units rather than for the other's (p {labelled_p:.2g})")
    return "; ".join(wrong) or None
