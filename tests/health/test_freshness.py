"""A source is behind where it lags by more than is usual for it; a table of lookups never is."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines import stages
from pipelines.errors import DataError
from pipelines.handoffs.ingestion import Reach, Reading
from pipelines.health import kept
from pipelines.health.document import Health, SourceFresh, SourceReach
from pipelines.health.freshness import freshness, in_words, reaches, with_reach
from pipelines.health.kept import derived, keep
from pipelines.problem import Problem
from tests.conftest import ToyProblem

FIRST = datetime(2024, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)


def followed(problem: Problem, lags: Sequence[timedelta | None], columns: str | None = "at") -> tuple[SourceReach, ...]:
    """What is known of the source `kettles` that lagged by so much at the end of each day; None: no row was read."""
    known: tuple[SourceReach, ...] = ()
    for day, lag in enumerate(lags):
        until = FIRST + (day + 1) * DAY
        reading = Reading(problem.partitions.shift("2024-01-01", day), until, None if lag is None else until - lag)
        known = with_reach(problem, known, {"kettles": Reach(columns, [reading])})
    return known


def hours(*lags: float) -> list[timedelta]:
    return [timedelta(hours=lag) for lag in lags]


def state(problem: Problem, known: Sequence[SourceReach]) -> SourceFresh:
    (source,) = freshness(problem, known)
    return source


@pytest.fixture
def problem(toy: ToyProblem) -> Problem:
    return toy()


def test_a_source_that_stops_is_behind_and_stays_so(problem: Problem) -> None:
    usual = hours(*[1, 2, 1, 1, 2, 1, 1, 1, 1])
    assert not state(problem, followed(problem, usual)).is_behind
    stopped = [*usual, timedelta(hours=5)]
    source = state(problem, followed(problem, stopped))
    assert source.is_behind and source.allowed_s == 4 * 3600, "twice what it lagged by at most"
    for days in (1, 30, 300):
        stood = state(
            problem, followed(problem, [*stopped, *(timedelta(hours=5) + day * DAY for day in range(1, days))])
        )
        assert stood.is_behind and stood.newest == source.newest, "however long ago that was"
    assert not state(problem, followed(problem, [*stopped, *hours(1)])).is_behind, "it goes on"


def test_a_source_with_its_own_pace_is_not_behind_by_it(problem: Problem) -> None:
    """Nothing comes on weekends; twelve weeks are longer than is kept."""
    week = hours(7, 7, 7, 7, 7, 31, 55)
    for day in range(7, 7 * 12):
        assert not state(problem, followed(problem, (week * 12)[: day + 1])).is_behind, day
    holidays = [*week * 3, *hours(7, 7, 31, 55, 79, 103)]
    assert not state(problem, followed(problem, holidays)).is_behind
    assert state(problem, followed(problem, [*holidays, *hours(127)])).is_behind


@given(st.lists(st.integers(0, 40), min_size=1, max_size=3), st.integers(1, 60))
def test_a_table_that_seldom_or_never_goes_on_is_never_behind(toy: ToyProblem, steps: list[int], days: int) -> None:
    """Lookups without times, or with some of long ago, of which few are added."""
    problem, newest, lags = toy(), FIRST - 400 * DAY, []
    for day in range(days):
        newest += DAY * (day in steps[:2])
        lags.append(FIRST + (day + 1) * DAY - newest)
    assert not state(problem, followed(problem, lags)).is_behind
    source = state(problem, followed(problem, [None] * days, columns=None))
    assert (source.is_behind, reaches(source)) == (False, "no times")


def test_a_source_that_is_read_by_time_is_behind_once_nothing_of_it_is_read(toy: ToyProblem) -> None:
    """Before its pace is known: a partition, the lookback and the labels' delay are what it may lag by."""
    column = {"path": "k.csv", "columns": {"id": "string", "at": "timestamp"}, "time_column": "at", "lookback_days": 1}
    problem = toy(sources={"kettles": column})
    lag = timedelta(days=2 + problem.labels.delay_days)
    source = state(problem, followed(problem, [timedelta(), *[None] * (lag.days + 1)]))
    assert source.is_behind and source.newest == FIRST + DAY
    nothing = state(problem, followed(problem, [None, None]))
    assert (nothing.is_behind, reaches(nothing)) == (False, "no row yet")


def test_deliveries_are_no_times_and_have_a_pace_of_their_own(toy: ToyProblem, store_folder: Path) -> None:
    days = toy()
    problem = days.model_copy(update={"partitions": days.partitions.model_copy(update={"every": "delivery"})})
    known: tuple[SourceReach, ...] = ()
    for number in range(1, 12):
        at = FIRST + number * DAY
        known = with_reach(problem, known, {"kettles": Reach("at", [Reading(f"d{number:05}", at, at - DAY)])})
        assert not state(problem, known).is_behind
    known = with_reach(problem, known, {"kettles": Reach("at", [Reading("d00012", at + 5 * DAY, at)])})
    source = state(problem, known)
    assert source.is_behind
    words = in_words(source, keep(problem).model_copy(update={"sources": (source,)}))
    assert words == "stopped at 2024-01-12 00:00, 5 days before the last ingest; up to 48 hours would be usual"


def test_what_is_known_of_sources_is_kept_and_goes_on(problem: Problem, store_folder: Path) -> None:
    until = FIRST + DAY
    read = {"kettles": Reach("at", [Reading("2024-01-01", until, until - DAY / 24)], arrived=until)}
    health = keep(problem, read)
    assert [(source.name, source.newest) for source in health.sources] == [("kettles", until - DAY / 24)]
    assert keep(problem).sources == derived(problem).sources == health.sources, "who reads nothing forgets nothing"
    other = {"kettles": Reach("boiled_at", [Reading("2024-01-02", until + DAY, None)])}
    (source,) = keep(problem, other).sources
    assert (source.columns, source.newest, source.arrived) == ("boiled_at", None, until), "another column's times"
    assert keep(problem, {"gone": Reach(None)}).sources == (source,), "a source that the problem no longer has"


def test_sources_are_told_of_where_nothing_is_published(problem: Problem, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[object] = []
    read = {"kettles": Reach("at", [Reading("2024-01-01", FIRST + DAY, None)])}
    rows = dict.fromkeys(["events", "labels", "rejected", "late", "read"], 0)
    handed_on = {"first": "2024-01-01", "last": "2024-01-01", **rows, "outside_of": {}, "sources": {}, "reach": read}

    def refused(problem_name: str, extracted: object) -> None:
        raise DataError("no rows", where="here", cure="wait")

    monkeypatch.setattr(stages, "function_of", lambda name: refused)
    monkeypatch.setattr(kept, "try_to_keep", lambda *given: told.append(given))
    with pytest.raises(DataError):
        stages.stage("ingest.validate")("kettle", handed_on)
    assert told == [("kettle", read)]


def test_words_beside_other_sources(toy: ToyProblem, store_folder: Path) -> None:
    places = {name: {"path": f"{name}.csv"} for name in ("weather", "flights", "planes")}
    problem = toy(sources=places)
    until = datetime(2013, 12, 31, tzinfo=UTC)
    usual = {"columns": "time_hour", "arrived": None, "partition": "2013-12-30", "until": until, "allowed_s": 7200.0}
    weather = SourceFresh(name="weather", newest=until - timedelta(hours=41), **usual)
    flights = SourceFresh(name="flights", newest=until - timedelta(hours=1), **usual)
    planes = SourceFresh(name="planes", newest=None, **{**usual, "columns": None, "arrived": until})
    health: Health = keep(problem).model_copy(update={"sources": (weather, flights, planes)})
    assert [source.is_behind for source in health.sources] == [True, False, False]
    assert in_words(weather, health) == (
        "stopped at 2013-12-29 07:00, 40 hours before flights, 41 hours before the end of the day 2013-12-30; "
        "up to 2 hours would be usual"
    )
    trains = flights.model_copy(update={"name": "trains"})
    more = health.model_copy(update={"sources": (*health.sources, trains)})
    assert "40 hours before the others" in in_words(weather, more)
    assert [reaches(source) for source in (flights, planes)] == [
        "2013-12-30 23:00",
        "no times",
    ]
