from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from pipelines.ingest.look import check_sources, look
from pipelines.problem import Problem, parse_problem

LAST = "2024-01-10"
Row = dict[str, Any]
Made = Callable[..., Problem]


@pytest.fixture
def made(tmp_path: Path) -> Made:
    """A problem over events and labels as CSV; `change` mends or breaks the rows of ten days, ten rows each."""

    def make(change: Callable[[list[Row], list[Row]], None] = lambda events, labels: None, **settings: Any) -> Problem:
        events, labels = [], []
        for number in range(100):
            day = date(2024, 1, 1) + timedelta(days=number // 10)
            events.append(
                {"ticket": f"t{number}", "sold_at": f"{day}T{number % 10:02}:00:00Z", "price": number, "colour": "red"}
            )
            labels.append({"ticket": f"t{number}", "sold_at": f"{day}T{number % 10:02}:00:00Z", "label": number % 2})
        change(events, labels)
        for name, rows, header in (
            ("tickets", events, "ticket,sold_at,price,colour"),
            ("outcomes", labels, "ticket,sold_at,label"),
        ):
            lines = [header, *(",".join("" if v is None else str(v) for v in row.values()) for row in rows)]
            (tmp_path / f"{name}.csv").write_text("\n".join(lines) + "\n")
        (tmp_path / "events.sql").write_text("SELECT ticket, sold_at AS event_time, price, colour FROM tickets")
        (tmp_path / "labels.sql").write_text(
            "SELECT ticket, sold_at AS event_time, sold_at AS known_time, label FROM outcomes"
        )
        raw: dict[str, Any] = {
            "description": "tickets",
            "owner": "ada",
            "key": "ticket",
            "partitions": {"every": "day", "first": "2024-01-01"},
            "sources": {
                "tickets": {
                    "path": "tickets.csv",
                    "columns": {"ticket": "string", "sold_at": "timestamp", "price": "float", "colour": "string"},
                },
                "outcomes": {
                    "path": "outcomes.csv",
                    "columns": {"ticket": "string", "sold_at": "timestamp", "label": "integer"},
                },
            },
            "columns": {
                "price": {"type": "float", "available": "cutoff"},
                "colour": {"type": "string", "available": "cutoff"},
            },
            "features": {"columns": ["price", "colour"]},
            "training": {
                "candidates": {"prior": {"model": "prior"}, "trees": {"model": "xgboost"}},
                "baselines": ["prior"],
            },
            "gate": {
                "limits": {"auc": {"min": 0.5}},
                "gain_over_baselines": {"auc": 0},
                "gain_over_champion": {"auc": 0},
            },
        }
        raw["monitoring"] = {"policy": {"min_labels": 10}}
        return parse_problem(raw | settings, tmp_path)

    return make


def told(problem: Problem, level: str) -> list[str]:
    return [remark.text for remark in look(problem, LAST) if remark.level == level]


def test_sound_rows_are_counted_and_nothing_is_odd(made: Made) -> None:
    problem = made()
    assert check_sources(problem) == []
    assert told(problem, "fact") == [
        "events: 100 rows in 10 of 10 days, usually 10 a day",
        "labels: 100 rows; 100.0% of 100 events have one",
    ]
    assert not told(problem, "odd") and not told(problem, "wrong")


def test_too_few_rows_to_judge_a_partition_by_itself_are_seen(made: Made) -> None:
    assert told(made(monitoring={}), "odd") == [
        "events: monitoring.policy.min_labels asks for 200 rows: about 20 days in a row are judged together, or let "
        "partitions.every be week"
    ]
    hours = made(monitoring={}, partitions={"every": "hour", "first": "2024-01-01"})
    remarks = [remark.text for remark in look(hours, "2024-01-10T09Z")]
    assert "events: 100 rows in 100 of 226 hours, usually 1 an hour" in remarks
    assert "about 200 hours in a row are judged together, or let partitions.every be day" in "".join(remarks)


def drop_days(events: list[Row], labels: list[Row]) -> None:
    events[20:50] = []


def repeat_keys(events: list[Row], labels: list[Row]) -> None:
    for number, event in enumerate(events):
        event["ticket"] = f"t{number % 10}"  # ticket numbers start anew each day


def float_keys(events: list[Row], labels: list[Row]) -> None:
    for number, label in enumerate(labels):
        label["ticket"] = f"{number}.0"


def no_colour(events: list[Row], labels: list[Row]) -> None:
    for event in events:
        event["colour"] = None


def one_class(events: list[Row], labels: list[Row]) -> None:
    for label in labels:
        label["label"] = 0


def other_year(events: list[Row], labels: list[Row]) -> None:
    for event in events:
        event["sold_at"] = event["sold_at"].replace("2024", "2014")


def dear(events: list[Row], labels: list[Row]) -> None:
    for event in events[:60]:
        event["price"] = 1000


def no_numbers(events: list[Row], labels: list[Row]) -> None:
    for event in events[90:]:
        event["price"] = "dear"


def three_keys_again(events: list[Row], labels: list[Row]) -> None:
    for number in (30, 41, 52):
        events[number]["ticket"] = labels[number]["ticket"] = f"t{number - 20}"
        labels[number]["sold_at"] = events[number]["sold_at"]


def no_times(events: list[Row], labels: list[Row]) -> None:
    for event in events:
        event["sold_at"] = None


def half_without_time(events: list[Row], labels: list[Row]) -> None:
    for event in events[:50]:
        event["sold_at"] = None


@pytest.mark.parametrize(
    ("change", "level", "text"),
    [
        (drop_days, "odd", "events: no row in 3 days: 2024-01-03 to 2024-01-05"),
        (
            drop_days,
            "wrong",
            "labels: an ingest stops: 30 of 100 labels have no event: 't20', 't21' and 't22', where events are such as "
            "'t0', 't1' and 't10'; at most 20% may have none",
        ),
        (repeat_keys, "odd", "events: 90 of 100 rows are set aside: ticket: names an event of another time already"),
        (
            repeat_keys,
            "wrong",
            "an ingest of 2024-01-01 to 2024-01-10 stops: 9 of 10 partitions are refused, and 50% may be "
            "(max_refused_share)\n9 from 2024-01-02 to 2024-01-10: too many bad events (100.0% of 10 rows): at most "
            "5.0% may be set aside. Rules broken: ticket: names an event of another time already (10 rows)",
        ),
        (float_keys, "wrong", "labels: none is of an event of these days"),
        (no_colour, "odd", "events: no value at all in colour"),
        (one_class, "wrong", "labels: all have the same value; a model needs more than one"),
        (
            other_year,
            "wrong",
            "events: no row from 2024-01-01 to 2024-01-10 (100 rows, from 2014-01-01 to 2014-01-10); "
            "correct partitions.first, last or events.sql",
        ),
        (
            no_times,
            "wrong",
            "events: no row from 2024-01-01 to 2024-01-10 (100 rows, none of them with a time); correct "
            "partitions.first, last or events.sql",
        ),
        (half_without_time, "odd", "events: 50 of 100 rows are set aside: event_time: missing"),
    ],
)
def test_what_would_stop_an_ingest_or_a_training_is_seen(
    made: Made, change: Callable[[list[Row], list[Row]], None], level: str, text: str
) -> None:
    assert text in told(made(change), level)


def test_an_ingest_that_stops_for_a_rule_or_a_source_is_seen_before(made: Made) -> None:
    settings = {
        "columns": {
            "price": {"type": "float", "available": "cutoff", "max": 100},
            "colour": {"type": "string", "available": "cutoff"},
        }
    }
    assert told(made(dear, **settings), "odd") == ["events: 60 of 100 rows are set aside: price: outside ..100"]
    (wrong,) = told(made(dear, **settings), "wrong")
    assert wrong.startswith("an ingest of 2024-01-01 to 2024-01-10 stops: 6 of 10 partitions are refused, and 50% may")
    (wrong,) = told(made(no_numbers), "wrong")
    assert "too much could not be read: 10 of 100 rows of tickets" in wrong


def test_keys_that_come_again_within_what_may_be_set_aside_stop_nothing(made: Made) -> None:
    """Of two events with one key the first is published: one row is set aside and not two."""
    problem = made(three_keys_again, validation={"max_quarantined_share": 0.1, "shape": None})
    assert told(problem, "odd") == [
        "events: 3 of 100 rows are set aside: ticket: names an event of another time already"
    ]
    assert told(problem, "wrong") == []


def test_faults_of_queries_and_rules_are_told_together(made: Made) -> None:
    problem = made(validation={"rules": {"cheap": "prise < 9"}})
    (problem.folder / "events.sql").write_text(
        "SELECT ticket, sold_at AS event_time, cost AS price, colour FROM tickets"
    )
    (problem.folder / "labels.sql").write_text("SELECT ticket FROM outcomes")
    faults = "\n".join(map(str, check_sources(problem)))
    for fault in ("cost", "labels.sql", "prise"):
        assert fault in faults
