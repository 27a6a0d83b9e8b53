"""derive: features that a row alone gives: crosses of categories, and parts of times."""

from __future__ import annotations

from pipelines import sql
from pipelines.config import Cross, DatetimePart
from pipelines.features.counting import DAY_US
from pipelines.problem import Problem

PERIODS = {"minute": 60, "hour": 24, "weekday": 7, "day": 31, "week": 53, "month": 12, "quarter": 4}
"""After how many of it a part of time begins again. Months are taken to have 31 days, years 53 weeks."""


def derived(problem: Problem) -> dict[str, str]:
    """SQL expressions over `targets AS t`, by feature: the crosses, then the parts of times."""
    expressions = {name: _cross(cross) for name, cross in problem.features.crosses.items()}
    for name, part in problem.features.datetime.items():
        value = _part(part, problem.partitions.timezone)
        if part.cyclical:
            angle = f"2 * pi() * {value} / {PERIODS[part.part]}"
            expressions |= {f"{name}_sin": f"sin({angle})", f"{name}_cos": f"cos({angle})"}
        else:
            expressions[name] = value
    return expressions


def _cross(cross: Cross) -> str:
    """The values' texts with | between them; null where one is missing, since || gives null then."""
    return " || '|' || ".join(f"CAST(t.{sql.quote(name)} AS VARCHAR)" for name in cross.of)


def _part(part: DatetimePart, timezone: str) -> str:
    if part.part == "age":
        return f"(epoch_us(t.cutoff_time) - epoch_us(t.{sql.quote(part.of)})) / {DAY_US}"
    local = f"(t.{sql.quote(part.of)} AT TIME ZONE {sql.literal(timezone)})"
    field = "isodow" if part.part == "weekday" else part.part
    fraction = f" + date_part('minute', {local}) / 60" if part.part == "hour" else ""
    return f"CAST(date_part({sql.literal(field)}, {local}){fraction} AS DOUBLE)"
