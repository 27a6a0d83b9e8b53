"""digest: whether two sets of rows are the same, told in one pass and with nothing kept."""

from __future__ import annotations

from typing import Any

from pipelines import sql
from pipelines.problem import Problem


def digest(problem: Problem, query: str, tables: dict[str, Any]) -> dict[str, Any]:
    """{"rows", "sum"} of the rows that a fit is given: features, label and weight, as SQL over `tables` gives them.

    The sum of 64-bit hashes of the rows, the same for every order and chunking. It is quick, and made to notice what
    happens, not to withstand who is out to deceive it (for that `rebuild.content_hash` is slow).
    """
    columns = ", ".join(map(sql.quote, [*problem.feature_names, "label", "weight"]))
    summed = f"SELECT count(*) AS rows, coalesce(sum(hash({columns})::HUGEINT), 0)::VARCHAR AS sum FROM ({query})"
    (found,) = sql.query(summed, tables).to_pylist()
    return dict(found)
