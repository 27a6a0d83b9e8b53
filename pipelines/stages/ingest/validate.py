"""validate: good rows apart from bad ones, and partitions that are too bad to publish."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from itertools import chain
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
    from pipelines.ingest.judge import Noted
    from pipelines.ingest.quarantine import Mending
    from pipelines.ingest.validate import Summary
    from pipelines.ingest.validation_page import Verdict


SAMPLED_ROWS = 1_000  # of the bad rows of partitions that are too bad to publish


def validate(problem_name: str, extracted: Extracted) -> Validated:
    """Part the staged rows into good ones and ones to set aside, and refuse the partitions that are too bad.

    Partitions are judged in time order, each against those before it, published or of this run; the good ones of a
    run go on without the refused ones. A page with every rule and what broke it is kept either way. Refused
    partitions of which nothing was published before are held (`quarantine.hold`) until a delivery is good enough.
    Raises:
        DataError: no partition is good enough, more are refused than validation.max_refused_share allows, or a
            source could not be read; nothing is published.
    """
    with ExitStack() as notes:
        return _validate(problem_of(problem_name, extracted), extracted, notes)


def _validate(problem: Problem, extracted: Extracted, notes: ExitStack) -> Validated:
    """As `validate`; `notes` are what is found of rows, and end with it."""
    from pipelines.ingest.batch import batch_refusals, batch_rules, check_refusals, check_sources, reasons
    from pipelines.ingest.judge import judge
    from pipelines.ingest.quarantine import Mending
    from pipelines.ingest.shape import shape_refusals
    from pipelines.ingest.validate import bad_rows, summary
    from pipelines.ingest.validation_page import SHOWN_ROWS, SetAside, Verdict, validation_page
    from pipelines.stages.ingest import arrivals, parted

    first, last = extracted.first, extracted.last
    staging, keys = ingest_staging_uri(problem, first, last), problem.partitions.between(first, last)
    published = set(store.partition_keys(problem, "events"))
    around = arrivals.neighbours(problem, keys, staging, published)
    verdicts, refusals, orphans = [], [], None
    noted: dict[Query, Noted] = {}
    for query in problem.queries:
        uri, beside_them = f"{staging}/{query}", arrivals.elsewhere(query, around)
        sampled = problem.validation.expectation_rows
        of_query = judge(problem, query, store.staged(uri), elsewhere=beside_them, sampled=sampled)
        noted[query] = notes.enter_context(of_query)
        counted = summary(problem, noted[query], keys)
        rules = batch_rules(
            problem,
            counted,
            _trailing(problem, first) if query == "events" else [],
            may_be_empty=query == "events" and _may_be_empty(problem, keys, counted),
        )
        refusals += batch_refusals(problem, counted, rules, f"{staging}/refused")
        parted.part(problem, noted[query], uri)
        good = parted.good(uri)
        refused_before = {refusal.partition for refusal in refusals}
        shaped = _shape_rules(problem, query, first, good, refused_before, counted.good)
        refusals += shape_refusals(problem, query, shaped)
        verdicts.append(Verdict(counted, rules, shaped))
    refused = reasons(refusals)
    kept = [key for key in keys if key not in refused]
    failure = None
    try:
        check_sources(problem, extracted.sources, f"{staging}/rejected")
        check_refusals(problem, keys, refusals)
        # Shapes have limits that no one declared: there is nothing that Great Expectations could hold them to.
        verdicts = [
            replace(verdict, expected=_expected(problem, verdict, noted[verdict.query], kept)) for verdict in verdicts
        ]
        late_noted = {
            query: notes.enter_context(arrivals.judged_late(problem, query, staging, around))
            for query in problem.queries
        }
        bad_late = {query: arrivals.part_late(problem, query, staging, late_noted[query]) for query in problem.queries}
        if "labels" in problem.queries:
            orphans = arrivals.labels_without_event(problem, [*refused], kept, staging)
            arrivals.check_orphans(problem, orphans)
    except DataError as error:
        failure = error
    lost = keys if failure else [*refused]
    shown = _First(SHOWN_ROWS)
    samples = chain.from_iterable(
        bad_rows(problem, noted[query], SAMPLED_ROWS, partitions=lost) for query in (problem.queries if lost else ())
    )
    quarantine_schema = table_schema(problem, "quarantine")
    sampled = store.stage(f"{staging}/refused", shown.of(samples), quarantine_schema)
    # A row that a source could not give belongs to no partition: it stands with the first that is published.
    rejected = _placed(store.staged(f"{staging}/rejected"), kept[0] if kept and not failure else first)
    mended: dict[Query, Mending] = {}
    set_aside: Iterator[pa.RecordBatch] = rejected
    if not failure:
        mended = {query: Mending(problem, query, quarantine.repairs(problem, query)) for query in problem.queries}
        bad = [
            mended[verdict.query].still_bad(bad_rows(problem, noted[verdict.query], partitions=kept))
            for verdict in verdicts
            if verdict.summary.bad
        ]
        late_ones = [bad_rows(problem, late) for query, late in late_noted.items() if late and bad_late[query]]
        set_aside = chain(rejected, *bad, *late_ones)
    quarantined = store.stage(f"{staging}/quarantine", shown.of(set_aside), quarantine_schema)
    repaired = {query: _repaired(mending, query, staging, kept) for query, mending in mended.items()}
    late = extracted.late - (0 if failure else sum(bad_late.values()))
    beside = arrivals.in_words(problem, late, extracted.outside_of, orphans)
    page = store.write_bytes(
        store.store_uri(problem.name, "reports", f"{first}_{last}", "validation.html"),
        validation_page(
            problem,
            first,
            last,
            extracted.sources,
            verdicts,
            SetAside(shown.rows(quarantine_schema), sampled + quarantined),
            refused,
            beside,
            str(failure or ""),
        ),
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
        quarantined=quarantined + in_refused,
        held=in_refused,
        refused=[*refused],
        repaired=sum(of_query.repaired for of_query in repaired.values()),
        moved=sum(of_query.moved for of_query in repaired.values()),
        labels_without_event=orphans.without_event if orphans else 0,
        beside=beside,
        rules=broken,
        page=page,
        **(_held_back(refused, keys, published) if refused else {}),
    )


class _Repaired(NamedTuple):
    """Rows of a query that people have released."""

    repaired: int
    """into partitions that this run publishes"""
    moved: int
    """into others"""


def _repaired(mending: Mending, query: Query, staging: str, kept: list[str]) -> _Repaired:
    """Stage the repaired rows."""
    mended = mending.repaired
    is_kept = pc.is_in(mended["partition"], pa.array(kept, pa.string()))
    moved = pc.sum(pc.invert(is_kept), min_count=0).as_py()
    mended = mended.filter(is_kept)
    store.stage(f"{staging}/{query}.repaired", mended, mended.schema)
    return _Repaired(mended.num_rows, moved)


def _expected(problem: Problem, verdict: Verdict, noted: Noted, kept: list[str]) -> list[Expected]:
    """What Great Expectations says of the rows of a query in the partitions `kept`, and of its batch rules."""
    from pipelines.ingest.expectations import batch_expectations, expectations

    return [*expectations(problem, noted, kept), *batch_expectations(verdict.declared)]


def _placed(rows: ds.Dataset, partition: str) -> Iterator[pa.RecordBatch]:
    """Rows of the table `quarantine`, as rows of this partition."""
    for batch in rows.scanner().to_batches():
        place = batch.schema.get_field_index("partition")
        keys = pa.array([partition] * batch.num_rows, pa.string())
        yield batch.set_column(place, batch.schema.field("partition"), keys)


class _First:
    """The first rows of those that stream by."""

    def __init__(self, most: int) -> None:
        self._most, self._batches = most, list[pa.RecordBatch]()

    def of(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            if self._most:
                self._batches.append(batch.slice(0, self._most))
                self._most -= self._batches[-1].num_rows
            yield batch

    def rows(self, schema: pa.Schema) -> pa.Table:
        return pa.Table.from_batches(self._batches, schema)


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
    problem: Problem,
    query: Query,
    first: str,
    good: ds.Dataset,
    refused: Collection[str] = (),
    counts: Mapping[str, int] | None = None,
) -> list[BatchRule]:
    """How the batch's good rows look beside the newest published partitions before it, and its own not refused.

    `counts`: how many good rows each of the batch's partitions has, where that is known.
    """
    from pipelines.ingest.shape import shape_rules, shapes

    rule = problem.validation.shape
    if rule is None:
        return []
    keys = [key for key in store.partition_keys(problem, query) if key < first][-rule.trailing_partitions :]
    holds = holds_now()
    if query == "labels":
        holds &= pc.field("source") == "natural"
    published = store.dataset(problem, query).filter(sql.is_among("partition", keys) & holds)
    of_batch = shapes(problem, query, good, counts)
    return shape_rules(problem, shapes(problem, query, published), of_batch, refused)
