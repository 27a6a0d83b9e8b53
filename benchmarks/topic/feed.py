"""Orders of some days as messages, and the statements that a batch over all of them would make."""

from __future__ import annotations

import base64
import json
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import yaml

FIRST = datetime(2024, 1, 1, tzinfo=UTC)
PARTITIONS = 3
DUPLICATES, LATE, UNDECODABLE = 0.01, 0.01, 0.001
DUE = timedelta(hours=1)  # until the prediction of an order is due
Statement = tuple[str, datetime, float, int, datetime, datetime | None]
"""key, event_time, litres, statement, known_time, superseded_time"""

PROBLEM: dict[str, Any] = {
    "description": "Does the order come back?",
    "owner": "shop",
    "key": "order_id",
    "partitions": {"every": "day", "first": "2024-01-01"},
    "columns": {"litres": {"type": "float", "available": "cutoff", "min": 0, "max": 1000}},
    "features": {"columns": ["litres"]},
    "labels": {"use": ["hand"]},
    "training": {"baselines": ["prior"], "candidates": {"prior": {"model": "prior"}, "xgboost": {"model": "xgboost"}}},
    "gate": {"limits": {"auc": {"min": 0.5}}, "gain_over_baselines": {"auc": 0}, "gain_over_champion": {"auc": 0}},
}
EVENTS = """SELECT order_id, placed_at AS event_time, placed_at + INTERVAL 1 HOUR AS cutoff_time,
    message_time AS known_time, litres
FROM orders
"""


class Day(NamedTuple):
    """What is sent before a day is ingested."""

    key: str
    file: Path
    messages: int
    undecodable: int


class Feed(NamedTuple):
    """All days, and what has to become of them."""

    days: list[Day]
    statements: set[Statement]


def write_problem(folder: Path, brokers: str, days: int) -> str:
    """A problem over the topic, whose data lies in the past; gives its name."""
    (folder / "orders").mkdir(parents=True)
    columns = {"order_id": "string", "placed_at": "timestamp", "litres": "float", "message_time": "timestamp"}
    source = {"topic": "orders", "brokers": brokers, "columns": columns, "time_column": "placed_at"}
    problem = PROBLEM | {"sources": {"orders": source}}
    problem["partitions"] = PROBLEM["partitions"] | {"last": f"{FIRST + timedelta(days=days - 1):%Y-%m-%d}"}
    (folder / "orders" / "problem.yaml").write_text(yaml.safe_dump(problem, sort_keys=False))
    (folder / "orders" / "events.sql").write_text(EVENTS)
    return "orders"


def write(folder: Path, days: int, messages: int, seed: int = 0) -> Feed:
    """Messages of the days in files of `folder`, about as many as asked for.

    Of the messages DUPLICATES have the key of another, half of them with the same content and half with other content;
    LATE are of a day that was ingested before they are sent, UNDECODABLE no JSON.
    """
    draw = random.Random(seed)
    sent: list[list[tuple[datetime, str, bytes]]] = [[] for _ in range(days)]
    statements: set[Statement] = set()
    undecodable = [0] * days
    for day in range(days):
        start = FIRST + timedelta(days=day)
        for number in range(round(messages / days / (1 + DUPLICATES + UNDECODABLE))):
            key = f"o{day}-{number}"
            placed_at = start + timedelta(seconds=draw.randrange(79_200), milliseconds=draw.randrange(1000))
            litres = round(draw.uniform(0, 900), 3)
            sent_at = placed_at + timedelta(seconds=draw.randrange(60))
            payload = _payload(key, placed_at, litres)
            chance = draw.random()
            if chance < LATE and day + 1 < days:
                on = draw.randrange(day + 1, days)
                sent[on].append((FIRST + timedelta(days=on, seconds=draw.randrange(79_200)), key, payload))
                # It becomes known with the run that meets it: at the end of the newest partition.
                statements.add((key, placed_at, litres, 0, FIRST + timedelta(days=on + 1), None))
                continue
            sent[day].append((sent_at, key, payload))
            superseded = None
            if chance > 1 - DUPLICATES / 2:  # the producer got no answer
                sent[day].append((sent_at + timedelta(seconds=5), key, payload))
            elif chance > 1 - DUPLICATES:  # a correction, before its prediction is due
                superseded = sent_at + timedelta(minutes=10)
                sent[day].append((superseded, key, _payload(key, placed_at, litres + 1)))
                statements.add((key, placed_at, litres + 1, 1, superseded, None))
            statements.add((key, placed_at, litres, 0, sent_at, superseded))
            if draw.random() < UNDECODABLE:
                undecodable[day] += 1
                sent[day].append((sent_at, key, b'{"order_id": "o' + bytes([255, number % 256])))
    files = [folder / f"{day}.jsonl" for day in range(days)]
    for file, of_day in zip(files, sent, strict=True):
        with file.open("w") as out:
            for at, key, payload in sorted(of_day):
                value = base64.b64encode(payload).decode()
                place = sum(key.encode()) % PARTITIONS
                time = int(at.timestamp() * 1000)
                line = {"topic": "orders", "partition": place, "key": key, "value": value, "time": time}
                out.write(f"{json.dumps(line)}\n")
    keys = [f"{FIRST + timedelta(days=day):%Y-%m-%d}" for day in range(days)]
    counts = [len(of_day) for of_day in sent]
    return Feed([Day(*day) for day in zip(keys, files, counts, undecodable, strict=True)], statements)


def _payload(key: str, placed_at: datetime, litres: float) -> bytes:
    return json.dumps({"order_id": key, "placed_at": placed_at.isoformat(), "litres": litres}).encode()
