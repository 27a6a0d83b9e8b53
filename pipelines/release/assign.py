"""Which version serves a row of a partition under release: a hash of what is assigned as a whole says so."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow.compute as pc

from pipelines import sql, store
from pipelines.handoffs.releases import Assignment, Variant
from pipelines.problem import Problem

if TYPE_CHECKING:
    import pyarrow.dataset as ds

HASHES = 2**64


def unit_of(problem: Problem, assignment: Assignment, row: str) -> str:
    """SQL for the text of what a row is assigned with, over `row`, which has the key and the unit's column.

    A row without a value is a unit of its own.
    """
    key = f"{row}.{sql.quote(problem.key)}"
    if assignment.unit == "key":
        return key
    return f"coalesce(CAST({row}.{sql.quote(assignment.unit)} AS VARCHAR), {key})"


def is_challengers(assignment: Assignment, unit: str = "unit", partition: str = "partition") -> str:
    """SQL condition: the challenger serves a row with these texts for its unit and its partition, SQL expressions.

    It does where the lower half of the MD5 of the text, of 2**64 numbers, is below the challenger's share of them: whom
    it serves at a share it serves at every larger one. Unless units are sticky the partition is hashed too, and
    they are drawn anew in each.

    >>> from pipelines.handoffs.releases import Assignment
    >>> assignment = Assignment(
    ...     release="v3-v4", rung=1, kind="canary", champion="3", champion_run="a", challenger="4", challenger_run="b",
    ...     share=0.25, unit="carrier", sticky=True,
    ... )
    >>> is_challengers(assignment)
    "md5_number_lower('v3-v4/' || unit) < 4611686018427387904::UBIGINT"
    >>> is_challengers(assignment.model_copy(update={"sticky": False, "share": 0.5}), "u.name", "u.day")
    "md5_number_lower('v3-v4/' || u.name || '/' || u.day) < 9223372036854775808::UBIGINT"
    >>> is_challengers(assignment.model_copy(update={"share": 0.0}))
    'false'
    """
    if not assignment.share:
        return "false"
    text = f"{sql.literal(f'{assignment.release}/')} || {unit}"
    if not assignment.sticky:
        text += f" || '/' || {partition}"
    return f"md5_number_lower({text}) < {int(assignment.share * HASHES)}::UBIGINT"


def is_served_by(variant: Variant) -> pc.Expression:
    """Condition for Arrow, over the table `predictions`."""
    return pc.field("variant") == variant


def champions_predictions(problem: Problem) -> ds.Dataset:
    """Rows that the champion of their time has served: what says how it does, whatever else was tried beside it."""
    return store.dataset(problem, "predictions").filter(is_served_by("champion"))
