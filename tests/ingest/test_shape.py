from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.ingest.shape import LARGEST, PartitionShape, shape_refusals, shape_rules, shapes
from pipelines.ingest.shape.units import changes_of, tenfold
from pipelines.problem import Problem

ToyProblem = Callable[..., Problem]
Columns = dict[str, np.ndarray]
NUMBER = {"type": "float", "available": "cutoff"}
WEATHER = {f"columns.{name}": NUMBER for name in ("temp", "dew", "humid", "glow")}
ROWS, PAST = 400, 6


def key(day: int) -> str:
    return (date(2024, 1, 1) + timedelta(days=day)).isoformat()


def made(seed: int, rows: int = ROWS, warmth: float = 60.0) -> Columns:
    """A kettle each row, in a room whose dew point follows from warmth and humidity; the lamps mostly do not glow."""
    rng = np.random.default_rng(seed)
    temp, humid = rng.normal(warmth, 8, rows), np.clip(rng.normal(60, 12, rows), 5, 100)
    return {
        "shelf": np.where(rng.random(rows) < 0.6, "top", "bottom").astype(object),
        "litres": rng.gamma(4, 0.5, rows),
        "age": rng.poisson(6, rows).astype(float),
        "temp": temp,
        "dew": temp - (100 - humid) / 3 + rng.normal(0, 1, rows),
        "humid": humid,
        "glow": np.where(rng.random(rows) < 0.8, 0.0, rng.exponential(1, rows)),
        "second": rng.uniform(0, 86_400, rows),
    }


def events(problem: Problem, day: int, columns: Columns) -> pa.Table:
    """One partition; a NaN is a gap."""
    rows, kinds = len(columns["second"]), {"string": pa.string(), "integer": pa.int64(), "float": pa.float64()}
    times = np.datetime64(key(day), "us") + (columns["second"] * 1e6).astype("timedelta64[us]")
    table = {
        "kettle_id": (day * 1_000_000 + np.arange(rows)).astype(str),
        "partition": np.full(rows, key(day)),
        "event_time": pa.array(times).cast(pa.timestamp("us", "UTC")),
    }
    for name, column in problem.columns.items():
        table[name] = pa.array(columns[name], from_pandas=True).cast(kinds[column.type])
    return pa.table(table)


def seen(problem: Problem, days: dict[int, Columns]) -> dict[str, PartitionShape]:
    return shapes(problem, "events", pa.concat_tables([events(problem, day, one) for day, one in days.items()]))


def suspicious(
    problem: Problem, before: dict[str, PartitionShape], batch: dict[str, PartitionShape]
) -> dict[str, set[str]]:
    """Partition -> rules that it breaks; partitions that break none are left out."""
    found: dict[str, set[str]] = {}
    for rule in shape_rules(problem, before, batch):
        for broken in rule.failed:
            found.setdefault(broken, set()).add(rule.name)
    return found


def judged(problem: Problem, columns: Columns, past: dict[str, PartitionShape]) -> set[str]:
    """Rules that a partition with these columns breaks after `past`."""
    return suspicious(problem, past, seen(problem, {PAST: columns})).get(key(PAST), set())


@pytest.fixture(scope="session")
def weather(toy: ToyProblem) -> Problem:
    return toy(**WEATHER)


@pytest.fixture(scope="session")
def past(weather: Problem) -> dict[str, PartitionShape]:
    return seen(weather, {day: made(day) for day in range(PAST)})


# Each rule ------------------------------------------------------------------------------------------------


def swapped(columns: Columns, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).permutation(columns["dew"])


HARMS: dict[str, tuple[Callable[[Columns], dict[str, Any]], str, set[str]]] = {
    "another distribution": (lambda c: {"litres": c["litres"] ** 2}, "litres: other values", {"litres"}),
    "one value for all": (lambda c: {"litres": np.full(ROWS, 2.0)}, "litres: frozen", {"litres"}),
    "nearly one value": (lambda c: {"litres": 2 + c["litres"] / 50}, "litres: frozen", {"litres"}),
    "gaps": (
        lambda c: {"litres": np.where(np.arange(ROWS) % 4, c["litres"], np.nan)},
        "litres: missing values",
        {"litres"},
    ),
    "no value at all": (lambda c: {"dew": np.full(ROWS, np.nan)}, "dew: missing values", {"dew"}),
    "a category renamed": (
        lambda c: {"shelf": np.where(c["shelf"] == "top", "TOP", c["shelf"])},
        "shelf: other values",
        {"shelf"},
    ),
    "a category gone": (lambda c: {"shelf": np.full(ROWS, "top", object)}, "shelf: other values", {"shelf"}),
    "mostly one value, and then another": (
        lambda c: {"glow": np.where(c["glow"] == 0, 1.0, c["glow"])},
        "glow: other values",
        {"glow"},
    ),
    "all events at one hour": (lambda c: {"second": c["second"] / 24}, "(hour of the event): other values", {"(hour"}),
    "values of other rows": (
        lambda c: {"dew": swapped(c)},
        "dew: out of step with the other columns",
        {"dew", "temp", "humid"},
    ),
    "half of the rows in another unit": (
        lambda c: {"temp": np.where(np.arange(ROWS) % 2, c["temp"], c["temp"] - 18)},
        "temp: other values",
        {"temp"},
    ),
    "yesterday's rows": (lambda c: made(PAST - 1) | {"second": c["second"]}, "rows that were there before", {"rows"}),
}


@pytest.mark.parametrize("harm", HARMS)
def test_what_happens_to_a_feed_is_seen_and_named(weather: Problem, past: dict[str, PartitionShape], harm: str) -> None:
    change, rule, touched = HARMS[harm]
    columns = made(PAST)
    assert judged(weather, columns, past) == set()
    found = judged(weather, columns | change(columns), past)
    assert rule in found
    assert {name.split(":")[0].split(" ")[0] for name in found} <= touched, "what is sound is not accused"


@pytest.mark.parametrize("declared", ["degF", "mph", "foot", "lb", "inHg", "minute", ""])
def test_a_change_of_units_is_named(toy: ToyProblem, past: dict[str, PartitionShape], declared: str) -> None:
    """One of the declared unit's kind; without one a change by ten or more, which nothing else looks like."""
    problem, columns = toy(**WEATHER | {"columns.temp": NUMBER | {"unit": declared}}), made(PAST)
    changes, is_declared = changes_of(declared)
    changed = {
        PAST + 2 * place + back: columns
        | {"temp": (columns["temp"] - offset) / factor if back else columns["temp"] * factor + offset}
        for place, (factor, offset) in enumerate(changes.values())
        for back in (0, 1)
    }
    wanted = [unit for unit in changes for _ in ("there", "back")]
    for (name, shape), unit in zip(seen(problem, changed).items(), wanted, strict=True):
        found = suspicious(problem, past, {name: shape})[name]
        named = {rule for rule in found if "other unit" in rule}
        is_told = is_declared or unit in tenfold(changes)
        assert named == ({f"temp: other unit ({unit})"} if is_told else set())
        assert found - named, "what is named is refused anyway"


def test_another_level_is_no_other_unit(weather: Problem, past: dict[str, PartitionShape]) -> None:
    columns = made(PAST)
    found = judged(weather, columns | {"litres": columns["litres"] + 30}, past)
    assert "litres: other values" in found
    assert not any("unit" in name for name in found)


def test_a_relation_shows_what_the_columns_by_themselves_do_not(
    weather: Problem, past: dict[str, PartitionShape]
) -> None:
    columns = made(PAST)
    found = judged(weather, columns | {"dew": swapped(columns)}, past)
    assert not any("other values" in name for name in found)
    warm = made(PAST, warmth=80)
    assert not any("out of step" in name for name in judged(weather, warm, past)), "warmth moves all together"


@pytest.mark.parametrize("rows", [ROWS // 20, ROWS * 20])
def test_another_number_of_rows_is_seen(weather: Problem, past: dict[str, PartitionShape], rows: int) -> None:
    assert judged(weather, made(PAST, rows), past) == {"number of rows"}


def test_rows_that_come_twice_are_seen(weather: Problem, past: dict[str, PartitionShape]) -> None:
    twice = np.arange(ROWS) // 2
    assert "rows that say the same" in judged(
        weather, {name: column[twice] for name, column in made(PAST).items()}, past
    )


def test_a_rounded_number_in_another_unit_lies_between_the_known_values(toy: ToyProblem) -> None:
    problem = toy(**{"columns.temp": NUMBER})

    def rounded(day: int) -> Columns:
        return made(day) | {"temp": np.round(made(day)["temp"] / 4) * 4}

    before = seen(problem, {day: rounded(day) for day in range(PAST)})
    moved = rounded(PAST) | {"temp": rounded(PAST)["temp"] + 1.5}
    assert judged(problem, rounded(PAST), before) == set()
    assert "temp: values between the known ones" in judged(problem, moved, before)


def test_the_weekday_counts_where_partitions_are_weeks(toy: ToyProblem) -> None:
    weeks = toy(**{"partitions.every": "week", "columns.age": {"type": "integer", "available": "cutoff"}})

    def rows(week: int, days: np.ndarray) -> Columns:
        return made(week) | {"second": 86_400 * days + 43_200.0}

    days = np.arange(ROWS) % 7
    before = seen(weeks, {7 * week: rows(week, days) for week in range(4)})
    assert suspicious(weeks, before, seen(weeks, {28: rows(4, days)})) == {}
    lost = suspicious(weeks, before, seen(weeks, {28: rows(4, days % 2)}))
    assert "(weekday of the event): a value is gone" in lost[key(28)]
    holiday = suspicious(weeks, before, seen(weeks, {28: rows(4, days % 6)}))
    assert holiday == {}, "one day without rows is no fault of a week"
    assert not any("weekday" in name for name in seen(toy(), {0: made(0)})[key(0)].columns)


def test_hours_are_those_of_the_problems_time_zone(toy: ToyProblem) -> None:
    """On 10 March 2024 the clocks of New York go forward: in UTC the same hours are others, at home they are not."""
    times = [datetime(2024, 3, day, hour, tzinfo=UTC) for day, hour in ((8, 14), (12, 13)) for _ in range(3)]
    table = events(toy(), 0, made(0, 6)).set_column(2, "event_time", pa.array(times, pa.timestamp("us", "UTC")))
    table = table.set_column(1, "partition", pa.array(["a"] * 3 + ["b"] * 3))
    for zone, is_same in (("America/New_York", True), ("UTC", False)):
        found = shapes(toy(**{"partitions.timezone": zone}), "events", table)
        hours = [one.columns["(hour of the event)"].shares for one in found.values()]
        assert np.array_equal(*hours) is is_same


def daily(seed: int, late: float = 0.0, swing: float = 10.0) -> Columns:
    """Coldest at midnight; the level and the height of the wave differ from day to day."""
    columns, rng = made(seed), np.random.default_rng(1000 + seed)
    angle = 2 * np.pi * (columns["second"] / 3600 - late) / 24
    warmer = rng.normal(0, 2) - swing * rng.uniform(0.7, 1.3) * np.cos(angle)
    return columns | {"temp": columns["temp"] + warmer, "dew": columns["dew"] + warmer}


@pytest.fixture(scope="module")
def rhythmic(weather: Problem) -> dict[str, PartitionShape]:
    return seen(weather, {day: daily(day) for day in range(PAST + 6)})


@pytest.mark.parametrize(("late", "clock"), [(5.0, "[4567]"), (12.0, "1[012]"), (18.0, "[567]")])
def test_a_feed_whose_clock_is_off_is_out_of_step_with_the_hour(
    weather: Problem, rhythmic: dict[str, PartitionShape], late: float, clock: str
) -> None:
    (found,) = judged(weather, daily(PAST, late), dict(list(rhythmic.items())[:PAST]))
    assert re.fullmatch(rf"numbers out of step with the hour \(temp, dew: as if by a clock {clock} hours off\)", found)


def test_numbers_that_no_longer_know_the_hour_are_out_of_step_with_it(
    toy: ToyProblem, weather: Problem, rhythmic: dict[str, PartitionShape]
) -> None:
    before, columns = dict(list(rhythmic.items())[:PAST]), daily(PAST)
    mixed = columns | {"second": np.random.default_rng(0).permutation(columns["second"])}
    (found,) = judged(weather, mixed, before)
    assert found == "numbers out of step with the hour (temp, dew: as if of any hour)"
    ignoring = {"validation.shape": {"ignore": ["numbers out of step with the hour"]}}
    assert judged(toy(**WEATHER, **ignoring), mixed, before) == set()


def test_a_rhythm_that_differs_from_day_to_day_is_no_fault(
    weather: Problem, rhythmic: dict[str, PartitionShape]
) -> None:
    every = list(rhythmic.items())
    for few in (3, PAST):
        assert suspicious(weather, dict(every[:few]), dict(every[few:])) == {}


def test_what_is_mostly_zero_may_come_in_another_unit(toy: ToyProblem, past: dict[str, PartitionShape]) -> None:
    weather, columns = toy(**WEATHER | {"columns.glow": NUMBER | {"unit": "inch"}}), made(PAST)
    for factor in (25.4, 1 / 25.4):
        found = judged(weather, columns | {"glow": columns["glow"] * factor}, past)
        assert any(rule.startswith("glow: other unit (") for rule in found), "one of the factors that are near"
    assert "glow: values of another size" in judged(weather, columns | {"glow": columns["glow"] * 1e5}, past)


def test_a_day_with_hardly_a_glow_says_nothing_about_units(weather: Problem, past: dict[str, PartitionShape]) -> None:
    columns = made(PAST)
    for rows in (0, 3, 9):
        glow = np.where(np.arange(ROWS) < rows, 0.001, 0.0)
        assert not any("unit" in rule or "size" in rule for rule in judged(weather, columns | {"glow": glow}, past))


# Labels ---------------------------------------------------------------------------------------------------


def labelled(day: int, values: np.ndarray) -> pa.Table:
    names = [f"{key(day)}/{row}" for row in range(len(values))]
    return pa.table({"kettle_id": names, "partition": [key(day)] * len(names), "label": values})


CLASSES = np.array(["boils", "spills", "rests"])
LABELS: dict[str, tuple[dict[str, Any], Callable[..., np.ndarray], Callable[..., np.ndarray], str]] = {
    "binary": ({}, lambda rng: (rng.random(ROWS) < 0.2).astype(np.int8), lambda y: 1 - y, "label: classes swapped"),
    "multiclass": (
        {
            "task": "multiclass",
            "labels.classes": CLASSES.tolist(),
            "gate.limits": {"accuracy": {"min": 0}},
            "features.history": {},
        },
        lambda rng: CLASSES[rng.integers(0, 3, ROWS)],
        lambda y: np.full(ROWS, "boils"),
        "label: one value for all",
    ),
    "regression": (
        {
            "task": "regression",
            "training.select_by": "rmse",
            "gate.limits": {"rmse": {"max": 9}},
            "gate.gain_over_baselines": {"rmse": 0},
            "gate.gain_over_champion": {"rmse": 0},
            "gate.slices": None,
        },
        lambda rng: rng.normal(20, 4, ROWS),
        lambda y: y * 60,
        "label: other unit (a factor of 60)",
    ),
}


@pytest.mark.parametrize("task", LABELS)
def test_labels_are_held_against_those_before(toy: ToyProblem, task: str) -> None:
    changes, draw, harm, rule = LABELS[task]
    problem = toy(**changes)
    values = [draw(np.random.default_rng(day)) for day in range(6)]
    before = shapes(problem, "labels", pa.concat_tables([labelled(day, values[day]) for day in range(5)]))
    assert suspicious(problem, before, shapes(problem, "labels", labelled(5, values[5]))) == {}
    found = suspicious(problem, before, shapes(problem, "labels", labelled(5, harm(values[5]))))
    assert rule in found[key(5)]
    assert {name.split(":")[0] for name in found[key(5)]} == {"label"}


SHIFTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "binary": lambda y: np.where(np.arange(ROWS) % 2, y, np.int8(1)),
    "multiclass": lambda y: np.where(y == "boils", "spills", y),
    "regression": lambda y: y * 2.54 + 20,
}


@pytest.mark.parametrize("task", LABELS)
def test_labels_may_shift_with_the_world(toy: ToyProblem, task: str) -> None:
    """A day of snow: what a model is trained again for is no fault of the feed."""
    changes, draw, _, _ = LABELS[task]
    problem = toy(**changes)
    values = [draw(np.random.default_rng(day)) for day in range(6)]
    before = shapes(problem, "labels", pa.concat_tables([labelled(day, values[day]) for day in range(5)]))
    assert suspicious(problem, before, shapes(problem, "labels", labelled(5, SHIFTS[task](values[5])))) == {}


def test_labels_in_another_unit_of_the_declared_kind_are_a_fault(toy: ToyProblem) -> None:
    changes, draw, _, _ = LABELS["regression"]
    values = [draw(np.random.default_rng(day)) for day in range(6)]
    for unit, refused in (("degC", {"label: other unit (degrees Fahrenheit and Celsius)"}), ("", set())):
        problem = toy(**changes | {"labels.unit": unit})
        before = shapes(problem, "labels", pa.concat_tables([labelled(day, values[day]) for day in range(5)]))
        hot = shapes(problem, "labels", labelled(5, values[5] * 9 / 5 + 32))
        assert suspicious(problem, before, hot).get(key(5), set()) == refused


def test_labels_of_which_next_to_none_is_another_are_a_fault(toy: ToyProblem) -> None:
    """Delays that came in hours: two rows are late by more than fifteen of them."""
    problem, draws = toy(), LABELS["binary"][1]
    before = shapes(
        problem, "labels", pa.concat_tables([labelled(day, draws(np.random.default_rng(day))) for day in range(5)])
    )
    for positive, refused in ((2, {"label: one value for all"}), (20, set())):
        few = (np.arange(ROWS) < positive).astype(np.int8)
        assert suspicious(problem, before, shapes(problem, "labels", labelled(5, few))).get(key(5), set()) == refused


def test_one_label_for_all_is_no_fault_where_others_are_rare(toy: ToyProblem) -> None:
    problem = toy()
    rare = [(np.random.default_rng(day).random(ROWS) < 0.01).astype(np.int8) for day in range(5)]
    before = shapes(problem, "labels", pa.concat_tables([labelled(day, rare[day]) for day in range(5)]))
    assert suspicious(problem, before, shapes(problem, "labels", labelled(5, np.zeros(ROWS, np.int8)))) == {}


def test_readings_that_follow_each_other_tell_less_than_as_many_of_their_own(toy: ToyProblem) -> None:
    """A sensor's day is far from the other days by chance; as many readings that owe each other nothing are not."""
    problem = toy(**{"columns.temp": NUMBER})

    def slow(day: int) -> Columns:
        columns, rng = made(day), np.random.default_rng(500 + day)
        level, temp = 0.0, np.empty(ROWS)
        for place in range(ROWS):
            level = 0.99 * level + rng.normal(0, 1.1)
            temp[place] = 60 + level
        return columns | {"temp": temp, "second": np.linspace(0, 86_000, ROWS)}

    def shuffled(day: int) -> Columns:
        columns = slow(day)
        return columns | {"temp": np.random.default_rng(day).permutation(columns["temp"])}

    found = {}
    for make in (slow, shuffled):
        parts = seen(problem, {day: make(day) for day in range(PAST)})
        found[make] = [shape.columns["temp"].independent for shape in parts.values()]
    assert max(found[slow]) < 20 and min(found[shuffled]) > ROWS / 2


# No false alarm -------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(("days", "rows", "drift"), [(3, ROWS, 0), (8, ROWS, 0), (8, ROWS, 0.5), (8, 15, 0)])
def test_sound_partitions_are_hardly_ever_suspected(weather: Problem, days: int, rows: int, drift: float) -> None:
    """`drift`: the level of temp and dew differs from partition to partition, in their standard deviations."""
    length, suspected = days + 2, []
    levels = 60 + 8 * drift * np.random.default_rng(0).normal(size=10 * length)
    every = list(seen(weather, {day: made(day, rows, level) for day, level in enumerate(levels)}).items())
    for start in range(0, len(every), length):
        before, batch = every[start : start + days], every[start + days : start + length]
        suspected += list(suspicious(weather, dict(before), dict(batch)).values())
    assert len(suspected) <= (1 if drift else 0), suspected  # of 20


@pytest.mark.parametrize("rows", [1, 2, 5, 20])
def test_a_small_partition_is_odd_in_nothing_but_its_size(
    weather: Problem, past: dict[str, PartitionShape], rows: int
) -> None:
    batch = seen(weather, {PAST + seed: made(100 + seed, rows) for seed in range(20)})
    for name, shape in batch.items():
        assert suspicious(weather, past, {name: shape}).get(name, set()) <= {"number of rows"}


def test_a_season_that_goes_on_is_no_fault(weather: Problem) -> None:
    every = list(seen(weather, {day: made(day, warmth=40 + 3 * day) for day in range(14)}).items())
    assert suspicious(weather, dict(every[:8]), dict(every[8:])) == {}


def test_calendar_columns_may_change_with_the_calendar(toy: ToyProblem) -> None:
    """Month, holiday, season, weekday: one value a day, another one from some day on."""
    text, flag = ({"type": kind, "available": "cutoff"} for kind in ("string", "integer"))
    columns = {"columns.month": flag, "columns.season": text, "columns.is_holiday": flag, "columns.weekday": text}
    for every, days in (("day", 1), ("week", 7)):
        problem = toy(**columns, **{"partitions.every": every})

        def rows(partition: int, days: int = days) -> Columns:
            base = made(partition)
            day = np.arange(ROWS) % days
            date = partition * days + day
            return base | {
                "second": 86_400 * day + base["second"],
                "month": 1.0 + date // 30,
                "season": np.where(date // 30 % 2, "wet", "dry").astype(object),
                "is_holiday": (date % 40 == 39).astype(float),
                "weekday": np.array(["Mo", "Tu", "We", "Th", "Fr", "Sa", "Su"], object)[date % 7],
            }

        world = seen(problem, {days * number: rows(number) for number in range(90 // days)})
        assert suspicious(problem, {}, world) == {}, every


def test_a_partition_of_one_row_a_day_tells_nothing_of_the_calendar(toy: ToyProblem) -> None:
    """A week with hardly a storm does not make the month a number that may not change."""
    flag = {"type": "integer", "available": "cutoff"}
    problem = toy(**{"columns.month": flag, "partitions.every": "week"})

    def rows(week: int, month: int, count: int = ROWS) -> Columns:
        days = np.arange(count) % 7
        return made(week, count) | {"month": np.full(count, float(month)), "second": 86_400 * days + 43_200.0}

    before = {7 * week: rows(week, 9) for week in range(5)} | {35: rows(5, 9, 3)}
    october = seen(problem, {42: rows(6, 10)})
    found = suspicious(problem, seen(problem, before), october).get(key(42), set())
    assert not any("month" in rule for rule in found)


def test_a_price_is_not_measured_in_miles(toy: ToyProblem) -> None:
    """Two levels that differ by 2.2, as pounds and kilograms do, or miles an hour and metres a second."""
    for unit, is_named in (("euro", False), ("kg", True)):
        problem = toy(**{"columns.litres.unit": unit})
        every = seen(
            problem,
            {day: made(day) | {"litres": made(day)["litres"] / (2.2 if day == PAST else 1)} for day in range(PAST + 1)},
        )
        (found,) = suspicious(problem, {}, every).values()
        assert "litres: other values" in found
        assert ("litres: other unit (pounds and kilograms)" in found) is is_named
        assert is_named or not any("unit" in rule for rule in found)


def test_the_units_of_a_columns_kind_are_thought_of_before_it_is_odd_by_itself(toy: ToyProblem) -> None:
    """After levels that moved much, half the way that is suspicious: only who knows the unit may refuse it."""
    levels = [60, 70, 50, 80, 40, 90]
    for unit, found in (("degF", {"temp: other unit (degrees Fahrenheit and Celsius)"}), ("", set()), ("euro", set())):
        problem = toy(**{"columns.temp": NUMBER | {"unit": unit}})
        world = {day: made(day, warmth=level) for day, level in enumerate(levels)}
        celsius = made(PAST) | {"temp": (made(PAST, warmth=40)["temp"] - 32) * 5 / 9}
        named = judged(problem, celsius, seen(problem, world))
        assert {rule for rule in named if "unit" in rule or "other values" in rule} == found


def test_one_group_that_is_new_is_no_fault_and_exchanged_codes_are(toy: ToyProblem) -> None:
    codes = {f"columns.{name}": {"type": "string", "available": "cutoff"} for name in ("meal", "agent")}
    problem = toy(**codes)

    def rows(day: int, **changes: Any) -> Columns:
        rng = np.random.default_rng(day)
        agent = rng.integers(0, 12, ROWS)
        meal = (agent + rng.integers(0, 3, ROWS)) % 12
        names = {"agent": np.char.add("a", agent.astype(str)), "meal": np.char.add("m", meal.astype(str))}
        return made(day) | {name: value.astype(object) for name, value in names.items()} | changes

    before = seen(problem, {day: rows(day) for day in range(PAST)})
    group, is_one = rows(PAST), np.arange(ROWS) < ROWS // 5
    travellers = {"meal": np.where(is_one, "m9", group["meal"]), "agent": np.where(is_one, "a1", group["agent"])}
    assert judged(problem, group | travellers, before) == set()
    swap = {f"m{number}": f"m{(number + 6) % 12}" for number in range(12)}
    swapped_codes = {"meal": np.array([swap[one] for one in group["meal"]], object)}
    assert "(shelf with meal): combinations that there never were" not in judged(problem, group, before)
    assert "(meal with agent): combinations that there never were" in judged(problem, group | swapped_codes, before)


# Switches -------------------------------------------------------------------------------------------------

FROZEN = {"litres": np.full(ROWS, 2.0)}


def test_with_too_few_before_a_partition_is_not_judged(toy: ToyProblem) -> None:
    frozen = {day: made(day) | (FROZEN if day == 3 else {}) for day in range(4)}
    every = list(seen(toy(**WEATHER), frozen).items())
    for needed, found in ((3, {key(3)}), (4, set())):
        problem = toy(**WEATHER, **{"validation.shape": {"min_partitions": needed}})
        assert set(suspicious(problem, dict(every[:3]), dict(every[3:]))) == found
    assert shape_rules(problem, {}, dict(every)) == []
    assert shape_rules(toy(**WEATHER, **{"validation.shape": None}), dict(every[:3]), dict(every[3:])) == []


def test_an_accepted_partition_is_not_judged_and_the_next_is_held_against_it_too(
    toy: ToyProblem, past: dict[str, PartitionShape]
) -> None:
    problem = toy(**WEATHER, **{"validation.shape": {"accepted": [key(PAST)]}})
    hot = seen(problem, {PAST + day: made(PAST + day, warmth=140) for day in range(2)})
    assert set(suspicious(toy(**WEATHER), past, {key(PAST): hot[key(PAST)]})) == {key(PAST)}
    assert suspicious(problem, past, hot) == {}, "the world has changed"
    assert set(suspicious(problem, past, {key(PAST + 1): hot[key(PAST + 1)]})) == {key(PAST + 1)}, "only the named one"


def test_ignored_columns_may_look_as_they_like(toy: ToyProblem, past: dict[str, PartitionShape]) -> None:
    columns = made(PAST)
    for harm, ignored in (
        ({"litres": np.full(ROWS, np.nan)}, "litres"),
        (FROZEN, "litres"),
        ({"dew": swapped(columns)}, "dew"),  # the others are not held against it either
        ({"dew": columns["dew"] * 5 / 9 - 160 / 9}, "dew"),
        ({"second": columns["second"] / 24}, "(hour of the event)"),
        (made(PAST - 1), "rows that were there before"),
    ):
        problem = toy(**WEATHER, **{"validation.shape": {"ignore": [ignored]}})
        assert judged(toy(**WEATHER), columns | harm, past) != set()
        assert judged(problem, columns | harm, past) == set()


def test_the_tolerance_is_how_far_off_is_too_far(toy: ToyProblem) -> None:
    """After partitions whose level moves, one that lies further off than these from each other."""
    levels = [60, 64, 60, 64, 60, 80]
    every = list(seen(toy(**WEATHER), {day: made(day, warmth=level) for day, level in enumerate(levels)}).items())
    before, batch = dict(every[:5]), dict(every[5:])
    observed = {}
    for tolerance in (2.0, 4.0, 40.0):
        problem = toy(**WEATHER, **{"validation.shape": {"tolerance": tolerance}})
        rules = {rule.name: rule.observed[key(5)] or 0 for rule in shape_rules(problem, before, batch)}
        observed[tolerance] = rules["temp: other values"]
    assert observed[2.0] > observed[4.0] > observed[40.0]
    assert observed[2.0] > 1 > observed[40.0]


def test_as_many_partitions_are_looked_back_at_as_is_said(toy: ToyProblem) -> None:
    """Hot days lie six days back: who looks back far enough has seen such a one."""
    levels = [60, 90, 60, 60, 60, 60, 60, 90]
    every = list(seen(toy(**WEATHER), {day: made(day, warmth=level) for day, level in enumerate(levels)}).items())
    for back, found in ((4, {key(7)}), (8, set())):
        problem = toy(**WEATHER, **{"validation.shape": {"trailing_partitions": back}})
        assert set(suspicious(problem, dict(every[:7]), dict(every[7:]))) == found
        assert key(7) not in suspicious(problem, dict(every[:1]), dict(every[1:])) or found, "batches count as well"


def test_so_many_rows_may_be_repeated_as_is_said(toy: ToyProblem, past: dict[str, PartitionShape]) -> None:
    new, old = made(PAST), made(PAST - 1)
    is_old = np.arange(ROWS) < 0.7 * ROWS
    mixed = {name: np.where(is_old, old[name], new[name]) for name in new}
    for share, found in ((0.5, {"rows that were there before"}), (0.9, set())):
        problem = toy(**WEATHER, **{"validation.shape": {"max_repeated_share": share}})
        assert judged(problem, mixed, past) == found


def test_rows_that_always_come_again_are_no_news(toy: ToyProblem) -> None:
    """Few columns of few values: nearly each row was there before, in every partition."""
    problem = toy()

    def coarse(day: int) -> Columns:
        return made(day) | {"litres": np.round(made(day)["litres"])}

    every = list(seen(problem, {day: coarse(day) for day in range(PAST + 1)}).items())
    assert suspicious(problem, dict(every[:PAST]), dict(every[PAST:])) == {}


# Batches, and what is hard to look at ---------------------------------------------------------------------


def test_an_early_partition_of_a_batch_is_found_and_the_later_ones_are_not_blamed(
    toy: ToyProblem, past: dict[str, PartitionShape]
) -> None:
    weather = toy(**WEATHER | {"columns.temp": NUMBER | {"unit": "degF"}})
    world = {PAST + day: made(PAST + day) for day in range(4)}
    world[PAST] |= {"temp": (world[PAST]["temp"] - 32) * 5 / 9}
    found = suspicious(weather, past, seen(weather, world))
    assert set(found) == {key(PAST)}
    assert "temp: other unit (degrees Fahrenheit and Celsius)" in found[key(PAST)]


def test_without_rows_there_is_nothing_to_judge(weather: Problem, past: dict[str, PartitionShape]) -> None:
    none = events(weather, PAST, made(0)).slice(0, 0)
    assert shapes(weather, "events", none) == {}
    assert shape_rules(weather, past, {}) == []
    assert shape_rules(weather, {}, past) != [], "the first three of a batch are the past of the others"
    assert shape_rules(weather, {}, dict(list(past.items())[:1])) == []


GONE = np.full(ROWS, np.nan)


@pytest.mark.parametrize(
    "change",
    [
        {"litres": GONE},
        {"temp": GONE, "dew": GONE, "humid": GONE},
        {"litres": np.full(ROWS, 1.0)},
        {"shelf": np.full(ROWS, None)},
        {
            "litres": GONE,
            "age": GONE,
            "temp": GONE,
            "dew": GONE,
            "humid": GONE,
            "glow": GONE,
            "shelf": np.full(ROWS, None),
        },
    ],
    ids=["one missing", "related ones missing", "constant", "no category", "nothing"],
)
def test_columns_that_say_nothing_are_no_fault_where_they_never_did(weather: Problem, change: Columns) -> None:
    world = {day: made(day) | change for day in range(5)}
    every = list(seen(weather, world).items())
    sound = seen(weather, {5: made(5)})
    assert suspicious(weather, dict(every[:4]), dict(every[4:])) == {}
    shape_rules(weather, dict(every[:4]), sound)
    shape_rules(weather, sound | dict(every[:3]), dict(every[3:]))


def test_a_column_that_was_missing_once_is_still_held_to_the_others(weather: Problem) -> None:
    world = {day: made(day) | ({"dew": GONE} if day == 2 else {}) for day in range(6)}
    before = seen(weather, world)
    columns = made(PAST)
    assert judged(weather, columns, before) == set()
    assert "temp: out of step with the other columns" in judged(
        weather, columns | {"temp": np.random.default_rng(0).permutation(columns["temp"])}, before
    )


def test_a_problem_may_be_without_numbers(toy: ToyProblem) -> None:
    problem = toy(columns={"shelf": {"type": "string", "available": "cutoff"}}, features={"columns": ["shelf"]})
    every = list(seen(problem, {day: made(day, 50) for day in range(5)}).items())
    assert suspicious(problem, dict(every[:4]), dict(every[4:])) == {}


@pytest.mark.parametrize("value", [1e-300, 1e300, np.finfo(float).max, LARGEST])
def test_numbers_may_be_as_large_or_small_as_they_like(
    weather: Problem, past: dict[str, PartitionShape], value: float
) -> None:
    world = {day: made(day) | {"litres": made(day)["litres"] / 20 * value, "age": made(day)["age"]} for day in range(6)}
    every = list(seen(weather, world).items())
    assert suspicious(weather, dict(every[:5]), dict(every[5:])) == {}
    assert "litres: other values" in judged(weather, world[5], past)
    found = suspicious(weather, dict(every[:5]), seen(weather, {PAST: made(PAST)})).get(key(PAST), set())
    is_told_apart = value <= LARGEST  # beyond, all are cut alike: a column that has said nothing so far
    assert any(name.startswith("litres: ") for name in found) == is_told_apart


@settings(max_examples=3)
@given(st.integers(0, 2**32), st.integers(1, 60))
def test_the_order_of_rows_does_not_matter(weather: Problem, seed: int, rows: int) -> None:
    table = pa.concat_tables([events(weather, day, made(day, rows)) for day in range(5)])
    found = []
    for one in (table, table.take(np.random.default_rng(seed).permutation(table.num_rows))):
        every = list(shapes(weather, "events", one).items())
        rules = shape_rules(weather, dict(every[:4]), dict(every[4:]))
        found.append({rule.name: rule.observed[key(4)] for rule in rules})
    assert found[0] == pytest.approx(found[1], abs=1e-6)


def test_large_partitions_are_sampled_by_their_keys(
    weather: Problem, monkeypatch: pytest.MonkeyPatch, past: dict[str, PartitionShape]
) -> None:
    monkeypatch.setattr("pipelines.ingest.shape.measure.SAMPLED_ROWS", ROWS // 4)
    columns = made(PAST)
    first, second = (seen(weather, {PAST: columns})[key(PAST)] for _ in range(2))
    assert first.rows == ROWS
    assert 0 < first.columns["litres"].count < ROWS / 2
    assert np.array_equal(first.columns["litres"].values, second.columns["litres"].values)


# What a person is told ------------------------------------------------------------------------------------


def test_what_is_odd_is_told_with_the_worst_first(weather: Problem, past: dict[str, PartitionShape]) -> None:
    columns = made(PAST)
    harmed = columns | FROZEN | {"second": columns["second"] / 24}
    batch = seen(weather, {PAST: harmed, PAST + 1: made(PAST + 1)})
    found = shape_refusals(weather, "events", shape_rules(weather, past, batch))
    assert {one.partition for one in found} == {key(PAST)}
    assert found[0].rule == "litres: frozen"
    assert any("(hour of the event)" in one.reason for one in found)
    for one in found:
        words = one.reason.removeprefix(f"{one.rule} (")
        value, usual, limit = map(float, re.findall(r"^(\S+) .*, usual: up to (\S+), limit: (\S+)\)$", words)[0])
        assert usual <= limit <= value, "what was seen, what is usual, and what would have passed"
    assert found[0].where.endswith("events.sql")
    assert "validation.shape.accepted" in found[0].cure
    assert shape_refusals(weather, "events", shape_rules(weather, past, seen(weather, {PAST: columns}))) == []


def test_a_partition_that_is_refused_is_no_measure_for_those_after_it(
    weather: Problem, past: dict[str, PartitionShape]
) -> None:
    """A fault that lasts is refused as long as it lasts; and what comes after one that is over is not."""
    harmed = {PAST + day: made(PAST + day) | FROZEN for day in range(3)}
    batch = seen(weather, harmed | {PAST + 3: made(PAST + 3)})
    assert set(suspicious(weather, past, batch)) == {key(PAST + day) for day in range(3)}
    hot = seen(weather, {PAST + day: made(PAST + day, warmth=140) for day in range(2)})
    named = shape_rules(weather, past, hot, refused=[key(PAST)])
    assert {one for rule in named for one in rule.failed} == set(hot), "nor one that is refused for another reason"
