"""Rules: what each extracted row has to fulfil, derived from problem.yaml and the contract."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import duckdb

from pipelines import sql
from pipelines.errors import ConfigError
from pipelines.ingest.extract import declared, extracted_schema, not_finite, not_of_type
from pipelines.problem import Problem, Query

LATE = "known_time: after cutoff_time"
EARLY = "known_time: before event_time"
NOT_FINITE = "a number of it is missing or not finite"  # of an embedding
ANOTHER = "names an event of another time already"  # follows the key's name


@dataclass(frozen=True)
class Rule:
    """One rule, twice: for DuckDB, which parts the rows, and for Great Expectations, which holds it to account.

    `broken` is an SQL condition over the columns of extracted rows and those that `pipelines.ingest.validate` adds
    for the whole batch: `_twice` (a row of the same key and known_time exists), `_later` (an earlier statement about
    the same event exists), `_is_another` (the key names an event of another time already), `_shared_<column>` (another
    event has the same value). True means broken, null fulfilled.

    The expectation may name two more columns: `_first_known_time` (known_time of an event's first statement) and
    `_once_<column>` (a value, at one of the event's rows). Without one, the condition itself is evaluated by DuckDB,
    and Great Expectations expects that it is not broken. On the rows of `compared` (SQL, too) the two have to agree.

    `is_fault` marks what extract found already: a row says it in its own words, with the value. `among` are the columns
    that rows have in common of which one breaks the rule because of another: where they are not all looked at, a row
    that is left alone is not compared.
    """

    name: str
    broken: str
    expectation: str | None = None
    arguments: dict[str, Any] = field(default_factory=dict)
    compared: str = "true"
    is_fault: bool = False
    among: tuple[str, ...] = ()


def rules(problem: Problem, query: Query) -> list[Rule]:
    """Every rule for the rows of a query: types, missing values, then what the values are."""
    return [
        *_readable(problem, query),
        *_present(problem, query),
        *_keys(problem, query),
        *(_labels(problem) if query == "labels" else _events(problem)),
    ]


def unique_columns(problem: Problem, query: Query) -> list[str]:
    """Columns that have `unique`, for which the batch is looked through."""
    return [name for name, column in problem.columns.items() if column.unique] if query == "events" else []


def check_rules(problem: Problem) -> None:
    """Whether validation.rules are conditions over the columns of events.

    Raises:
        ConfigError: one is no SQL, names an unknown column, or is neither true nor false.
    """
    rows = extracted_schema(problem, "events").empty_table().select(list(declared(problem, "events")))
    with sql.connection({"events": rows}) as database:
        for name, condition in problem.validation.rules.items():
            where = f"{problem.folder / 'problem.yaml'}, validation.rules.{name}"
            with sql.explained(where):
                try:
                    # In brackets it cannot close the parentheses that it stands in elsewhere.
                    (kind, _) = database.sql(f"SELECT ({condition}\n), [{condition}\n] FROM events").types
                except (ValueError, duckdb.ParserException) as error:
                    raise ConfigError(
                        f"not one condition in SQL: {condition}", where=where, cure="write one, such as dewp <= temp"
                    ) from error
            if str(kind) not in ("BOOLEAN", '"NULL"'):
                raise ConfigError(
                    f"{condition} gives {kind}, not true or false",
                    where=where,
                    cure="write a condition that a good row fulfils, such as dewp <= temp",
                )


def _readable(problem: Problem, query: Query) -> list[Rule]:
    readable = []
    for name, kind in declared(problem, query).items():
        readable.append(Rule(not_of_type(name, kind), _has_fault(not_of_type(name, kind)), is_fault=True))
        if kind == "float":
            readable.append(Rule(not_finite(name), _has_fault(not_finite(name)), is_fault=True))
    return readable


def _has_fault(beginning: str) -> str:
    return f"len(list_filter(faults, lambda fault: starts_with(fault, {sql.literal(beginning)}))) > 0"


def _present(problem: Problem, query: Query) -> list[Rule]:
    required = [problem.key, "event_time", "known_time"]
    required += ["label"] if query == "labels" else ["cutoff_time"]
    if query == "events":
        required += [name for name, column in problem.columns.items() if not column.nullable]
    # The value of a faulty column is null too, but that is said already, and better.
    return [
        Rule(
            f"{name}: missing",
            f"CASE WHEN {sql.quote(name)} IS NULL THEN NOT {_has_fault(name + ': not ')} END",
            "expect_column_values_to_not_be_null",
            {"column": name},
            f"NOT {_has_fault(name + ': not ')}",
        )
        for name in required
    ]


def _keys(problem: Problem, query: Query) -> list[Rule]:
    columns = [problem.key, *(["event_time"] if query == "labels" else []), "known_time"]
    return [
        Rule(
            f"{problem.key}: twice",
            "_twice",
            "expect_compound_columns_to_be_unique",
            {"column_list": columns, "ignore_row_if": "any_value_is_missing"},
            among=tuple(columns),
        )
    ]


def _labels(problem: Problem) -> list[Rule]:
    """What a label may be; of a number extract says already whether it is one, and finite. And nobody knows how an
    event ends before it happens: a label that says so would be in the event's own history."""
    expectation, column = "expect_column_values_to_be_in_set", {"column": "label"}
    label_rules = [
        Rule(
            EARLY,
            "known_time < event_time",
            "expect_column_pair_values_a_to_be_greater_than_b",
            {
                "column_A": "known_time",
                "column_B": "event_time",
                "or_equal": True,
                "ignore_row_if": "either_value_is_missing",
            },
        )
    ]
    match problem.task:
        case "binary":
            label_rules.append(
                Rule("label: not 0 or 1", "label NOT IN (0, 1)", expectation, {**column, "value_set": [0, 1]})
            )
        case "multiclass":
            known = ", ".join(map(sql.literal, problem.classes))
            label_rules.append(
                Rule(
                    "label: not one of labels.classes",
                    f"label NOT IN ({known})",
                    expectation,
                    {**column, "value_set": problem.classes},
                )
            )
        case "regression":
            pass
    return label_rules


def _events(problem: Problem) -> list[Rule]:
    # The same key in another delivery is another row.
    another = [] if problem.partitions.by_delivery else [Rule(f"{problem.key}: {ANOTHER}", "_is_another")]
    event_rules = [
        *another,
        Rule(
            LATE,
            "known_time > cutoff_time AND NOT _later",  # a correction may come when it comes
            "expect_column_pair_values_a_to_be_greater_than_b",
            {
                "column_A": "cutoff_time",
                "column_B": "_first_known_time",
                "or_equal": True,
                "ignore_row_if": "either_value_is_missing",
            },
        ),
    ]
    for name, column in problem.columns.items():
        value = sql.quote(name)
        if column.min is not None or column.max is not None:
            low, high = ("" if bound is None else f"{bound:g}" for bound in (column.min, column.max))
            bounds = [("<", column.min), (">", column.max)]
            broken = " OR ".join(f"{value} {sign} '{bound!r}'::DOUBLE" for sign, bound in bounds if bound is not None)
            event_rules.append(
                Rule(
                    f"{name}: outside {low}..{high}",
                    broken,
                    "expect_column_values_to_be_between",
                    {"column": name, "min_value": column.min, "max_value": column.max},
                )
            )
        if column.allowed is not None:
            allowed = ", ".join(sql.literal(value) for value in column.allowed)
            broken = f"{value} NOT IN ({allowed})" if allowed else f"{value} IS NOT NULL"
            event_rules.append(
                Rule(
                    f"{name}: not an allowed value",
                    broken,
                    "expect_column_values_to_be_in_set",
                    {"column": name, "value_set": column.allowed},
                )
            )
        if column.min_length is not None or column.max_length is not None:
            low, high = ("" if bound is None else str(bound) for bound in (column.min_length, column.max_length))
            bounds = [("<", column.min_length), (">", column.max_length)]
            event_rules.append(
                Rule(
                    f"{name}: not of {low}..{high} characters",
                    " OR ".join(f"length({value}) {sign} {bound}" for sign, bound in bounds if bound is not None),
                    "expect_column_value_lengths_to_be_between",
                    {"column": name, "min_value": column.min_length, "max_value": column.max_length},
                )
            )
        if column.length is not None:
            odd = f"list_filter({value}, lambda number: number IS NULL OR NOT isfinite(number))"
            event_rules.append(Rule(f"{name}: not {column.length} numbers", f"len({value}) <> {column.length}"))
            event_rules.append(Rule(f"{name}: {NOT_FINITE}", f"len({odd}) > 0"))
        if column.scripts is not None:
            letters = "".join(f"\\p{{{script}}}" for script in column.scripts)
            event_rules.append(
                Rule(
                    f"{name}: letters of another script than {', '.join(column.scripts)}",
                    # A letter (no non-letter) of none of the scripts, nor of those that several have.
                    f"regexp_matches({value}, '[^\\PL\\p{{Common}}{letters}]')",
                )
            )
        if column.unique:
            once = f"_once_{name}"
            event_rules.append(
                Rule(
                    f"{name}: twice",
                    f"_shared_{name}",
                    "expect_column_values_to_be_unique",
                    {"column": once},
                    f"{once} IS NOT NULL",
                    among=(once,),
                )
            )
    for name, condition in problem.validation.rules.items():
        event_rules.append(Rule(f"{name}: not fulfilled", f"NOT ({condition}\n)"))
    return event_rules
