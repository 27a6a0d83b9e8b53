"""Rows of the toy problem's tables."""

from __future__ import annotations

from datetime import UTC, datetime

import pyarrow as pa

NOON = datetime(2024, 1, 1, 12, tzinfo=UTC)


def statements(partition: str, count: int, source: str = "natural") -> pa.Table:
    """Rows of the table `labels`."""
    return pa.Table.from_pylist(
        [
            {
                "kettle_id": f"{partition}/{n}",
                "partition": partition,
                "event_time": NOON,
                "known_time": NOON,
                "label": n % 2,
                "source": source,
                "confidence": 1.0,
                "labeler": "outcome",
                "superseded_time": None,
                "withdrawn_time": None,
            }
            for n in range(count)
        ]
    )
