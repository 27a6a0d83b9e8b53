"""The default problem's flights of its first months, in a file beside it: each reading of the package's year takes four
seconds of CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipelines.ingest.sources import opened
from pipelines.problem import load_problem

PROBLEM = "flight_delay"


def use_first_months(raw: dict[str, Any], folder: Path, months: int) -> None:
    """Have `raw`, a problem.yaml that lies in `folder`, read the flights up to that month from there."""
    with opened(load_problem(PROBLEM), "2012-12-31", "2012-12-31") as sources:
        sources.database.execute(f"COPY (FROM flights WHERE month <= {months}) TO '{folder}/flights.parquet'")
    raw["sources"]["flights"] = {"path": "flights.parquet", "columns": raw["sources"]["flights"]["columns"]}
