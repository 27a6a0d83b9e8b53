"""Great Expectations holds the rules to account: two implementations of each have to agree, row by row.

It sees samples of the bad rows and of the good ones, as a data frame; DuckDB has seen all rows. A rule that the two
take differently (a bound, a missing value, a duplicate) stops the run before anything is published.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa

from pipelines import sql
from pipelines.errors import DataError
from pipelines.html.wording import cut
from pipelines.ingest.batch import BatchRule
from pipelines.ingest.extract import SHOWN_CHARACTERS, declared
from pipelines.ingest.judge import SPARE, Noted, drawn, texts
from pipelines.ingest.rules import Rule, unique_columns
from pipelines.ingest.validate import among, some
from pipelines.problem import Problem, Query

if TYPE_CHECKING:
    import pandas as pd
    from great_expectations.core.batch_definition import BatchDefinition

os.environ["GX_ANALYTICS_ENABLED"] = "false"  # read when great_expectations is imported

EXAMPLES = 5
BAD_ROWS = 10_000  # that are looked at
FIRST = 100  # rows of a batch, which are looked at if they are bad, whatever their keys are
FRAME_BYTES = 32 << 20  # of good rows, or of bad ones, as long as the longest of them
FAULTS = "faults"
OURS = ("_broken_", "_compared_")
PANDAS_TYPES = {
    "string": "str",
    "text": "str",
    "integer": "int64",
    "int8": "int8",
    "float": "float64",
    "boolean": "bool",
    "timestamp": "Timestamp",
}


class Asked(NamedTuple):
    """What Great Expectations is asked."""

    rule: str
    expectation: str
    """Its type."""
    arguments: Mapping[str, Any]
    """Each expectation has its own."""


@dataclass(frozen=True)
class Expected:
    """What Great Expectations saw of a rule: rows it was evaluated on, those that broke it, a few of their values."""

    rule: str
    expectation: str
    evaluated: int
    unexpected: int
    examples: tuple[str, ...]


def expectations(problem: Problem, noted: Noted, partitions: Sequence[str] | None = None) -> list[Expected]:
    """Have Great Expectations evaluate every rule on up to `BAD_ROWS` bad rows and up to `expectation_rows` good ones.

    The rows are chosen by a hash of their key, so that a repeated run chooses the same; with `partitions` of theirs.

    Raises:
        DataError: its verdict on a row is not DuckDB's; the message names the rule and the rows.
    """
    query, checks = noted.query, noted.rules
    with sql.connection({"noted": noted.rows}) as database:
        within = "true" if partitions is None else among(partitions)
        bad, longest = database.sql(
            f"SELECT count(*) FILTER (NOT _good), {_longest(problem, query)} FROM noted WHERE {within}"
        ).fetchall()[0]
        most = max(1, FRAME_BYTES // longest)
        # Nearly as many of the bad rows as are wanted pass by, not all: few have to be sorted, or even made.
        share = SPARE * min(most, BAD_ROWS) / max(bad, 1)
        # Long rows of one key are too many together.
        chance = drawn(sql.quote(problem.key) if most >= BAD_ROWS else "number")
        database.execute(f"""
            CREATE TEMP TABLE _likely AS SELECT * EXCLUDE (raw) FROM noted
            WHERE {within} AND (_good OR {chance} <= {share!r} OR number < {FIRST})
        """)
        rows = database.sql(_chosen(problem, query, checks, most)).to_arrow_table()
    if not rows.num_rows:
        return []
    frame = _frame(_plain(rows.select([name for name in rows.column_names if not name.startswith(OURS)])))
    asked = [
        Asked(
            check.name,
            check.expectation or "expect_column_values_to_be_in_set",
            check.arguments if check.expectation else {"column": f"_fulfilled_{n}", "value_set": [True]},
        )
        for n, check in enumerate(checks)
    ]
    types = [
        Asked(
            f"{name}: of type {kind}",
            "expect_column_values_to_be_of_type",
            {"column": name, "type_": PANDAS_TYPES[kind]},
        )
        for name, kind in declared(problem, query).items()
        if kind in PANDAS_TYPES
    ]
    results = _results(frame, [*asked, *types])
    expected = []
    for n, check in enumerate(checks):
        by_duckdb, compared = (
            rows[f"{prefix}_{n}"].to_numpy(zero_copy_only=False) for prefix in ("_broken", "_compared")
        )
        by_gx = np.zeros(rows.num_rows, bool)
        by_gx[results[check.name].unexpected] = True
        apart = np.flatnonzero(compared & (by_duckdb != by_gx))
        if apart.size:
            keys = [str(key) for key in rows[problem.key].take(apart[:10]).to_pylist()]
            raise DataError(
                f"rule {check.name!r}: DuckDB finds {int((by_duckdb & compared).sum())} rows broken, Great "
                f"Expectations {int((by_gx & compared).sum())}; they differ "
                f"on {apart.size}, {problem.key} {some(keys)}",
                where=f"{query}, {check.expectation or check.broken}",
                cure="nothing was published: the two have to mean the same; report it with the rule and these rows",
            )
        broken = np.flatnonzero(by_gx & compared)
        shown = rows[_shown_column(problem, check)].take(broken[:EXAMPLES]).to_pylist()
        expected.append(
            Expected(
                check.name,
                asked[n].expectation,
                int(compared.sum()),
                broken.size,
                tuple(cut(str(value), SHOWN_CHARACTERS) for value in shown),
            )
        )
    for name, kind, arguments in types:
        if not results[name].success:
            raise DataError(
                f"{name} is what the problem declares, and Great Expectations finds {results[name].observed}",
                where=f"{query}, column {arguments['column']}",
                cure="clear the run from extract on: it was staged before the type was changed",
            )
        expected.append(Expected(name, kind, rows.num_rows, 0, ()))
    return expected


def batch_expectations(checked: Sequence[BatchRule]) -> list[Expected]:
    """Have Great Expectations evaluate the batch rules on one row for each partition.

    Raises:
        DataError: it finds other partitions broken than were found.
    """
    import pandas as pd

    keys = sorted({key for rule in checked for key in rule.observed})
    if not keys:
        return []
    # What has to be there and is not lies beyond every bound; other missing values are not evaluated.
    values = {
        f"_{n}": [
            np.inf
            if key in rule.observed and rule.observed[key] is None and rule.is_required
            else rule.observed.get(key)
            for key in keys
        ]
        for n, rule in enumerate(checked)
    }
    frame = pd.DataFrame(values, dtype="float64")
    kind = "expect_column_values_to_be_between"
    results = _results(
        frame,
        [
            Asked(rule.name, kind, {"column": f"_{n}", "min_value": rule.min, "max_value": rule.max})
            for n, rule in enumerate(checked)
        ],
    )
    expected = []
    for n, rule in enumerate(checked):
        failed = [keys[place] for place in results[rule.name].unexpected]
        if sorted(failed) != sorted(rule.failed):
            raise DataError(
                f"rule {rule.name!r}: broken by {some(rule.failed) or 'none'}, and for Great Expectations by "
                f"{some(failed) or 'none'}",
                where=kind,
                cure="nothing was published: the two have to mean the same; report it with the rule and the numbers",
            )
        evaluated = int(frame[f"_{n}"].notna().sum())
        examples = tuple(f"{key}: {rule.observed[key]}" for key in failed[:EXAMPLES])
        expected.append(Expected(rule.name, kind, evaluated, len(failed), examples))
    return expected


def _longest(problem: Problem, query: Query) -> str:
    """SQL for how long the texts of a row are at most, about, in bytes."""
    return " + ".join(["1", *(f"coalesce(max(strlen({sql.quote(name)})), 0)" for name in texts(problem, query))])


def _chosen(problem: Problem, query: Query, checks: Sequence[Rule], most: int) -> str:
    """SQL over `_likely`: the rows to evaluate, `most` of the good ones and of the bad ones, the columns that
    expectations name, and DuckDB's verdicts on them."""
    key, limit = sql.quote(problem.key), min(most, problem.validation.expectation_rows)
    unique = unique_columns(problem, query)
    once = "CASE WHEN {key} IS NULL OR row_number() OVER (PARTITION BY {key}, {name}) = 1 THEN {name} END AS _once_{to}"
    derived = [once.format(key=key, name=sql.quote(name), to=name) for name in unique]
    derived += ["CASE WHEN NOT _later THEN known_time END AS _first_known_time"]
    verdicts = [
        f"coalesce({check.broken}, false) AS _broken_{n}" if check.is_fault else f"_broken_{n}"
        for n, check in enumerate(checks)
    ]
    fulfilled = [f"NOT _broken_{n} AS _fulfilled_{n}" for n, check in enumerate(checks) if not check.expectation]
    compared = [f"coalesce({_compared(n, check)}, false) AS _compared_{n}" for n, check in enumerate(checks)]
    columns = [*map(sql.quote, declared(problem, query)), "_first_known_time", *(f"_once_{name}" for name in unique)]
    return f"""
        WITH chosen AS (
            (SELECT * FROM _likely WHERE NOT _good ORDER BY {drawn(key)}, known_time LIMIT {min(most, BAD_ROWS)})
            UNION ALL (SELECT * FROM _likely WHERE _good ORDER BY {drawn(key)}, known_time LIMIT {limit})
        ),
        derived AS (SELECT *, {", ".join(derived)} FROM chosen),
        verdicts AS (SELECT {", ".join([*columns, *verdicts, *compared])} FROM derived)
        SELECT *, {", ".join(fulfilled)} FROM verdicts ORDER BY hash({key}), known_time
    """


def _compared(number: int, rule: Rule) -> str:
    """SQL: whether the two have to agree on a row, of those that were chosen."""
    if not rule.among:
        return rule.compared
    others = f"count(*) OVER (PARTITION BY {', '.join(map(sql.quote, rule.among))}) > 1"
    return f"({rule.compared}) AND (NOT _broken_{number} OR {others})"


def _shown_column(problem: Problem, rule: Rule) -> str:
    """The column whose values show how a rule was broken; the key where that is no single one."""
    return str(rule.arguments.get("column", rule.arguments.get("column_B", problem.key)))


def _plain(rows: pa.Table) -> pa.Table:
    """Without lists of numbers, of which no expectation knows anything: DuckDB's verdicts on them are there."""
    names = [field.name for field in rows.schema if not pa.types.is_list(field.type) or field.name == FAULTS]
    return rows.select(names)


def _frame(rows: pa.Table) -> pd.DataFrame:
    """Arrow rows for pandas without a loss: its own integers and booleans know no missing value."""
    import pandas as pd

    types = {pa.int64(): pd.Int64Dtype(), pa.int8(): pd.Int8Dtype(), pa.bool_(): pd.BooleanDtype()}
    frame: pd.DataFrame = rows.to_pandas(types_mapper=types.get)
    return frame


@cache
def _whole_frame(process: int) -> BatchDefinition[Any]:
    """What Great Expectations takes a data frame as, in a context of its own: made once in a process, of this id."""
    import great_expectations as gx
    from great_expectations.data_context.types.base import (
        DataContextConfig,
        InMemoryStoreBackendDefaults,
        ProgressBarsConfig,
    )

    defaults = InMemoryStoreBackendDefaults(init_temp_docs_sites=False)  # it would leave a folder in /tmp
    context = gx.get_context(mode="ephemeral", project_config=DataContextConfig(store_backend_defaults=defaults))
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    asset = context.data_sources.add_pandas("rows").add_dataframe_asset("rows")
    return asset.add_batch_definition_whole_dataframe("all")


class _Result(NamedTuple):
    """What Great Expectations found of a rule."""

    success: bool
    unexpected: list[int]
    """Places of the rows that break it."""
    observed: Any
    """The value that was found, of a rule on a whole column."""


def _results(frame: pd.DataFrame, checks: Sequence[Asked]) -> dict[str, _Result]:
    """Great Expectations' result for each rule, by name."""
    import great_expectations as gx
    from great_expectations.expectations.registry import get_expectation_impl

    batch = _whole_frame(os.getpid())
    suite = gx.ExpectationSuite(
        name="rules",
        expectations=[get_expectation_impl(kind)(**arguments, meta={"rule": name}) for name, kind, arguments in checks],
    )
    by_rule = {}
    for outcome in batch.get_batch({"dataframe": frame}).validate(suite, result_format="COMPLETE").results:
        rule = outcome.expectation_config.meta["rule"]
        info = outcome.exception_info  # of the rule, or of each of the metrics it is made of
        raised = [part for part in (info, *info.values()) if isinstance(part, dict) and part.get("raised_exception")]
        if raised:
            raise DataError(
                f"rule {rule!r} could not be checked: {raised[0]['exception_message']}",
                cure="compare the column's declared type with its rule in problem.yaml",
            )
        details = outcome.result
        unexpected = details.get("unexpected_index_list") or []
        by_rule[rule] = _Result(bool(outcome.success), unexpected, details.get("observed_value"))
    return by_rule
