"""schema: what each feature is, where it comes from, and what its values are like."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa

from pipelines import sql
from pipelines.config import History, is_vector
from pipelines.documents.dataset import Feature
from pipelines.errors import ConfigError, DataError
from pipelines.features.derive import PERIODS
from pipelines.features.lineage import lineage
from pipelines.problem import Problem
from pipelines.vectors.measures import MEASURES, SQL_MEASURES

if TYPE_CHECKING:
    import pyarrow.dataset as ds


class _Declared(NamedTuple):
    """What the config says of a feature."""

    type: str
    unit: str
    description: str
    owner: str
    definition: str
    made_of: list[str]
    """Columns of events, or `label`."""


class _Values(NamedTuple):
    """What the values of a feature are like; None where there are no rows, or the measure is none of its kind."""

    coverage: float | None = None
    min: float | None = None
    max: float | None = None
    distinct: int | None = None


def feature_schema(problem: Problem, rows: pa.Table | ds.Dataset | None) -> list[Feature]:
    """One record per feature, in the model's order: what a person needs to know before using or trusting it.

    `rows` are the training rows, if there are any yet. Plain data, the same for the same input.

    Raises:
        DataError: `rows` lack a feature.
    """
    origin = _origin(problem)
    measured = _measured(problem, rows) if rows is not None else {}
    schema: list[Feature] = []
    for name, declared in _declared(problem).items():
        values = measured.get(name, _Values())
        schema.append(
            {
                "name": name,
                "type": declared.type,
                "unit": declared.unit,
                "description": declared.description,
                "owner": declared.owner or problem.owner,
                "definition": declared.definition,
                "available": _available(problem, declared.made_of),
                "source_columns": sorted({source for column in declared.made_of for source in origin.get(column, [])}),
                "coverage": values.coverage,
                "min": values.min,
                "max": values.max,
                "distinct": values.distinct,
            }
        )
    return schema


def feature_units(problem: Problem) -> dict[str, str]:
    """The unit of each feature as it is declared, or as what it is made of has it; "" where there is none."""
    return {name: declared.unit for name, declared in _declared(problem).items()}


def calendar_features(problem: Problem) -> set[str]:
    """Features that an event's partition tells already, such as the weekday where partitions are days."""
    features, every = problem.features, problem.partitions.every
    return {
        name
        for declared, part in features.datetime.items()
        if part.is_of_calendar(every)
        for name in ((f"{declared}_sin", f"{declared}_cos") if part.cyclical else (declared,))
    }


def _declared(problem: Problem) -> dict[str, _Declared]:
    """What the config says of each feature."""
    features, all_declared = problem.features, dict[str, _Declared]()
    origin = "events.sql" if problem.time is None else f"the source {next(iter(problem.sources))}"
    for name in features.columns:
        column = problem.columns[name]
        definition = f"{name} of {origin}"
        unit = MEASURES[column.type][0] if is_vector(column.type) else column.unit
        all_declared[name] = _Declared(column.type, unit, column.description, column.owner, definition, made_of=[name])
    for name, past in features.history.items():
        groups = f"by {', '.join(past.by)}" if past.by else "over all events"
        definition = f"{past.function} of {past.of} over {past.window_days} days {groups}"
        unit = past.unit or _unit(problem, past)
        all_declared[name] = _Declared(
            "float", unit, past.description, past.owner, definition, made_of=[*past.by, past.of]
        )
    for name, cross in features.crosses.items():
        definition = " | ".join(cross.of)
        all_declared[name] = _Declared("string", "", cross.description, cross.owner, definition, made_of=cross.of)
    for name, part in features.datetime.items():
        definition, unit = f"{part.part} of {part.of} in {problem.partitions.timezone}", ""
        if part.part == "age":
            definition, unit = f"days from {part.of} to the cut-off", "day"
        definitions = {name: definition}
        if part.cyclical:
            turn = f", once around in {PERIODS[part.part]}"
            definitions = {f"{name}_sin": f"sine of {definition}{turn}", f"{name}_cos": f"cosine of {definition}{turn}"}
        for made, words in definitions.items():
            all_declared[made] = _Declared("float", unit, part.description, part.owner, words, made_of=[part.of])
    return all_declared


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


def _measured(problem: Problem, rows: pa.Table | ds.Dataset) -> dict[str, _Values]:
    """What the values of each feature are like, in one pass over the rows."""
    names = problem.feature_names
    if missing := [name for name in names if name not in rows.schema.names]:
        raise DataError(
            f"rows lack the features {', '.join(missing)}", cure="give it the rows that a model learns from"
        )
    measures = []
    for name in names:
        column = sql.quote(name)
        if name in problem.vector_features:
            value = SQL_MEASURES[problem.vector_features[name]].format(column)
            measures += [f"count({column})", f"min({value})", f"max({value})", "NULL"]
        elif name in problem.categorical_features:
            measures += [f"count({column})", "NULL", "NULL", f"count(DISTINCT {column})"]
        else:
            measures += [f"count({column})", f"min({column})", f"max({column})", "NULL"]
    named = ", ".join(f"{measure} AS m{n}" for n, measure in enumerate(measures))
    (counted,) = sql.query(f"SELECT {named}, count(*) AS rows FROM rows", {"rows": rows}).to_pylist()
    *values, count = counted.values()
    return {
        name: _Values(values[4 * n] / count if count else None, *values[4 * n + 1 : 4 * n + 4])
        for n, name in enumerate(names)
    }
