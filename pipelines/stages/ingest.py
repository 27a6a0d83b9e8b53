"""`<problem>.ingest`: extract -> validate -> publish, for one partition or a range of them at once."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from pipelines import store
from pipelines.artifacts import table_schema
from pipelines.errors import ConfigError
from pipelines.ingest.extract import Query, extracted_schema
from pipelines.ingest.extract import extract as extract_rows
from pipelines.problem import Problem, load_problem

QUERIES: tuple[Query, ...] = ("events", "labels")


def extract(problem: str, first: str, last: str) -> dict[str, Any]:
    """Stage the rows of the partitions `first` to `last`, as they come.

    Result: {"first", "last", "events": rows, "labels": rows}.
    """
    from pipelines.ingest.sources import read_sources

    config = load_problem(problem)
    if not config.partitions.between(first, last):
        raise ConfigError(f"{first} comes after {last}", where="first and last", cure="swap them")
    sources = read_sources(config)
    store.begin(_staging(config, first, last))
    rows: dict[str, Any] = {
        query: store.stage(
            _staging(config, first, last, f"{query}.parquet"),
            extract_rows(config, query, sources, first, last),
            extracted_schema(config, query),
        )
        for query in QUERIES
    }
    return {"first": first, "last": last, **rows}


def validate(problem: str, extracted: dict[str, Any]) -> dict[str, Any]:
    """Part the staged rows into good ones and ones to set aside; too many bad rows fail here.

    Result: what `extract` gave, and {"quarantined": rows, "rules": {rule: rows}}.
    """
    from pipelines.ingest.validate import check_share
    from pipelines.ingest.validate import validate as validate_rows

    config = load_problem(problem)
    first, last = extracted["first"], extracted["last"]
    found = {
        query: validate_rows(config, query, store.staged(_staging(config, first, last, f"{query}.parquet")).to_table())
        for query in QUERIES
    }
    for query, validated in found.items():
        store.stage(_staging(config, first, last, f"{query}.good.parquet"), validated.good, validated.good.schema)
    quarantine = pa.concat_tables([validated.bad for validated in found.values()])
    set_aside = _staging(config, first, last, "quarantine.parquet")
    store.stage(set_aside, quarantine, table_schema(config, "quarantine"))
    for query, validated in found.items():  # the rows are staged already: who has to mend them can look at them
        check_share(config, query, validated, config.partitions.between(first, last), set_aside)
    rules = {f"{query}: {rule}": count for query, one in found.items() for rule, count in one.broken.items()}
    return {**extracted, "quarantined": quarantine.num_rows, "rules": rules}


def publish(problem: str, validated: dict[str, Any]) -> dict[str, Any]:
    """Commit the staged rows to their tables, events last: whoever sees events sees their labels too.

    Result: {"first", "last", "events", "labels", "quarantined": rows published, "events_version": int}.
    """
    from pipelines.ingest.publish import check_accounts, statements

    config = load_problem(problem)
    first, last = validated["first"], validated["last"]
    keys = config.partitions.between(first, last)
    staging = _staging(config, first, last)
    if done := store.finished(staging):
        return done
    events, labels = (store.staged(_staging(config, first, last, f"{q}.good.parquet")).to_table() for q in QUERIES)
    quarantine = store.staged(_staging(config, first, last, "quarantine.parquet")).to_table()
    check_accounts(validated["events"] + validated["labels"], events.num_rows + labels.num_rows, quarantine.num_rows)
    store.write_table(config, "labels", statements(labels), keys)
    store.write_table(config, "quarantine", quarantine, keys)
    version = store.write_table(config, "events", events, keys)
    result = {"first": first, "last": last, "events": events.num_rows, "labels": labels.num_rows,
              "quarantined": quarantine.num_rows, "events_version": version}  # fmt: skip
    return store.finish(staging, result)


def _staging(config: Problem, first: str, last: str, *parts: str) -> str:
    return store.store_uri(config.name, "staging", "ingest", f"{first}_{last}", *parts)
