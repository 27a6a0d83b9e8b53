"""extract: rows as their sources give them, staged."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

import pyarrow as pa

from pipelines import deliveries, quarantine, store
from pipelines.artifacts import table_schema
from pipelines.asof.ingested import ingested
from pipelines.errors import ConfigError, NothingToDo
from pipelines.handoffs.config import pin
from pipelines.handoffs.ingestion import Extracted
from pipelines.ingest.extract import extract as extract_rows
from pipelines.ingest.extract import extracted_schema
from pipelines.paths import ingest_staging_uri
from pipelines.problem import Problem, load_problem


def extract(
    problem_name: str, first: str | None = None, last: str | None = None, now: datetime | None = None
) -> Extracted:
    """Stage the rows of the partitions `first` to `last`, as they come, and those that a source could not give.

    What is new in topics is landed first, of whatever partition it is: see `ingest/sources/topic.py`.

    Of a problem of deliveries those that have come since are numbered first; without `first` and `last` they are the
    ones that are staged, and with them any that was refused and has changed.

    Rows that came after one of the partitions before was ingested are looked for in `validation.lookback_partitions`
    of them. `now`: what time it is; None: what the clock says.

    Raises:
        NothingToDo: there is no new delivery.
        ConfigError: `first` and `last` name no partitions, or the last has not closed yet.
        DataError: a partition before is delivered under other keys.
    """
    from pipelines.ingest.quarantine import from_sources
    from pipelines.ingest.sources import opened
    from pipelines.ingest.sources.reach import marks
    from pipelines.ingest.sources.topic import land_topics
    from pipelines.stages.ingest import arrivals

    problem = load_problem(problem_name)
    look = _look(problem) if problem.partitions.by_delivery else None
    if first is None or last is None:
        first, last = _new(problem, look)
    keys = problem.partitions.between(first, last)
    if not keys:
        raise ConfigError(f"{first} comes after {last}", where="first and last", cure="swap them")
    now = now or datetime.now(UTC)
    problem.partitions.require_closed(last, now)
    staging = ingest_staging_uri(problem, first, last)
    land_topics(problem)
    store.begin(staging)
    back = arrivals.looked_back(problem, first)
    rows = {"events": 0, "labels": 0}
    arrived = {}
    come = look.deliveries if look else None
    asked = marks(problem, keys, now)
    with opened(problem, *arrivals.span_read(problem, keys, back), come, asked) as sources:
        for query in problem.queries:
            batches = extract_rows(problem, query, sources.database, first, last, sources.batch_rows)
            rows[query] = store.stage(f"{staging}/{query}", batches, extracted_schema(problem, query))
            arrived[query] = arrivals.see(problem, query, sources.database, keys, back, staging, now)
        counts = {name: {"rows": count.rows, "rejected": count.rejected} for name, count in sources.counts.items()}
        rejected_rows: Iterator[pa.RecordBatch] = iter(())
        if any(count.rejected for count in sources.counts.values()):
            others = arrivals.rejected_by_others(problem, keys)
            rejected_rows = from_sources(problem, sources.rejected(), first, others)
        rejected = store.stage(f"{staging}/rejected", rejected_rows, table_schema(problem, "quarantine"))
    return Extracted(
        config=pin(problem),
        first=first,
        last=last,
        events=rows["events"],
        labels=rows["labels"],
        rejected=rejected,
        late=sum(of_query.late for of_query in arrived.values()),
        outside_of={query: of_query.outside._asdict() for query, of_query in arrived.items()},
        read=sum(of_query.read for of_query in arrived.values()) + rejected,
        sources=counts,
        reach=sources.reach,
        deliveries={key: look.deliveries[key].name for key in keys} if look else {},
        changed=[delivery for key, delivery in look.changed.items() if key in keys] if look else [],
        notices=_notices(problem, look, keys) if look else [],
    )


def _look(problem: Problem) -> deliveries.Look:
    from pipelines.ingest.sources import offered

    return deliveries.look(problem, offered(problem))


def _new(problem: Problem, look: deliveries.Look | None) -> tuple[str, str]:
    """First and last of the deliveries to take in: those that were not, and of those that were refused the changed."""
    if look is None:
        raise ConfigError(
            "which partitions are to be ingested?", where="ingest", cure="give --first and --last, or --partition"
        )
    done, held = set(ingested(problem)), quarantine.held(problem)
    new = [key for key in look.deliveries if key not in done and key not in look.gone]
    new = [key for key in new if key not in held or key in look.changed]
    if not new:
        raise NothingToDo(
            f"there is no new delivery ({len(look.deliveries)} have come)",
            where=f"{problem.name}, source {problem.delivered}",
            cure="; ".join(["put one there", *_held(problem, look, held), *_notices(problem, look, [])]),
        )
    several = [key for place, key in enumerate(new) if problem.partitions.shift(new[0], place) == key]
    return several[0], several[-1]


def _held(problem: Problem, look: deliveries.Look, held: set[str]) -> list[str]:
    """What waits for somebody to look at it."""
    waiting = [delivery for key, delivery in look.deliveries.items() if key in held and key not in ingested(problem)]
    command = f"evergreen run ingest {problem.name} --partition"
    names = deliveries.in_words(waiting)
    return [f"refused, and not changed since: {names}. If it is sound: {command} {waiting[-1].key}"] if waiting else []


def _notices(problem: Problem, look: deliveries.Look, keys: Sequence[str]) -> list[str]:
    """What became of earlier deliveries, beside those that are ingested now, a line each."""
    done, lines = set(ingested(problem)), []
    if changed := [look.changed[key] for key in look.changed if key in done and key not in keys]:
        commands = "; ".join(f"evergreen run ingest {problem.name} --partition {each.key}" for each in changed[:3])
        lines.append(
            f"changed since it was ingested: {deliveries.in_words(changed)}. To take the correction in: {commands}"
        )
    if gone := [look.deliveries[key] for key in look.gone if key not in keys]:
        lines.append(f"not there any more: {deliveries.in_words(gone)}; what was ingested of it stays")
    return lines
