"""validate: hold extracted rows against the problem's rules; every bad row is set aside with all it broke.

The rules come from problem.yaml and the contract, and Great Expectations checks them.
"""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from pipelines import sql
from pipelines.artifacts import table_schema
from pipelines.errors import DataError
from pipelines.ingest.extract import Query
from pipelines.problem import Problem

if TYPE_CHECKING:
    import pandas as pd

os.environ["GX_ANALYTICS_ENABLED"] = "false"  # read when great_expectations is imported

Rule = tuple[str, str, dict[str, Any]]  # name for people, expectation type, its arguments


@dataclass(frozen=True)
class Validated:
    """`good` has the extracted columns less faults and raw; `bad` is shaped like the table `quarantine`."""

    good: pa.Table
    bad: pa.Table

    @property
    def broken(self) -> dict[str, int]:
        """Rows that broke each rule."""
        return dict(Counter(rule for rules in self.bad["rules"].to_pylist() for rule in rules).most_common())


def rules(problem: Problem, query: Query) -> list[Rule]:
    """What each row has to fulfil, derived from the contract and problem.yaml."""
    required = [problem.key, "event_time", "known_time"]
    required += ["label"] if query == "labels" else ["cutoff_time"]
    found: list[Rule] = []
    if query == "labels":
        found.append(
            ("label: not 0 or 1", "expect_column_values_to_be_in_set", {"column": "label", "value_set": [0, 1]})
        )
    else:
        found.append((f"{problem.key}: twice", "expect_column_values_to_be_unique", {"column": problem.key}))
        found.append((
            "known_time: after cutoff_time",
            "expect_column_pair_values_a_to_be_greater_than_b",
            {"column_A": "cutoff_time", "column_B": "known_time", "or_equal": True},
        ))  # fmt: skip
        for name, column in problem.columns.items():
            if not column.nullable:
                required.append(name)
            if column.min is not None or column.max is not None:
                low, high = ("" if bound is None else f"{bound:g}" for bound in (column.min, column.max))
                between = {"column": name, "min_value": column.min, "max_value": column.max}
                found.append((f"{name}: outside {low}..{high}", "expect_column_values_to_be_between", between))
            if column.allowed is not None:
                found.append((
                    f"{name}: not an allowed value",
                    "expect_column_values_to_be_in_set",
                    {"column": name, "value_set": column.allowed},
                ))  # fmt: skip
    missing: list[Rule] = [
        (f"{name}: missing", "expect_column_values_to_not_be_null", {"column": name}) for name in required
    ]
    return missing + found


def validate(problem: Problem, query: Query, rows: pa.Table) -> Validated:
    """Part rows into good and bad. `rows` are extracted rows of `query`; good + bad = rows, always."""
    frame = rows.drop_columns(["raw", "faults"]).to_pandas(date_as_object=False)
    broken: dict[int, list[str]] = {}
    faults = rows["faults"].combine_chunks()
    for index in pc.indices_nonzero(pc.greater(pc.list_value_length(faults), 0)).to_pylist():
        broken[index] = faults[index].as_py()
    for name, indices in _unexpected(frame, rules(problem, query)):
        column = name.split(":")[0]
        for index in indices:
            reasons = broken.setdefault(index, [])
            if not any(reason.startswith(f"{column}: not of type") for reason in reasons):  # already said, and better
                reasons.append(name)
    bad = sorted(broken)
    is_bad = pc.is_in(pa.array(range(rows.num_rows), pa.int64()), pa.array(bad, pa.int64()))
    set_aside = rows.take(pa.array(bad, pa.int64()))
    as_json = sql.query(
        "SELECT coalesce(raw, CAST(to_json(good) AS VARCHAR)) AS row FROM set_aside "
        "POSITIONAL JOIN (SELECT * EXCLUDE (raw, faults, partition) FROM set_aside) AS good",
        {"set_aside": set_aside},
    )
    quarantine = pa.table(
        {
            "partition": set_aside["partition"],
            "source": [query] * len(bad),
            "row": as_json["row"],
            "rules": [broken[index] for index in bad],
        },
        schema=table_schema(problem, "quarantine"),
    )
    return Validated(rows.filter(pc.invert(is_bad)).drop_columns(["raw", "faults"]), quarantine)


def check_share(problem: Problem, query: Query, validated: Validated, keys: list[str], set_aside: str) -> None:
    """Let no partition pass that is empty (of events), or of which too much had to be set aside.

    `set_aside` says where the bad rows can be looked at.

    Raises:
        DataError: with the partitions and the rules that were broken most.
    """
    good, bad = (Counter(table["partition"].to_pylist()) for table in (validated.good, validated.bad))
    limit = problem.validation.max_quarantined_share
    empty = [key for key in keys if not good[key] + bad[key]]
    if query == "events" and empty:
        raise DataError(
            f"no rows in {_some(empty)}",
            where=str(problem.folder / "events.sql"),
            cure="has the source been delivered? is the partition inside the problem's first and last?",
        )
    worst = {key: bad[key] / (good[key] + bad[key]) for key in keys if bad[key]}
    over = [f"{key} ({share:.1%} of {good[key] + bad[key]} rows)" for key, share in worst.items() if share > limit]
    if over:
        broken = "; ".join(f"{rule} ({count} rows)" for rule, count in list(validated.broken.items())[:5])
        raise DataError(
            f"too many bad {query} in {_some(over)}: at most {limit:.1%} may be set aside. Rules broken: {broken}",
            where=set_aside,
            cure="nothing was published: look at the rows there, mend the source or the rule, then clear this run",
        )


def _unexpected(frame: pd.DataFrame, checks: list[Rule]) -> list[tuple[str, list[int]]]:
    """Positions of the rows that break each rule; a rule that could not be evaluated is an error."""
    import great_expectations as gx
    from great_expectations.data_context.types.base import (
        DataContextConfig,
        InMemoryStoreBackendDefaults,
        ProgressBarsConfig,
    )
    from great_expectations.expectations.registry import get_expectation_impl

    defaults = InMemoryStoreBackendDefaults(init_temp_docs_sites=False)  # it would leave a folder in /tmp
    context = gx.get_context(mode="ephemeral", project_config=DataContextConfig(store_backend_defaults=defaults))
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    batch = (
        context.data_sources.add_pandas("rows").add_dataframe_asset("rows").add_batch_definition_whole_dataframe("all")
    )
    suite = gx.ExpectationSuite(
        name="rules",
        expectations=[get_expectation_impl(kind)(**arguments, meta={"rule": name}) for name, kind, arguments in checks],
    )
    results = batch.get_batch({"dataframe": frame}).validate(suite, result_format="COMPLETE").results
    found = []
    for result in results:
        rule = result.expectation_config.meta["rule"]
        if result.exception_info.get("raised_exception"):
            raise DataError(
                f"rule {rule!r} could not be checked: {result.exception_info['exception_message']}",
                cure="compare the column's declared type with its rule in problem.yaml",
            )
        indices = result.result.get("unexpected_index_list") or []
        found.append((rule, [int(index) for index in indices]))
    return found


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
