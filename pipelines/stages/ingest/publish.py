"""publish: the good rows are stated in the tables."""

from __future__ import annotations

import logging
from collections.abc import Collection
from datetime import UTC, datetime
from itertools import chain
from typing import TYPE_CHECKING

import pyarrow.compute as pc

from pipelines import deliveries, quarantine, sql, store
from pipelines.asof.clock import present
from pipelines.asof.ingested import ingested, note_empty
from pipelines.handoffs.config import problem_of
from pipelines.handoffs.ingestion import Published, Validated
from pipelines.paths import ingest_staging_uri
from pipelines.problem import Query
from pipelines.summary import missed, missed_in_words

if TYPE_CHECKING:
    import pyarrow.dataset as ds


log = logging.getLogger(__name__)


def publish(problem_name: str, validated: Validated, restate: bool = False) -> Published:
    """Commit the staged rows of the good partitions, events last: whoever sees events sees their labels too.

    What differs from an earlier delivery of the partitions is a correction, known from now on; with `restate` the
    delivery is taken as if it were the first. Rows that came late are stated in the partitions that they belong to,
    known from now on.

    Raises:
        DataError: the rows that were read do not add up to those that went somewhere.
    """
    from pipelines.ingest.publish import changes, check_accounts, event_statements, natural_label_statements
    from pipelines.stages.ingest import arrivals

    problem = problem_of(problem_name, validated)
    first, last = validated.first, validated.last
    keys = [key for key in problem.partitions.between(first, last) if key not in validated.refused]
    staging = ingest_staging_uri(problem, first, last)
    if done := store.finished(staging, Published):
        return done
    good = {query: _delivered(query, staging, validated.refused) for query in problem.queries}
    came_late = {query: arrivals.good_late(problem, query, staging) for query in problem.queries}
    counts: dict[str, int] = {query: rows.count_rows() for query, rows in good.items()}
    late = sum(rows.count_rows() for rows in came_late.values())
    outside = sum(rows for of_query in validated.outside_of.values() for rows in of_query.values())
    set_aside = store.staged(f"{staging}/quarantine")
    check_accounts(
        validated.read - validated.moved,
        published=sum(counts.values()),
        quarantined=set_aside.count_rows() + validated.held,
        late=late,
        outside=outside,
    )
    # Partitions beside the run's own in which something changes: late rows, and events that moved away from there.
    beside = {query: arrivals.partitions_of(rows) for query, rows in came_late.items()}
    beside["events"] |= arrivals.moved_from(problem, good["events"], came_late["events"], staging)
    written = {query: sorted({*keys, *beside[query]}) for query in problem.queries}
    delivered = {
        query: arrivals.with_late(problem, query, rows, came_late[query], sorted(beside[query] - set(keys)), staging)
        for query, rows in good.items()
    }
    before = {
        query: store.dataset(problem, query).filter(sql.is_among("partition", written[query]))
        for query in problem.queries
    }
    restated = keys if restate else ()
    now = present(problem, last)
    known = set(ingested(problem))
    if "labels" in delivered:
        natural = before["labels"].filter(pc.field("source") == "natural")
        stated = natural_label_statements(
            problem, natural, delivered["labels"], now, ingested=known & set(written["labels"]), restated=restated
        )
        store.write_table(problem, "labels", stated, written["labels"], within="natural")
    store.write_table(problem, "quarantine", *arrivals.quarantined(problem, set_aside, keys))
    stated = event_statements(
        problem,
        before["events"],
        delivered["events"],
        now,
        ingested=known & set(written["events"]),
        restated=restated,
    )
    version = store.write_table(problem, "events", stated, written["events"])
    is_ours = sql.is_among("partition", keys)
    after = store.dataset(problem, "events", version).filter(is_ours)
    without_events = sorted(set(keys) - set(store.partition_keys(problem, "events")))
    note_empty(problem, without_events)
    if without_events:
        log.info("published empty: %s", problem.partitions.spans(without_events))
    changed = changes(problem, "events", before["events"].filter(is_ours), after)
    refused = {row["partition"] for row in quarantine.holds(problem) if row["evidence"].get("by") == quarantine.REFUSED}
    quarantine.readmit_all(problem, sorted(refused & set(keys)), "a later delivery passed the rules")
    deliveries.taken_in(problem, [delivery for delivery in validated.changed if delivery.key in keys])
    # A look takes in deliveries that follow each other: what lies beyond one that was refused waits for the next.
    by_delivery = problem.partitions.by_delivery
    left = missed(problem, datetime.now(UTC), known.union(keys))
    before_these = [key for key in left if key < last or by_delivery]
    verdict, reason = validated.verdict, validated.reason
    if left_out := missed_in_words(problem, before_these):
        log.warning("%s", left_out)
        verdict = f"{verdict}; partitions were missed" if verdict else "partitions were missed"
        reason = f"{reason}\n{left_out}" if reason else left_out
    for notice in validated.notices:
        log.warning("%s", notice)
        verdict = f"{verdict}; other deliveries" if verdict else "other deliveries"
        reason = f"{reason}\n{notice}" if reason else notice
    published = Published(
        config=validated.config,
        first=first,
        last=last,
        **counts,
        late=late,
        outside=outside,
        outside_of=validated.outside_of,
        quarantined=validated.quarantined,
        held=validated.held,
        refused=validated.refused,
        labels_without_event=validated.labels_without_event,
        empty=len(without_events),
        **changed,
        events_version=version,
        deliveries=validated.deliveries,
        reach=validated.reach,
        summary=", ".join([f"{counts['events']:,} events published{_of(validated)}", *validated.beside]),
        verdict=verdict,
        reason=reason,
    )
    store.finish(staging, published)
    return published


def _of(validated: Validated) -> str:
    """Of which deliveries, in a few words."""
    names = list(validated.deliveries.values())
    return f" of {names[0]}" + (f" to {names[-1]}" if len(names) > 1 else "") if names else ""


def _delivered(query: Query, staging: str, refused: Collection[str]) -> ds.Dataset:
    """The good rows of a query in partitions that are not `refused`, and the repaired ones."""
    from pipelines.stages.ingest import parted

    good = parted.good(f"{staging}/{query}", refused)
    repaired = store.staged(f"{staging}/{query}.repaired").to_table()
    if not repaired.num_rows:
        return good
    uri = f"{staging}/{query}.mended"
    batches = chain(good.scanner(columns=repaired.schema.names).to_batches(), repaired.to_batches())
    store.stage(uri, batches, repaired.schema)
    return store.staged(uri)
