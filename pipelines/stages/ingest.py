"""`<problem>.ingest`: extract -> validate -> publish, for one partition or a range of them at once."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from pipelines import quarantine, sql, store
from pipelines.artifacts import table_schema
from pipelines.asof.as_known import holds_now
from pipelines.asof.clock import present
from pipelines.asof.ingested import empty, ingested, note_empty
from pipelines.errors import ConfigError, DataError
from pipelines.ingest.extract import extract as extract_rows
from pipelines.ingest.extract import extracted_schema
from pipelines.problem import Problem, Query, load_problem
from pipelines.summary import missed, missed_in_words

if TYPE_CHECKING:
    import pyarrow.dataset as ds

    from pipelines.ingest.batch import BatchRule
    from pipelines.ingest.expectations import Expected
    from pipelines.ingest.validate import Summary

log = logging.getLogger(__name__)

SHOWN_ROWS = 1_000  # of the bad rows of partitions that are too bad to publish


def extract(problem: str, first: str, last: str, now: datetime | None = None) -> dict[str, Any]:
    """Stage the rows of the partitions `first` to `last`, as they come, and those that a source could not give.

    Rows that came after one of the partitions before was ingested are looked for in `validation.lookback_partitions`
    of them. `now`: what time it is; None: what the clock says. Result: {"first", "last", "events": rows, "labels":
    rows, "rejected": rows, "late": rows of both that came late, "outside_of": {query: {"before", "after", "open": rows
    outside of the problem's time, and of partitions that have not ended}}, "read": all of these rows, counted a second
    time, "sources": {name: {"rows", "rejected"}}}.

    Raises:
        ConfigError: `first` and `last` name no partitions, or the last has not closed yet.
        DataError: a partition before is delivered under other keys.
    """
    from pipelines.ingest.quarantine import from_sources
    from pipelines.ingest.sources import opened
    from pipelines.stages import arrivals

    config = load_problem(problem)
    keys = config.partitions.between(first, last)
    if not keys:
        raise ConfigError(f"{first} comes after {last}", where="first and last", cure="swap them")
    now = now or datetime.now(UTC)
    config.partitions.require_closed(last, now)
    staging = _staging(config, first, last)
    store.begin(staging)
    back = arrivals.looked_back(config, first)
    rows: dict[str, Any] = {"events": 0, "labels": 0}
    seen = {}
    with opened(config, *arrivals.span_read(config, keys, back)) as sources:
        for query in config.queries:
            batches = extract_rows(config, query, sources.database, first, last)
            rows[query] = store.stage(f"{staging}/{query}", batches, extracted_schema(config, query))
            seen[query] = arrivals.see(config, query, sources.database, keys, back, staging, now)
        rejected = from_sources(config, sources.rejected(), first)
        counts = {name: {"rows": one.rows, "rejected": one.rejected} for name, one in sources.counts.items()}
    rejected = arrivals.first_rejected(config, rejected, keys)
    store.stage(f"{staging}/rejected", rejected, rejected.schema)
    return {
        "first": first,
        "last": last,
        **rows,
        "rejected": rejected.num_rows,
        "late": sum(one.late for one in seen.values()),
        "outside_of": {query: one.outside._asdict() for query, one in seen.items()},
        "read": sum(one.read for one in seen.values()) + rejected.num_rows,
        "sources": counts,
    }


def validate(problem: str, extracted: dict[str, Any]) -> dict[str, Any]:
    """Part the staged rows into good ones and ones to set aside, and refuse the partitions that are too bad.

    Partitions are judged in time order, each against those before it, published or of this run; the good ones of a
    run go on without the refused ones. A page with every rule and what broke it is kept either way. Refused
    partitions of which nothing was published before are held (`quarantine.hold`) until a delivery is good enough.
    Result: what `extract` gave, and {"quarantined": rows set aside, "held": those of them in refused partitions,
    "refused": the keys of these, "repaired": rows, "moved": rows that were repaired into another partition, "rules":
    {rule: rows}, "page": URI}, where partitions are refused with "verdict" and "reason".

    Raises:
        DataError: no partition is good enough, more are refused than validation.max_refused_share allows, or a
            source could not be read; nothing is published.
    """
    from pipelines.ingest.batch import batch_refusals, batch_rules, check_refusals, check_sources, reasons
    from pipelines.ingest.expectations import batch_expectations
    from pipelines.ingest.shape import shape_refusals
    from pipelines.ingest.validate import bad_numbers, bad_rows, summary
    from pipelines.ingest.validation_page import Verdict, validation_page
    from pipelines.stages import arrivals

    config = load_problem(problem)
    first, last = extracted["first"], extracted["last"]
    staging, keys = _staging(config, first, last), config.partitions.between(first, last)
    rejected = store.staged(f"{staging}/rejected").to_table()
    published = set(store.partition_keys(config, "events"))
    around = arrivals.neighbours(config, keys, staging, published)
    store.stage(f"{staging}/elsewhere", around, around.schema)
    verdicts, refusals, orphans = [], [], None
    for query in config.queries:
        staged, elsewhere = store.staged(f"{staging}/{query}"), arrivals.elsewhere(query, around)
        counted = summary(config, query, staged, keys, elsewhere)
        rules = batch_rules(
            config,
            counted,
            _trailing(config, first) if query == "events" else [],
            may_be_empty=query == "events" and _may_be_empty(config, keys, counted),
        )
        refusals += batch_refusals(config, counted, rules, f"{staging}/refused")
        numbers = bad_numbers(config, query, staged, elsewhere=elsewhere) if counted.bad else pa.array([], pa.int64())
        store.stage(f"{staging}/{query}.bad", pa.table({"number": numbers}), arrivals.NUMBERS)
        good = staged.filter(~pc.field("number").isin(numbers))
        shaped = _shape_rules(config, query, first, good, {one.partition for one in refusals})
        refusals += shape_refusals(config, query, shaped)
        verdicts.append(Verdict(counted, rules, shaped))
    refused = reasons(refusals)
    kept = [key for key in keys if key not in refused]
    failure, parted, bad, bad_late = None, [], [], []
    try:
        check_sources(config, extracted["sources"], f"{staging}/rejected")
        check_refusals(config, keys, refusals)
        # A row that a source could not give belongs to no partition: it stands with the first that is published.
        stand_with = pa.array([kept[0]] * rejected.num_rows, pa.string())
        rejected = rejected.set_column(0, rejected.schema.field("partition"), stand_with)
        parted = [_parted(config, verdict.summary, staging, kept, around) for verdict in verdicts]
        bad = [one.bad for one in parted]
        bad_late = [
            arrivals.part_late(config, query, staging, arrivals.elsewhere(query, around)) for query in config.queries
        ]
        verdicts = [
            replace(verdict, expected=[*one.expected, *batch_expectations(verdict.declared)])
            for verdict, one in zip(verdicts, parted, strict=True)
        ]
        if "labels" in config.queries:
            orphans = arrivals.labels_without_event(config, kept, staging)
            arrivals.check_orphans(config, orphans)
    except DataError as error:
        failure = error
    set_aside = pa.concat_tables([rejected, *bad, *bad_late])
    store.stage(f"{staging}/quarantine", set_aside, table_schema(config, "quarantine"))
    lost = keys if failure else [*refused]
    samples = [
        bad_rows(
            config, query, store.staged(f"{staging}/{query}"), SHOWN_ROWS, (), lost, arrivals.elsewhere(query, around)
        )
        for query in (config.queries if lost else ())
    ]
    sample = pa.concat_tables([set_aside.slice(0, 0), *samples])
    store.stage(f"{staging}/refused", sample, sample.schema)
    shown = pa.concat_tables([sample, set_aside])
    late = extracted["late"] - sum(rows.num_rows for rows in bad_late)
    beside = arrivals.in_words(config, late, extracted["outside_of"], orphans)
    page = store.write_bytes(
        store.store_uri(config.name, "reports", f"{first}_{last}", "validation.html"),
        validation_page(
            config, first, last, extracted["sources"], verdicts, shown, refused, beside, str(failure or "")
        ),
    )
    held = {key: "; ".join(found) for key, found in refused.items()}
    if failure and len(keys) == 1:
        held = {first: failure.what}
    held = {key: reason for key, reason in held.items() if key not in published}
    quarantine.hold_all(config, held, {"by": quarantine.REFUSED, "page": page})
    if failure:
        raise failure
    in_refused = sum(verdict.summary.rows_in(refused) for verdict in verdicts)
    broken = {f"{one.query}: {rule}": count for one in verdicts for rule, count in one.summary.broken.items() if count}
    result = {
        **extracted,
        "quarantined": set_aside.num_rows + in_refused,
        "held": in_refused,
        "refused": [*refused],
        "repaired": sum(one.repaired for one in parted),
        "moved": sum(one.moved for one in parted),
        "labels_without_event": orphans.without_event if orphans else 0,
        "beside": beside,
        "rules": broken,
        "page": page,
    }
    return result | (_held_back(refused, keys, published) if refused else {})


def publish(problem: str, validated: dict[str, Any], restate: bool = False) -> dict[str, Any]:
    """Commit the staged rows of the good partitions, events last: whoever sees events sees their labels too.

    What differs from an earlier delivery of the partitions is a correction, known from now on; with `restate` the
    delivery is taken as if it were the first. Rows that came late are stated in the partitions that they belong to,
    known from now on. Result: {"first", "last", "events", "labels": rows published, "late": rows that came late,
    "outside": rows outside of the problem's time, and of partitions that have not ended ("outside_of" says which),
    "quarantined": all others, "held": those of them in refused partitions, "refused": the keys of these,
    "labels_without_event": labels, "empty": partitions without any event, "new", "unchanged", "corrected",
    "withdrawn", "returned": events of the run's partitions, "events_version": int, "line": all of it in a line}, and
    "verdict" and "reason" where `validate` gave them, or earlier partitions were missed.

    Raises:
        DataError: the rows that were read do not add up to those that went somewhere.
    """
    from pipelines.ingest.publish import changes, check_accounts, event_statements, natural_label_statements
    from pipelines.stages import arrivals

    config = load_problem(problem)
    first, last = validated["first"], validated["last"]
    keys = [key for key in config.partitions.between(first, last) if key not in validated["refused"]]
    staging = _staging(config, first, last)
    if done := store.finished(staging):
        return done
    good = {query: _delivered(config, query, staging, keys) for query in config.queries}
    came_late = {query: arrivals.good_late(config, query, staging) for query in config.queries}
    counts: dict[str, int] = {query: rows.count_rows() for query, rows in good.items()}
    late = sum(rows.num_rows for rows in came_late.values())
    outside = sum(rows for of_query in validated["outside_of"].values() for rows in of_query.values())
    set_aside = store.staged(f"{staging}/quarantine").to_table()
    check_accounts(
        validated["read"] - validated["moved"],
        published=sum(counts.values()),
        quarantined=set_aside.num_rows + validated["held"],
        late=late,
        outside=outside,
    )
    # Partitions beside the run's own in which something changes: late rows, and events that moved away from there.
    beside = {query: set(rows["partition"].to_pylist()) for query, rows in came_late.items()}
    beside["events"] |= arrivals.moved_from(config, good["events"], came_late["events"], staging)
    written = {query: sorted({*keys, *beside[query]}) for query in config.queries}
    delivered = {
        query: arrivals.with_late(config, query, rows, came_late[query], sorted(beside[query] - set(keys)), staging)
        for query, rows in good.items()
    }
    before = {
        query: store.dataset(config, query).filter(sql.is_among("partition", written[query]))
        for query in config.queries
    }
    restated = keys if restate else ()
    now = present(config, last)
    known = set(ingested(config))
    if "labels" in delivered:
        natural = before["labels"].filter(pc.field("source") == "natural")
        stated = natural_label_statements(
            config, natural, delivered["labels"], now, ingested=known & set(written["labels"]), restated=restated
        )
        store.write_table(config, "labels", stated, written["labels"], within="natural")
    store.write_table(config, "quarantine", *arrivals.quarantined(config, set_aside, keys))
    stated = event_statements(
        config,
        before["events"],
        delivered["events"],
        now,
        ingested=known & set(written["events"]),
        restated=restated,
    )
    version = store.write_table(config, "events", stated, written["events"])
    is_ours = sql.is_among("partition", keys)
    after = store.dataset(config, "events", version).filter(is_ours)
    without_events = sorted(set(keys) - set(store.partition_keys(config, "events")))
    note_empty(config, without_events)
    if without_events:
        log.info("published empty: %s", config.partitions.spans(without_events))
    changed = changes(config, "events", before["events"].filter(is_ours), after)
    told: dict[str, Any] = {
        name: validated[name]
        for name in ("quarantined", "held", "refused", "labels_without_event", "verdict", "reason")
        if name in validated
    }
    result: dict[str, Any] = {
        "first": first,
        "last": last,
        **counts,
        "late": late,
        "outside": outside,
        **told,
        "empty": len(without_events),
        **changed,
        "outside_of": validated["outside_of"],
        "events_version": version,
        "line": ", ".join([f"{counts['events']:,} events published", *validated["beside"]]),
    }
    refused = {row["partition"] for row in quarantine.holds(config) if row["evidence"].get("by") == quarantine.REFUSED}
    quarantine.readmit_all(config, sorted(refused & set(keys)), "a later delivery passed the rules")
    before_these = [key for key in missed(config, datetime.now(UTC), known.union(keys)) if key < last]
    if left_out := missed_in_words(config, before_these):
        log.warning("%s", left_out)
        said = [result[name] for name in ("verdict", "reason") if name in result]
        verdict, reason = said or ("", "")
        result["verdict"] = f"{verdict}; partitions were missed" if verdict else "partitions were missed"
        result["reason"] = f"{reason}\n{left_out}" if reason else left_out
    return store.finish(staging, result)


class _Parted(NamedTuple):
    """What validation makes of the rows of one query in the partitions that are not refused."""

    bad: pa.Table
    """Rows to set aside, shaped like the table `quarantine`."""
    repaired: int
    moved: int
    """Rows that were repaired into a partition that this run does not publish."""
    expected: Sequence[Expected]


def _parted(config: Problem, counted: Summary, staging: str, kept: list[str], around: pa.Table) -> _Parted:
    from pipelines.ingest.expectations import expectations
    from pipelines.ingest.quarantine import apply_repairs
    from pipelines.ingest.validate import bad_rows
    from pipelines.stages import arrivals

    query = counted.query
    elsewhere = arrivals.elsewhere(query, around)
    staged = store.staged(f"{staging}/{query}")
    # Shapes have limits that no one declared: there is nothing that Great Expectations could hold them to.
    expected = expectations(config, query, staged.filter(sql.is_among("partition", kept)), elsewhere)
    bad = table_schema(config, "quarantine").empty_table()
    if counted.bad:
        bad = bad_rows(config, query, staged, partitions=kept, elsewhere=elsewhere)
    bad, mended = apply_repairs(config, query, bad, quarantine.repairs(config, query))
    is_kept = pc.is_in(mended["partition"], pa.array(kept, pa.string()))
    moved = pc.sum(pc.invert(is_kept), min_count=0).as_py()
    mended = mended.filter(is_kept)
    store.stage(f"{staging}/{query}.repaired", mended, mended.schema)
    return _Parted(bad, mended.num_rows, moved, expected)


def _held_back(refused: Mapping[str, Sequence[str]], keys: Sequence[str], published: Collection[str]) -> dict[str, str]:
    """The run's verdict and reason, where it goes on without some of its partitions."""
    from pipelines.ingest.batch import summed_up
    from pipelines.ingest.validate import some

    stays = sorted(set(refused) & set(published))
    lines = [
        summed_up(refused),
        *([f"Of {some(stays)} what was published before stays as it is."] if stays else []),
        "next: mend the source and ingest them again. Where the world has changed and the feed is sound, name them "
        "under validation.shape.accepted, or what says nothing here under validation.shape.ignore, then ingest them.",
    ]
    return {"verdict": f"{len(refused)} of {len(keys)} partitions refused, and held", "reason": "\n".join(lines)}


def _delivered(config: Problem, query: Query, staging: str, keys: Sequence[str]) -> ds.Dataset:
    """The good rows of a query in the partitions `keys`, and the repaired ones."""
    bad, repaired = (store.staged(f"{staging}/{query}.{part}").to_table() for part in ("bad", "repaired"))
    is_bad = pc.field("number").isin(bad["number"].combine_chunks())
    good = store.staged(f"{staging}/{query}").filter(~is_bad & sql.is_among("partition", keys))
    if not repaired.num_rows:
        return good
    uri = f"{staging}/{query}.good"
    batches = chain(good.scanner(columns=repaired.schema.names).to_batches(), repaired.to_batches())
    store.stage(uri, batches, repaired.schema)
    return store.staged(uri)


def _may_be_empty(config: Problem, keys: list[str], counted: Summary) -> bool:
    """Whether partitions of a batch may be without any row: as problem.yaml, the batch or the past says."""
    from pipelines.ingest.batch import may_be_empty

    if may_be_empty(config, keys, counted.rows - counted.bad):
        return True
    is_asked = config.validation.allow_empty is None and 0 in counted.partitions["rows"].to_pylist()
    return is_asked and any(key < keys[0] for key in empty(config))


def _trailing(config: Problem, first: str) -> list[int]:
    """How many events hold in each of the partitions before `first`, the oldest first; as many as a rule asks for."""
    if config.validation.volume is None:
        return []
    back = config.validation.volume.trailing_partitions
    keys = [key for key in store.partition_keys(config, "events") if key < first][-back:]
    events = store.dataset(config, "events")
    return [events.count_rows(filter=(pc.field("partition") == key) & holds_now()) for key in keys]


def _shape_rules(
    config: Problem, query: Query, first: str, good: ds.Dataset, refused: Collection[str] = ()
) -> list[BatchRule]:
    """How the batch's good rows look beside the newest published partitions before it, and its own not refused."""
    from pipelines.ingest.shape import shape_rules, shapes

    rule = config.validation.shape
    if rule is None:
        return []
    keys = [key for key in store.partition_keys(config, query) if key < first][-rule.trailing_partitions :]
    holds = holds_now()
    if query == "labels":
        holds &= pc.field("source") == "natural"
    published = store.dataset(config, query).filter(sql.is_among("partition", keys) & holds)
    return shape_rules(config, shapes(config, query, published), shapes(config, query, good), refused)


def _staging(config: Problem, first: str, last: str) -> str:
    return store.store_uri(config.name, "staging", "ingest", f"{first}_{last}")
