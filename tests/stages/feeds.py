"""A small problem over one source, to which rows can be delivered: for tests of what an ingest takes in."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import yaml

FIRST = "2024-01-01"
START = datetime(2024, 1, 1, tzinfo=UTC)
COLUMNS = {"ticket": "string", "happens": "timestamp", "told": "timestamp", "litres": "float", "hot": "integer"}
PATHS = {"csv": "feed.csv", "jsonl": "feed.jsonl", "parquet": "feed.parquet"}
EVENTS = "SELECT ticket, happens AS event_time, {known} litres FROM feed"
LABELS = """
    SELECT ticket, happens AS event_time, happens + INTERVAL 1 HOUR AS known_time, hot AS label
    FROM feed WHERE hot IS NOT NULL
"""


def row(
    ticket: str | None, hour: float, litres: float | None = 1.0, told: float | None = None, **more: Any
) -> dict[str, Any]:
    """A row of the feed; times count hours since the start of 2024."""
    at = START + timedelta(hours=hour)
    return {
        "ticket": ticket,
        "happens": at,
        "told": None if told is None else START + timedelta(hours=told),
        "litres": litres,
        "hot": None,
    } | more


def day(number: int) -> str:
    """The key of a partition, counted from the first."""
    return (START + timedelta(days=number)).date().isoformat()


class Feed:
    """A problem in `folder`, and its source, which holds what was delivered last."""

    def __init__(self, folder: Path, toy: Mapping[str, Any], kind: str = "parquet", **changes: Any) -> None:
        self.folder, self.kind = folder / "kettle", kind
        self.folder.mkdir(parents=True)
        source = {"database": f"sqlite:///{self.folder}/feed.db", "table": "feed", "columns": COLUMNS}
        if kind != "sqlite":
            source = {"path": PATHS[kind], "columns": COLUMNS}
        known = changes.pop("known", "")
        labels = changes.pop("labels_sql", LABELS)
        raw = {
            **toy,
            "key": "ticket",
            "sources": {"feed": source | changes.pop("source", {})},
            "columns": {"litres": {"type": "float", "available": "cutoff", "min": 0}},
            "features": {"columns": ["litres"]},
            "validation": {"shape": None, "max_quarantined_share": 1.0},
        }
        for path, value in changes.items():
            section, _, name = path.partition(".")
            raw[section] = {**raw.get(section, {}), name: value} if name else value
        (self.folder / "problem.yaml").write_text(yaml.safe_dump(json.loads(json.dumps(raw, default=str))))
        (self.folder / "events.sql").write_text(EVENTS.format(known=known))
        (self.folder / "labels.sql").write_text(labels)
        self.deliver([])

    def deliver(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Let the source hold these rows, and no others."""
        time = pa.timestamp("us", "UTC")
        types = {"string": pa.string(), "timestamp": time, "float": pa.float64(), "integer": pa.int64()}
        schema = pa.schema([(name, types[kind]) for name, kind in COLUMNS.items()])
        table = pa.Table.from_pylist([dict(one) for one in rows], schema=schema)
        match self.kind:
            case "parquet":
                pq.write_table(table, self.folder / PATHS["parquet"])
            case "csv":
                pyarrow.csv.write_csv(table, self.folder / PATHS["csv"])
            case "jsonl":
                lines = [json.dumps(one, default=lambda time: time.isoformat()) for one in table.to_pylist()]
                (self.folder / PATHS["jsonl"]).write_text("".join(f"{line}\n" for line in lines))
            case "sqlite":
                with sqlite3.connect(self.folder / "feed.db") as database:
                    database.execute("DROP TABLE IF EXISTS feed")
                    database.execute(
                        "CREATE TABLE feed (ticket TEXT, happens TEXT, told TEXT, litres REAL, hot INTEGER)"
                    )
                    values = [
                        [value.isoformat() if isinstance(value, datetime) else value for value in one.values()]
                        for one in table.to_pylist()
                    ]
                    database.executemany("INSERT INTO feed VALUES (?, ?, ?, ?, ?)", values)
                database.close()
