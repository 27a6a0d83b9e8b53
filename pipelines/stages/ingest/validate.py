"""validate: good rows apart from bad ones, and partitions that are too bad to publish."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from pipelines import deliveries, quarantine, sql, store
from pipelines.artifacts import table_schema
from pipelines.asof.as_known import holds_now
from pipelines.asof.ingested import empty
from pipelines.errors import DataError
from pipelines.handoffs.config import problem_of
from pipelines.handoffs.ingestion import Extracted, Validated
from pipelines.paths import ingest_staging_uri
from pipelines.problem import Problem, Query

if TYPE_CHECKING:
    import pyarrow.dataset as ds

    from pipelines.ingest.batch import BatchRule
    from pipelines.ingest.expectations import Expected
    from pipelines.ingest.validate import Summary


SHOWN_ROWS = 1_000  # of the bad rows of partitions that are too bad to publish


def validate(problem_name: str, extracted: Extracted) -> Validated:
    """Part the staged rows into good ones and ones to set aside, and refuse the partitions that are too bad.

    Partitions are judged in time order, each against those before it, published or of this run; the good ones of a
    run go on without the refused ones. A page with every rule and what broke it is kept either way. Refused
    partitions of which nothing was published before are held (`quarantine.hold`) until a delivery is good enough.
    Raises:
        DataError: no partition is good enough, more are refused than validation.max_refused_share allows, or a
            source could not be read; nothing is published.
    """
    from pipelines.ingest.batch import batch_refusals, batch_rules, check_refusals, check_sources, reasons
    from pipelines.ingest.expectations import batch_expectations
    from pipelines.ingest.shape import shape_refusals
    from pipelines.ingest.validate import bad_numbers, bad_rows, summary
    from pipelines.ingest.validation_page import Verdict, validation_page
    from pipelines.stages.ingest import arrivals

    problem = problem_of(problem_name, extracted)
    first, last = extracted.first, extracted.last
    staging, keys = ingest_staging_uri(problem, first, last), problem.partitions.between(first, last)
    rejected = store.staged(f"{staging}/rejected").to_table()
    published = set(store.partition_keys(problem, "events"))
    around = arrivals.neighbours(problem, keys, staging, published)
    store.stage(f"{staging}/elsewhere", around, around.schema)
    verdicts, refusals, orphans = [], [], None
    for query in problem.queries:
        staged, elsewhere = store.staged(f"{staging}/{query}"), arrivals.elsewhere(query, around)
        counted = summary(problem, query, staged, keys, elsewhere)
        rules = batch_rules(
            problem,
            counted,
            _trailing(problem, first) if query == "events" else [],
            may_be_empty=query == "events" and _may_be_empty(problem, keys, counted),
        )
        refusals += batch_refusals(problem, counted, rules, f"{staging}/refused")
        numbers = bad_numbers(problem, query, staged, elsewhere=elsewhere) if counted.bad else pa.array([], pa.int64())
        store.stage(f"{staging}/{query}.bad", pa.table({"number": numbers}), arrivals.NUMBERS)
        good = staged.filter(~pc.field("number").isin(numbers))
        shaped = _shape_rules(problem, query, first, good, {refusal.partition for refusal in refusals})
        refusals += shape_refusals(problem, query, shaped)
        verdicts.append(Verdict(counted, rules, shaped))
    refused = reasons(refusals)
    kept = [key for key in keys if key not in refused]
    failure, parted, bad, bad_late = None, [], [], []
    try:
        check_sources(problem, extracted.sources, f"{staging}/rejected")
        check_refusals(problem, keys, refusals)
        # A row that a source could not give belongs to no partition: it stands with the first that is published.
        stand_with = pa.array([kept[0]] * rejected.num_rows, pa.string())
        rejected = rejected.set_column(0, rejected.schema.field("partition"), stand_with)
        parted = [_parted(problem, verdict.summary, staging, kept, around) for verdict in verdicts]
        bad = [part.bad for part in parted]
        bad_late = [
            arrivals.part_late(problem, query, staging, arrivals.elsewhere(query, around)) for query in problem.queries
        ]
        verdicts = [
            replace(verdict, expected=[*part.expected, *batch_expectations(verdict.declared)])
            for verdict, part in zip(verdicts, parted, strict=True)
        ]
        if "labels" in problem.queries:
            orphans = arrivals.labels_without_event(problem, kept, staging)
            arrivals.check_orphans(problem, orphans)
    except DataError as error:
        failure = error
    set_aside = pa.concat_tables([rejected, *bad, *bad_late])
    store.stage(f"{staging}/quarantine", set_aside, table_schema(problem, "quarantine"))
    lost = keys if failure else [*refused]
    samples = [
        bad_rows(
            problem, query, store.staged(f"{staging}/{query}"), SHOWN_ROWS, (), lost, arrivals.elsewhere(query, around)
        )
        for query in (problem.queries if lost else ())
    ]
    sample = pa.concat_tables([set_aside.slice(0, 0), *samples])
    store.stage(f"{staging}/refused", sample, sample.schema)
    shown = pa.concat_tables([sample, set_aside])
    late = extracted.late - sum(rows.num_rows for rows in bad_late)
    beside = arrivals.in_words(problem, late, extracted.outside_of, orphans)
    page = store.write_bytes(
        store.store_uri(problem.name, "reports", f"{first}_{last}", "validation.html"),
        validation_page(problem, first, last, extracted.sources, verdicts, shown, refused, beside, str(failure or "")),
    )
    held = {key: "; ".join(words) for key, words in refused.items()}
    if failure and len(keys) == 1:
        held = {first: failure.what}
    held = {key: reason for key, reason in held.items() if key not in published}
    quarantine.hold_all(problem, held, {"by": quarantine.REFUSED, "page": page})
    # Until it changes once more, no look for deliveries takes it in again by itself.
    deliveries.taken_in(problem, [delivery for delivery in extracted.changed if delivery.key in held])
    if failure:
        raise failure
    in_refused = sum(verdict.summary.rows_in(refused) for verdict in verdicts)
    broken = {
        f"{verdict.query}: {rule}": count
        for verdict in verdicts
        for rule, count in verdict.summary.broken.items()
        if count
    }
    return Validated(
        **extracted.model_dump(),
        quarantined=set_aside.num_rows + in_refused,
        held=in_refused,
        refused=[*refused],
        repaired=sum(of_query.repaired for of_query in parted),
        moved=sum(of_query.moved for of_query in parted),
        labels_without_event=orphans.without_event if orphans else 0,
        beside=beside,
        rules=broken,
        page=page,
        **(_held_back(refused, keys, published) if refused else {}),
    )


class _Parted(NamedTuple):
    """What validation makes of the rows of one query in the partitions that are not refused."""

    bad: pa.Table
    """Rows to set aside, shaped like the table `quarantine`."""
    repaired: int
    moved: int
    """Rows that were repaired into a partition that this run does not publish."""
    expected: Sequence[Expected]


def _parted(problem: Problem, counted: Summary, staging: str, kept: list[str], around: pa.Table) -> _Parted:
    from pipelines.ingest.expectations import expectations
    from pipelines.ingest.quarantine import apply_repairs
    from pipelines.ingest.validate import bad_rows
    from pipelines.stages.ingest import arrivals

    query = counted.query
    elsewhere = arrivals.elsewhere(query, around)
    staged = store.staged(f"{staging}/{query}")
    # Shapes have limits that no one declared: there is nothing that Great Expectations could hold them to.
    expected = expectations(problem, query, staged.filter(sql.is_among("partition", kept)), elsewhere)
    bad = table_schema(problem, "quarantine").empty_table()
    if counted.bad:
        bad = bad_rows(problem, query, staged, partitions=kept, elsewhere=elsewhere)
    bad, mended = apply_repairs(problem, query, bad, quarantine.repairs(problem, query))
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


def _may_be_empty(problem: Problem, keys: list[str], counted: Summary) -> bool:
    """Whether partitions of a batch may be without any row: as problem.yaml, the batch or the past says."""
    from pipelines.ingest.batch import may_be_empty

    if may_be_empty(problem, keys, counted.rows - counted.bad):
        return True
    is_asked = problem.validation.allow_empty is None and 0 in counted.partitions["rows"].to_pylist()
    return is_asked and any(key < keys[0] for key in empty(problem))


def _trailing(problem: Problem, first: str) -> list[int]:
    """How many events hold in each of the partitions before `first`, the oldest first; as many as a rule asks for."""
    if problem.validation.volume is None:
        return []
    back = problem.validation.volume.trailing_partitions
    keys = [key for key in store.partition_keys(problem, "events") if key < first][-back:]
    events = store.dataset(problem, "events")
    return [events.count_rows(filter=(pc.field("partition") == key) & holds_now()) for key in keys]


def _shape_rules(
    problem: Problem, query: Query, first: str, good: ds.Dataset, refused: Collection[str] = ()
) -> list[BatchRule]:
    """How the batch's good rows look beside the newest published partitions before it, and its own not refused."""
    from pipelines.ingest.shape import shape_rules, shapes

    rule = problem.validation.shape
    if rule is None:
        return []
    keys = [key for key in store.partition_keys(problem, query) if key < first][-rule.trailing_partitions :]
    holds = holds_now()
    if query == "labels":
        holds &= pc.field("source") == "natural"
    published = store.dataset(problem, query).filter(sql.is_among("partition", keys) & holds)
    return shape_rules(problem, shapes(problem, query, published), shapes(problem, query, good), refused)
