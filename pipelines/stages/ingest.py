"""`<problem>.ingest`: extract -> validate -> publish, for one partition or a range of them at once."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import chain
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from pipelines import quarantine, sql, store
from pipelines.artifacts import table_schema
from pipelines.clock import present
from pipelines.errors import ConfigError, DataError
from pipelines.ingest.extract import extract as extract_rows
from pipelines.ingest.extract import extracted_schema
from pipelines.problem import Problem, Query, load_problem

if TYPE_CHECKING:
    import pyarrow.dataset as ds

    from pipelines.ingest.batch import BatchRule

NUMBERS = pa.schema([("number", pa.int64())])
REFUSED = "ingest.validate"  # who holds the partitions of a refused batch
SHOWN_ROWS = 1_000  # of the rows set aside, when the batch is too bad to publish


def extract(problem: str, first: str, last: str, now: datetime | None = None) -> dict[str, Any]:
    """Stage the rows of the partitions `first` to `last`, as they come, and those that a source could not give.

    `now`: what time it is; None: what the clock says.
    Result: {"first", "last", "events": rows, "labels": rows, "rejected": rows, "sources": {name: {"rows",
    "rejected"}}}.

    Raises:
        ConfigError: `first` and `last` name no partitions, or the last has not closed yet.
    """
    from pipelines.ingest.quarantine import from_sources
    from pipelines.ingest.sources import opened

    config = load_problem(problem)
    if not config.partitions.between(first, last):
        raise ConfigError(f"{first} comes after {last}", where="first and last", cure="swap them")
    config.partitions.require_closed(last, now or datetime.now(UTC))
    staging = _staging(config, first, last)
    store.begin(staging)
    rows: dict[str, Any] = {"events": 0, "labels": 0}
    with opened(config, first, last) as sources:
        for query in config.queries:
            batches = extract_rows(config, query, sources.database, first, last)
            rows[query] = store.stage(f"{staging}/{query}", batches, extracted_schema(config, query))
        rejected = from_sources(config, sources.rejected(), first)
        counts = {name: {"rows": one.rows, "rejected": one.rejected} for name, one in sources.counts.items()}
    store.stage(f"{staging}/rejected", rejected, rejected.schema)
    return {"first": first, "last": last, **rows, "rejected": rejected.num_rows, "sources": counts}


def validate(problem: str, extracted: dict[str, Any]) -> dict[str, Any]:
    """Part the staged rows into good ones and ones to set aside; a batch that is too bad fails here.

    A page with every rule and what broke it is kept either way. Partitions of a batch that is refused, and of which
    nothing was published before, are held (`quarantine.hold`) until a delivery is good enough. Result: what `extract`
    gave, and {"quarantined": rows, "repaired": rows, "moved": rows that were repaired into another partition, "rules":
    {rule: rows}, "page": URI}.

    Raises:
        DataError: too many bad rows, or a rule of the whole batch is broken; nothing is published.
    """
    from pipelines.ingest.batch import batch_rules, check_batch, check_sources
    from pipelines.ingest.expectations import batch_expectations, expectations
    from pipelines.ingest.quarantine import apply_repairs
    from pipelines.ingest.shape import check_shape
    from pipelines.ingest.validate import bad_rows, part, summary
    from pipelines.ingest.validation_page import Verdict, validation_page

    config = load_problem(problem)
    first, last = extracted["first"], extracted["last"]
    staging, keys = _staging(config, first, last), config.partitions.between(first, last)
    aside = [store.staged(f"{staging}/rejected").to_table()]
    verdicts, failure, repaired, moved = [], None, 0, 0
    for query in config.queries:
        staged = store.staged(f"{staging}/{query}")
        counted = summary(config, query, staged, keys)
        rules = batch_rules(config, counted, _trailing(config, first) if query == "events" else [])
        found = Verdict(counted, rules)
        try:
            check_sources(config, extracted["sources"], f"{staging}/rejected")
            check_batch(config, counted, rules, f"{staging}/quarantine")
            bad, numbers = part(config, query, staged)
            store.stage(f"{staging}/{query}.bad", pa.table({"number": numbers}), NUMBERS)
            shaped = _shape_rules(config, query, first, staged.filter(~pc.field("number").isin(numbers)))
            found = Verdict(counted, [*rules, *shaped])
            check_shape(config, query, shaped)
            # Shapes have limits that no one declared: there is nothing that Great Expectations could hold them to.
            expected = [*expectations(config, query, staged), *batch_expectations(rules)]
            found = Verdict(counted, [*rules, *shaped], expected)
            bad, mended = apply_repairs(config, query, bad, quarantine.repairs(config, query))
            is_ours = pc.is_in(mended["partition"], pa.array(keys, pa.string()))
            moved += pc.sum(pc.invert(is_ours), min_count=0).as_py()
            mended = mended.filter(is_ours)
            store.stage(f"{staging}/{query}.repaired", mended, mended.schema)
            repaired += mended.num_rows
        except DataError as error:
            failure, bad = failure or error, bad_rows(config, query, staged, limit=SHOWN_ROWS)
        aside.append(bad)
        verdicts.append(found)
    set_aside = pa.concat_tables(aside)
    store.stage(f"{staging}/quarantine", set_aside, table_schema(config, "quarantine"))
    page = store.write_bytes(
        store.store_uri(config.name, "reports", f"{first}_{last}", "validation.html"),
        validation_page(config, first, last, extracted["sources"], verdicts, set_aside, str(failure or "")),
    )
    if failure:
        unpublished = sorted(set(keys) - set(store.partition_keys(config, "events")))
        quarantine.hold_all(config, unpublished, failure.what, {"by": REFUSED, "page": page})
        raise failure
    rules_broken = {
        f"{one.query}: {rule}": count for one in verdicts for rule, count in one.summary.broken.items() if count
    }
    return {**extracted, "quarantined": set_aside.num_rows, "repaired": repaired, "moved": moved,
            "rules": rules_broken, "page": page}  # fmt: skip


def publish(problem: str, validated: dict[str, Any], restate: bool = False) -> dict[str, Any]:
    """Commit the staged rows to their tables, events last: whoever sees events sees their labels too.

    What differs from an earlier delivery of the partitions is a correction, known from now on; with `restate` the
    delivery is taken as if it were the first. Result: {"first", "last", "events", "labels", "quarantined": rows
    published, "new", "unchanged", "corrected", "withdrawn", "returned": events, "events_version": int}.
    """
    from pipelines.ingest.publish import changes, check_accounts, event_statements, natural_label_statements

    config = load_problem(problem)
    first, last = validated["first"], validated["last"]
    keys = config.partitions.between(first, last)
    staging = _staging(config, first, last)
    if done := store.finished(staging):
        return done
    delivered = {query: _delivered(config, query, staging) for query in config.queries}
    counts: dict[str, int] = {query: rows.count_rows() for query, rows in delivered.items()}
    set_aside = store.staged(f"{staging}/quarantine").to_table()
    read = validated["events"] + validated["labels"] + validated["rejected"] - validated["moved"]
    check_accounts(read, sum(counts.values()), set_aside.num_rows)
    is_ours = sql.is_among("partition", keys)
    before = {query: store.dataset(config, query).filter(is_ours) for query in config.queries}
    ingested = sorted(set(keys) & set(store.partition_keys(config, "events")))
    now = present(config, last)
    if "labels" in delivered:
        told = before["labels"].filter(pc.field("source") == "natural")
        stated = natural_label_statements(config, told, delivered["labels"], now, ingested=ingested, restate=restate)
        store.write_table(config, "labels", stated, keys, within="natural")
    store.write_table(config, "quarantine", set_aside, keys)
    stated = event_statements(config, before["events"], delivered["events"], now, restate=restate)
    version = store.write_table(config, "events", stated, keys)
    changed = changes(config, "events", before["events"], store.dataset(config, "events", version).filter(is_ours))
    result: dict[str, Any] = {"first": first, "last": last, **counts, "quarantined": set_aside.num_rows, **changed,
              "events_version": version}  # fmt: skip
    refused = {row["partition"] for row in quarantine.holds(config) if row["evidence"].get("by") == REFUSED}
    quarantine.readmit_all(config, sorted(refused & set(keys)), "a later delivery passed the rules")
    return store.finish(staging, result)


def _delivered(config: Problem, query: Query, staging: str) -> ds.Dataset:
    """The good rows of a query, and the repaired ones."""
    bad, repaired = (store.staged(f"{staging}/{query}.{part}").to_table() for part in ("bad", "repaired"))
    is_bad = pc.field("number").isin(bad["number"].combine_chunks())
    good = store.staged(f"{staging}/{query}").filter(~is_bad)
    if not repaired.num_rows:
        return good
    uri = f"{staging}/{query}.good"
    batches = chain(good.scanner(columns=repaired.schema.names).to_batches(), repaired.to_batches())
    store.stage(uri, batches, repaired.schema)
    return store.staged(uri)


def _trailing(config: Problem, first: str) -> list[int]:
    """How many events hold in each of the partitions before `first`, the oldest first; as many as a rule asks for."""
    if config.validation.volume is None:
        return []
    back = config.validation.volume.trailing_partitions
    keys = [key for key in store.partition_keys(config, "events") if key < first][-back:]
    holds = pc.is_null(pc.field("superseded_time")) & pc.is_null(pc.field("withdrawn_time"))
    events = store.dataset(config, "events")
    return [events.count_rows(filter=(pc.field("partition") == key) & holds) for key in keys]


def _shape_rules(config: Problem, query: Query, first: str, good: ds.Dataset) -> list[BatchRule]:
    """How the batch's good rows look beside the newest published partitions before it."""
    from pipelines.ingest.shape import shape_rules, shapes

    rule = config.validation.shape
    if rule is None:
        return []
    keys = [key for key in store.partition_keys(config, query) if key < first][-rule.trailing_partitions :]
    holds = pc.field("superseded_time").is_null() & pc.field("withdrawn_time").is_null()
    if query == "labels":
        holds &= pc.field("source") == "natural"
    published = store.dataset(config, query).filter(sql.is_among("partition", keys) & holds)
    return shape_rules(config, shapes(config, query, published), shapes(config, query, good))


def _staging(config: Problem, first: str, last: str) -> str:
    return store.store_uri(config.name, "staging", "ingest", f"{first}_{last}")
