"""Tables that `evergreen new` is shown, small and made up."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as csv

from pipelines.propose.draft import Draft, Wishes, draft
from pipelines.propose.origin import origin
from pipelines.propose.table import Table, read

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@contextmanager
def table_of(folder: Path, rows: pa.Table | str, name: str = "orders.csv") -> Iterator[Table]:
    """Rows, or a file's text, read as a person's table."""
    path = folder / name
    if isinstance(rows, str):
        path.write_text(rows)
    else:
        csv.write_csv(rows, path)
    with read(origin(str(path), None, folder), folder) as table:
        yield table


def drafted(folder: Path, rows: pa.Table | str, target: str, **wishes: Any) -> Draft:
    with table_of(folder, rows) as table:
        return draft("orders", table, Wishes(target, **wishes), NOW)


def orders(count: int = 3_000, seed: int = 3) -> dict[str, Any]:
    """Orders of 2024, of which some come back; a delay of days says when that was known."""
    random = np.random.default_rng(seed)
    seconds = np.sort(random.integers(0, 360 * 86_400, count)).astype("timedelta64[s]")
    placed = np.datetime64("2024-01-01T00:00:00") + seconds
    paid = random.gamma(2, 30, count).round(2)
    country = random.choice(["DE", "FR", "IT"], count)
    chance = 1 / (1 + np.exp(-(paid - 80) / 40 - (country == "IT")))
    returned = random.random(count) < chance
    closed = placed + random.integers(1, 20, count).astype("timedelta64[D]")
    return {
        "order_id": [f"A{number:06}" for number in random.permutation(count)],
        "placed_at": placed,
        "closed_at": closed,
        "customer_id": random.integers(0, 60, count),
        "country": country,
        "paid": paid,
        "returned": np.where(returned, "yes", "no"),
    }
