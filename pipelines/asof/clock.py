"""What time it is for a problem: the only place, beside the ledger, where a stage asks for the time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from pipelines.asof.ingested import ingested
from pipelines.problem import Problem

INSTANT = timedelta(microseconds=1)  # the resolution of every time that is kept


def present(problem: Problem, ingesting: str | None = None) -> datetime:
    """Now, or the end of the newest partition where the problem's data lies in the past (`Problem.present`).

    `ingesting`: a partition that is just being ingested and may be newer than those in the store.
    """
    keys = [*ingested(problem), *([ingesting] if ingesting else [])]
    now = datetime.now(UTC)
    return problem.present(max(keys), now) if keys else now
