"""schema: what each feature is, where it comes from, and what its values are like."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from pipelines import sql
from pipelines.config import History
from pipelines.errors import ConfigError, DataError
from pipelines.features.derive import PERIODS
from pipelines.features.lineage import lineage
from pipelines.problem import Problem


def feature_schema(problem: Problem, rows: pa.Table | None) -> list[dict[str, Any]]:
    """One record per feature, in the model's order: what a person needs to know before using or trusting it.

    Keys: name, type, unit, description, owner (the problem's, where none is named), available (cutoff, later, or None
    where nobody has said), source_columns (`source.column`; `label` is the label), definition; and of `rows`, the
    training rows, coverage (share of rows with a value), min and max (of numbers), distinct (how many values a
    category has): None without rows. Plain data, the same for the same input.

    Raises:
        DataError: `rows` lack a feature.
    """
    origin = _origin(problem)
    seen_values = _seen(problem, rows) if rows is not None else {}
    empty = {"coverage": None, "min": None, "max": None, "distinct": None}
    return [
        {
            "name": name,
            **facts,
            "owner": facts["owner"] or problem.owner,
            "available": _available(problem, used),
            "source_columns": sorted({source_column for column in used for source_column in origin.get(column, [])}),
            **seen_values.get(name, empty),
        }
        for name, (facts, used) in _facts(problem).items()
    ]


def feature_units(problem: Problem) -> dict[str, str]:
    """The unit of each feature as it is declared, or as what it is made of has it; "" where there is none."""
    return {name: facts["unit"] for name, (facts, _) in _facts(problem).items()}


def _facts(problem: Problem) -> dict[str, tuple[dict[str, str], list[str]]]:
    """What is declared about each feature, and the columns of events (or label) that it is made of."""
    features, facts = problem.features, {}
    for name in features.columns:
        column = problem.columns[name]
        words = {"unit": column.unit, "description": column.description, "owner": column.owner}
        facts[name] = ({"type": column.type, **words, "definition": f"{name} of events.sql"}, [name])
    for name, past in features.history.items():
        words = {"unit": past.unit or _unit(problem, past), "description": past.description, "owner": past.owner}
        groups = f"by {', '.join(past.by)}" if past.by else "over all events"
        definition = f"{past.function} of {past.of} over {past.window_days} days {groups}"
        facts[name] = ({"type": "float", **words, "definition": definition}, [*past.by, past.of])
    for name, cross in features.crosses.items():
        words = {"unit": "", "description": cross.description, "owner": cross.owner}
        facts[name] = ({"type": "string", **words, "definition": " | ".join(cross.of)}, cross.of)
    for name, part in features.datetime.items():
        words = {"unit": "", "description": part.description, "owner": part.owner}
        definition = f"{part.part} of {part.of} in {problem.partitions.timezone}"
        if part.cyclical:
            turn = f", once around in {PERIODS[part.part]}"
            facts[f"{name}_sin"] = ({"type": "float", **words, "definition": f"sine of {definition}{turn}"}, [part.of])
            facts[f"{name}_cos"] = (
                {"type": "float", **words, "definition": f"cosine of {definition}{turn}"},
                [part.of],
            )
        else:
            facts[name] = ({"type": "float", **words, "definition": definition}, [part.of])
    return facts


def _unit(problem: Problem, past: History) -> str:
    if past.function == "time_since":
        return "day"
    if past.of == "label" or past.function in ("count", "distinct"):
        return ""
    return problem.columns[past.of].unit


def _available(problem: Problem, used: list[str]) -> str | None:
    """Known by the cut-off if all that it is made of is. Of labels, history takes only what was known by then."""
    availabilities = [problem.columns[name].available for name in used if name in problem.columns]
    return "later" if "later" in availabilities else None if None in availabilities else "cutoff"


def _origin(problem: Problem) -> dict[str, list[str]]:
    """Source columns of each column of events: as declared, or else as events.sql says."""
    try:
        text = problem.sql("events").strip().rstrip(";")
    except ConfigError:  # settings that were kept with a model may have outlived their folder
        text = ""
    sources = {name: list(source.columns) for name, source in problem.sources.items()}
    origins = {"label": ["label"]} | lineage(text, sources)
    if "cutoff_time" not in origins and "event_time" in origins:  # what extract takes in its place
        origins["cutoff_time"] = origins["event_time"]
    return origins | {name: column.source_columns for name, column in problem.columns.items() if column.source_columns}


def _seen(problem: Problem, rows: pa.Table) -> dict[str, dict[str, Any]]:
    """What the values of each feature are like, in one pass over the rows."""
    names = problem.feature_names
    if missing := [name for name in names if name not in rows.column_names]:
        raise DataError(
            f"rows lack the features {', '.join(missing)}", cure="give it the rows that a model learns from"
        )
    measures = []
    for name in names:
        column = sql.quote(name)
        if name in problem.categorical_features:
            measures += [f"count({column})", "NULL", "NULL", f"count(DISTINCT {column})"]
        else:
            measures += [f"count({column})", f"min({column})", f"max({column})", "NULL"]
    named = ", ".join(f"{measure} AS m{n}" for n, measure in enumerate(measures))
    (counted,) = sql.query(f"SELECT {named} FROM rows", {"rows": rows}).to_pylist()
    values, count = list(counted.values()), rows.num_rows
    return {
        name: {
            "coverage": values[4 * n] / count if count else None,
            "min": values[4 * n + 1],
            "max": values[4 * n + 2],
            "distinct": values[4 * n + 3],
        }
        for n, name in enumerate(names)
    }
