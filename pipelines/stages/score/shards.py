"""What the shards of a partition are made of, and where they wait."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import pyarrow.compute as pc

from pipelines import store
from pipelines.asof.as_known import targets
from pipelines.problem import Problem

if TYPE_CHECKING:
    import pyarrow.dataset as ds


def events_to_score(problem: Problem, partition: str, as_of: str, events_version: int | None) -> ds.Dataset:
    """One row per event of the partition, as known at `as_of` (ISO 8601): what to score it from."""
    events = store.dataset(problem, "events", events_version)
    return targets(events.filter(pc.field("partition") == partition), datetime.fromisoformat(as_of))
