"""extract: rows as their sources give them, staged."""

from __future__ import annotations

from datetime import UTC, datetime

from pipelines import store
from pipelines.errors import ConfigError
from pipelines.handoffs.config import pin
from pipelines.handoffs.ingestion import Extracted
from pipelines.ingest.extract import extract as extract_rows
from pipelines.ingest.extract import extracted_schema
from pipelines.paths import ingest_staging_uri
from pipelines.problem import load_problem


def extract(problem_name: str, first: str, last: str, now: datetime | None = None) -> Extracted:
    """Stage the rows of the partitions `first` to `last`, as they come, and those that a source could not give.

    Rows that came after one of the partitions before was ingested are looked for in `validation.lookback_partitions`
    of them. `now`: what time it is; None: what the clock says.

    Raises:
        ConfigError: `first` and `last` name no partitions, or the last has not closed yet.
        DataError: a partition before is delivered under other keys.
    """
    from pipelines.ingest.quarantine import from_sources
    from pipelines.ingest.sources import opened
    from pipelines.stages.ingest import arrivals

    problem = load_problem(problem_name)
    keys = problem.partitions.between(first, last)
    if not keys:
        raise ConfigError(f"{first} comes after {last}", where="first and last", cure="swap them")
    now = now or datetime.now(UTC)
    problem.partitions.require_closed(last, now)
    staging = ingest_staging_uri(problem, first, last)
    store.begin(staging)
    back = arrivals.looked_back(problem, first)
    rows = {"events": 0, "labels": 0}
    arrived = {}
    with opened(problem, *arrivals.span_read(problem, keys, back)) as sources:
        for query in problem.queries:
            batches = extract_rows(problem, query, sources.database, first, last)
            rows[query] = store.stage(f"{staging}/{query}", batches, extracted_schema(problem, query))
            arrived[query] = arrivals.see(problem, query, sources.database, keys, back, staging, now)
        rejected = from_sources(problem, sources.rejected(), first)
        counts = {name: {"rows": count.rows, "rejected": count.rejected} for name, count in sources.counts.items()}
    rejected = arrivals.first_rejected(problem, rejected, keys)
    store.stage(f"{staging}/rejected", rejected, rejected.schema)
    return Extracted(
        config=pin(problem),
        first=first,
        last=last,
        events=rows["events"],
        labels=rows["labels"],
        rejected=rejected.num_rows,
        late=sum(of_query.late for of_query in arrived.values()),
        outside_of={query: of_query.outside._asdict() for query, of_query in arrived.items()},
        read=sum(of_query.read for of_query in arrived.values()) + rejected.num_rows,
        sources=counts,
    )
