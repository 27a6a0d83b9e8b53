from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from pipelines import sql
from pipelines.artifacts import table_schema
from pipelines.dataset.label import (
    BY_THEMSELVES,
    Sizes,
    awaiting,
    carried,
    excluded,
    label,
    label_batches,
    label_number,
    labelled_counts,
    mature,
    pooled,
    splits,
    usual_wait,
    young,
)
from pipelines.dataset.waiting import waiting
from pipelines.errors import DataError
from pipelines.problem import Problem
from tests.examples import dear

ToyProblem = Callable[..., Problem]
Row = dict[str, Any]
START = datetime(2024, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
BEFORE = timedelta(microseconds=1)


def days(count: int) -> list[str]:
    return [(START + DAY * n).date().isoformat() for n in range(count)]


def happened(key: str, day: float, known: float | None = None, **more: Any) -> Row:
    """A statement about an event at `day`; times count days since the start."""
    time = START + DAY * day
    return {
        "kettle_id": key,
        "partition": time.date().isoformat(),
        "event_time": time,
        "known_time": time if known is None else START + DAY * known,
        "cutoff_time": time,
        "statement": 0,
        "superseded_time": None,
        "withdrawn_time": None,
        "shelf": "top",
        "litres": 1.0,
        "age": 1,
    } | more


def said(key: str, known: float, value: int, **more: Any) -> Row:
    return {
        "kettle_id": key,
        "partition": "2024-01-01",
        "event_time": START,
        "known_time": START + DAY * known,
        "label": value,
        "source": "natural",
        "confidence": 1.0,
        "labeler": "kettle",
        "superseded_time": None,
        "withdrawn_time": None,
    } | more


def events(problem: Problem, *rows: Row) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema=table_schema(problem, "events"))


def labels(problem: Problem, *rows: Row) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema=table_schema(problem, "labels"))


def one_a_day(problem: Problem, count: int) -> pa.Table:
    return events(problem, *(happened(f"k{n}", n) for n in range(count)))


def column(rows: pa.Table, name: str) -> dict[str, Any]:
    return dict(zip(rows["kettle_id"].to_pylist(), rows[name].to_pylist(), strict=True))


# Partitions ---------------------------------------------------------------------------------------------


def test_the_newest_mature_partitions_are_held_out(toy: ToyProblem) -> None:
    assert splits(toy(), "2024-01-05", days(9)) == {
        "2024-01-01": "train",
        "2024-01-02": "train",
        "2024-01-03": "validation",
        "2024-01-04": "test",
        "2024-01-05": "test",
    }


def test_small_partitions_are_pooled_until_validation_and_test_have_rows(toy: ToyProblem) -> None:
    problem, known = toy(), days(30)
    last, rows = known[-1], dict.fromkeys(known, 300)
    assert pooled(problem, last, known, rows) == Sizes(4, 4), "a thousand rows of 300 a day each"
    assert pooled(problem, last, known, dict.fromkeys(known, 5_000)) == Sizes(1, 2), "what dataset.split says at least"
    assert pooled(problem, last, known, dict.fromkeys(known, 1)) == Sizes(6, 6), "a fifth each, and no more"
    assert pooled(problem, last, days(9), rows) == Sizes(1, 2), "nothing of which a fifth is more"
    more = toy(**{"dataset.split": {"min_rows": 500, "validation_partitions": 3}})
    assert pooled(more, last, known, rows) == Sizes(3, 2)
    assert pooled(problem, last, known, rows | {known[-1]: 2_000}) == Sizes(4, 2), "validation lies before test"
    names = list(splits(problem, last, known, sizes=Sizes(4, 4)).values())
    assert names == [*["train"] * 22, *["validation"] * 4, *["test"] * 4]


def test_pooling_leaves_enough_to_learn_from_and_what_the_champion_knows_out_of_test(toy: ToyProblem) -> None:
    known, few = days(30), dict.fromkeys(days(30), 1)
    assert pooled(toy(), known[-1], known, few, after=known[-4]) == Sizes(6, 3), "three are new to the champion"
    assert pooled(toy(), known[-1], known, few, after=known[-1]) == Sizes(6, 2), "the gate says that this is not fair"
    late = toy(**{"labels.delay_days": 7})
    sizes = pooled(late, known[-1], known, few)
    names = list(splits(late, known[-1], known, sizes=sizes).values())
    assert names.count("train") >= sum(sizes) or sizes == Sizes(1, 2)
    assert pooled(toy(), known[-1], known, few, window_from=known[-8]) == Sizes(1, 2), (
        "three of eight is too little to learn from"
    )


@settings(max_examples=60, deadline=None)
@given(counts=st.lists(st.integers(0, 2_000), max_size=60), delay=st.integers(0, 5), held=st.sets(st.integers(1, 60)))
def test_any_pooling_is_a_split_that_the_least_one_would_have_been(
    toy: ToyProblem, counts: list[int], delay: int, held: set[int]
) -> None:
    problem, known = toy(**{"labels.delay_days": delay}), days(len(counts))
    rows, aside = dict(zip(known, counts, strict=True)), {key for n, key in enumerate(known) if n in held}
    last = known[-1] if known else "2024-01-01"
    sizes = pooled(problem, last, known, rows, held=aside)
    assert sizes.validation >= 1 and sizes.test >= 2
    try:
        splits(problem, last, known, held=aside)
    except DataError:
        return
    found = list(splits(problem, last, known, held=aside, sizes=sizes).values())
    assert (found.count("validation"), found.count("test")) == sizes
    assert sizes == Sizes(1, 2) or found.count("train") >= sum(sizes)


def test_labels_that_may_measure_are_counted(toy: ToyProblem) -> None:
    problem = toy()
    told = pa.table(
        {
            "kettle_id": ["a", "a", "b", "c", "d"],
            "partition": ["2024-01-01"] * 4 + ["2024-01-02"],
            "source": ["natural", "natural", "hand", "weak", "natural"],
            "known_time": pa.array([START, START, START, START, START + DAY * 9], pa.timestamp("us", "UTC")),
        }
    )
    assert labelled_counts(problem, told, told, START + DAY) == {"2024-01-01": 2}
    negative = toy(**{"labels.after_maturity": "negative"})
    assert labelled_counts(negative, told, told, START + DAY) == {"2024-01-01": 3}


def test_partitions_mature_when_their_labels_have_had_their_time(toy: ToyProblem) -> None:
    problem = toy(**{"labels.delay_days": 2})
    assert mature(problem, "2024-01-08", days(9)) == days(6)
    assert young(problem, "2024-01-08", days(9)) == ["2024-01-07", "2024-01-08"]
    slow = toy(**{"labels.delay_days": 2, "labels.maturity_days": 5})
    assert mature(slow, "2024-01-08", days(9)) == days(3)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(["UTC", "America/New_York", "Africa/Cairo"]),
    st.integers(0, 20),
    st.sets(st.integers(0, 400), max_size=30),
    st.integers(0, 400),
)
def test_the_mature_partitions_are_those_of_which_each_is_over_long_enough(
    toy: ToyProblem, timezone: str, wait: int, days: set[int], newest: int
) -> None:
    problem = toy(**{"partitions.timezone": timezone, "labels.maturity_days": wait})
    parts = problem.partitions
    keys = [parts.shift("2024-01-01", day) for day in days]
    partition = parts.shift("2024-01-01", newest)
    as_of = parts.end(partition)
    expected = [key for key in keys if key <= partition and parts.end(key) + timedelta(days=wait) <= as_of]
    assert mature(problem, partition, keys) == sorted(expected)
    assert young(problem, partition, keys) == sorted(key for key in keys if key <= partition and key not in expected)


def awaited(problem: Problem, targets: pa.Table, labels: pa.Table, as_of: datetime) -> list[str]:
    return awaiting(problem, targets, labels, as_of, usual_wait(problem, labels, as_of))


@pytest.mark.parametrize(
    ("took_days", "more", "expected"),
    [
        (0.5, {}, ["2024-01-06"]),
        (1.5, {}, ["2024-01-05", "2024-01-06"]),
        (0.1, {}, []),
        (0.5, {"labels": {"maturity_days": 1}}, []),
        (0.5, {"dataset": {"leaks": {"max_unlabelled_rise": 0.6}}}, []),
    ],
)
def test_a_partition_waits_for_the_labels_that_are_still_on_their_way(
    toy: ToyProblem, took_days: float, more: dict[str, Any], expected: list[str]
) -> None:
    problem = toy(**{"labels": {"maturity_days": None}, **more})
    hours = [(f"{day}-{hour}", day + hour / 24) for day in range(6) for hour in range(24)]
    as_of = START + DAY * 6
    came = [said(key, at + took_days, 1, event_time=START + DAY * at) for key, at in hours if at + took_days < 6]
    targets = events(problem, *(happened(key, at) for key, at in hours))
    assert awaited(problem, targets, labels(problem, *came), as_of) == expected


def test_hours_wait_for_labels_that_take_longer_than_sixty_of_them(toy: ToyProblem) -> None:
    problem = toy(labels={"maturity_days": None}, **{"partitions.every": "hour"})
    parts, took, count = problem.partitions, 72, 8 * 24
    hours = [(hour, parts.shift(parts.first_key, hour)) for hour in range(count)]
    filled = [happened(key, (hour + 0.5) / 24, partition=key) for hour, key in hours]
    boiled = [
        said(key, (hour + took + 0.5) / 24, 1, event_time=row["event_time"], partition=parts.shift(key, took))
        for (hour, key), row in zip(hours, filled, strict=True)
        if hour + took < count
    ]
    keys = [key for _, key in hours]
    late = waiting(problem, keys[-1], keys, events=events(problem, *filled), labels=labels(problem, *boiled))
    assert sorted(late) == keys[-took:]


def test_a_key_used_again_waits_for_the_label_of_its_own_event(toy: ToyProblem) -> None:
    problem = toy(labels={"maturity_days": None})
    hours = [(f"ticket {hour}", day + hour / 24) for day in range(6) for hour in range(24)]
    came = [said(key, at + 0.5, 1, event_time=START + DAY * at) for key, at in hours if at + 0.5 < 6]
    targets = events(problem, *(happened(key, at) for key, at in hours))
    assert awaited(problem, targets, labels(problem, *came), START + DAY * 6) == ["2024-01-06"]


def test_labels_that_are_lost_are_not_taken_for_late_ones(toy: ToyProblem) -> None:
    problem = toy(labels={"maturity_days": None})
    hours = [(f"{day}-{hour}", day + hour / 24) for day in range(6) for hour in range(24)]
    came = [said(key, at + 0.1, 1, event_time=START + DAY * at) for key, at in hours if at < 5.5]
    targets = events(problem, *(happened(key, at) for key, at in hours))
    assert awaited(problem, targets, labels(problem, *came), START + DAY * 6) == []


def test_an_embargo_leaves_gaps_in_which_the_labels_come_in(toy: ToyProblem) -> None:
    problem = toy(**{"labels.delay_days": 2})
    assert list(splits(problem, "2024-01-10", days(10)).values()) == [
        "train",
        "embargo",
        "embargo",
        "validation",
        "embargo",
        "embargo",
        "test",
        "test",
    ]
    plain = toy(**{"labels.delay_days": 2, "dataset.split": {"embargo": False}})
    assert list(splits(plain, "2024-01-10", days(10)).values()) == [*["train"] * 5, "validation", "test", "test"]


def test_weeks_whose_labels_take_a_week(toy: ToyProblem) -> None:
    problem = toy(**{"labels.delay_days": 7, "partitions.every": "week"})
    weeks = problem.partitions.between("2024-01-01", "2024-02-19")
    assert list(splits(problem, weeks[-1], weeks).values()) == [
        "train",
        "train",
        "embargo",
        "validation",
        "embargo",
        "test",
        "test",
    ]


def test_the_gap_is_as_long_as_labels_take_and_not_a_whole_partition(toy: ToyProblem) -> None:
    settings = {"labels.delay_days": 1, "partitions.every": "week"}
    problem = toy(**settings)
    weeks = problem.partitions.between("2024-01-01", "2024-02-19")
    assert list(splits(problem, weeks[-1], weeks).values()) == [
        "train",
        "train",
        "train",
        "validation",
        "validation",
        "test",
        "test",
    ]
    whole = ["train", "train", "embargo", "validation", "embargo", "test", "test"]
    assert list(splits(problem, weeks[-1], weeks, are_cut=False).values()) == whole
    negative = toy(**settings, **{"labels.after_maturity": "negative"})
    assert list(splits(negative, weeks[-1], weeks).values()) == whole, "that is known of a whole partition at once"


def test_a_change_of_clocks_makes_no_gap_of_whole_weeks_longer_or_shorter(toy: ToyProblem) -> None:
    settings = {"labels.delay_days": 7, "partitions.every": "week", "partitions.timezone": "America/New_York"}
    problem = toy(**settings, **{"partitions.last": "2024-12-30"})
    weeks = problem.partitions.between("2024-01-01", "2024-12-30")
    for last in range(9, len(weeks)):
        known = mature(problem, weeks[last], weeks)
        found = list(splits(problem, weeks[last], weeks).values())[-6:]
        assert found == ["train", "embargo", "validation", "embargo", "test", "test"], known[-1]


def test_a_hole_in_the_data_can_be_the_gap(toy: ToyProblem) -> None:
    problem = toy(**{"labels.delay_days": 1})
    assert splits(problem, "2024-01-09", ["2024-01-01", "2024-01-04", "2024-01-07", "2024-01-08"]) == {
        "2024-01-01": "train",
        "2024-01-04": "validation",
        "2024-01-07": "test",
        "2024-01-08": "test",
    }


def test_a_window_forgets_the_oldest(toy: ToyProblem) -> None:
    problem = toy(**{"dataset.window_partitions": 2})
    found = splits(problem, "2024-01-08", days(8))
    assert [day for day, split in found.items() if split == "train"] == ["2024-01-04", "2024-01-05"]
    assert min(found) == "2024-01-04"


def test_held_partitions_are_in_no_split_and_newer_ones_take_their_place(toy: ToyProblem) -> None:
    assert splits(toy(), "2024-01-07", days(9), held={"2024-01-06", "2024-01-02"}) == {
        "2024-01-01": "train",
        "2024-01-03": "train",
        "2024-01-04": "validation",
        "2024-01-05": "test",
        "2024-01-07": "test",
    }
    with pytest.raises(DataError, match=r"1 partitions have .* \(8 are in quarantine\)"):
        splits(toy(), "2024-01-09", days(9), held=days(8))


def test_a_training_may_begin_later(toy: ToyProblem) -> None:
    whole, found = (splits(toy(), "2024-01-08", days(8), start) for start in (None, "2024-01-04"))
    assert [day for day, split in found.items() if split == "train"] == ["2024-01-04", "2024-01-05"]
    assert {day: split for day, split in whole.items() if split != "train"}.items() <= found.items()
    with pytest.raises(DataError, match="may be learnt from is 2024-01-05, and none from 2024-01-06 on"):
        splits(toy(), "2024-01-08", days(8), "2024-01-06")


def test_too_few_partitions_are_told(toy: ToyProblem) -> None:
    with pytest.raises(DataError, match="3 partitions have their labels at the end of 2024-01-03; 3 are held out"):
        splits(toy(), "2024-01-03", days(9))
    with pytest.raises(DataError, match=r"and 4 lie in the embargo .* 8 are needed"):
        splits(toy(**{"labels.delay_days": 2}), "2024-01-09", days(9))
    with pytest.raises(DataError, match="0 partitions"):
        splits(toy(), "2024-01-03", [])


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    available=st.sets(st.sampled_from(days(25))),
    newest=st.sampled_from(days(25)),
    delay=st.integers(0, 3),
    more=st.integers(0, 2),
    held_out=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    embargo=st.booleans(),
)
def test_a_split_could_have_learnt_from_the_older_one(
    toy: ToyProblem,
    available: set[str],
    newest: str,
    delay: int,
    more: int,
    held_out: tuple[int, int],
    embargo: bool,
) -> None:
    split = {"validation_partitions": held_out[0], "test_partitions": held_out[1], "embargo": embargo}
    problem = toy(**{"labels.delay_days": delay, "labels.maturity_days": delay + more, "dataset.split": split})
    try:
        found = splits(problem, newest, sorted(available))
    except DataError:
        enough = sum(held_out) + 2 * (delay + more) * embargo + 1
        has_holes = len(available) != 25
        assert has_holes or len(mature(problem, newest, sorted(available))) < enough
        return
    event("split")
    parts = problem.partitions
    keys = {name: [key for key, its in found.items() if its == name] for name in ("train", "validation", "test")}
    assert (len(keys["validation"]), len(keys["test"])) == held_out
    assert max(found) == max(mature(problem, newest, sorted(available)))
    for older, newer in pairwise(keys.values()):
        wait = DAY * (delay + more) if embargo else DAY * 0
        assert parts.end(older[-1]) + wait <= parts.start(newer[0])
    assert embargo or "embargo" not in found.values()


# Rows ---------------------------------------------------------------------------------------------------


def test_the_latest_statement_known_before_the_moment_wins(toy: ToyProblem) -> None:
    problem = toy()
    told = labels(
        problem,
        said("k0", 1, 1, superseded_time=START + DAY * 2),
        said("k0", 2, 0, superseded_time=START + DAY * 9),
        said("k0", 9, 1),
        said("k1", 3, 1),
    )
    found = label(problem, one_a_day(problem, 3), told, START + DAY * 3, dict.fromkeys(days(3), "train"))
    assert column(found, "label") == {"k0": 0, "k1": None, "k2": None}, (
        "known at the moment itself is too late; unlabelled is not negative"
    )
    assert column(found, "label_known_time") == {"k0": START + DAY * 2, "k1": None, "k2": None}
    assert found.column_names == [
        "kettle_id",
        "partition",
        "event_time",
        "split",
        "label",
        "source",
        "confidence",
        "label_known_time",
    ]


def test_only_the_named_sources_teach_and_the_first_is_trusted_most(toy: ToyProblem) -> None:
    told = (said("k0", 1, 1, source="hand", confidence=0.8), said("k0", 2, 0), said("k1", 2, 0))
    split = dict.fromkeys(days(2), "train")
    trusting, natural = toy(), toy(**{"labels.use": ["natural"]})
    found = label(trusting, one_a_day(trusting, 2), labels(trusting, *told), START + DAY * 5, split)
    assert found.select(["label", "source", "confidence"]).to_pylist() == [
        {"label": 1, "source": "hand", "confidence": 0.8},
        {"label": 0, "source": "natural", "confidence": 1.0},
    ]
    found = label(natural, one_a_day(natural, 2), labels(natural, *told), START + DAY * 5, split)
    assert column(found, "label") == {"k0": 0, "k1": 0}


def test_an_event_is_what_it_was_when_it_was_predicted(toy: ToyProblem) -> None:
    problem = toy(**{"dataset.leaks": {"entities": ["shelf"]}})
    table = events(
        problem,
        happened("k0", 1, known=0, superseded_time=START + DAY * 2, shelf="top"),
        happened("k0", 1, known=2, statement=1, shelf="bottom"),
        happened("k1", 1, withdrawn_time=START + DAY * 3),
        happened("k2", 1, known=4),
    )
    found = label(problem, table, labels(problem), START + DAY * 4, {"2024-01-02": "train"})
    assert column(found, "shelf") == {"k0": "top"}, "no correction, no withdrawn event, none of the future"


def test_unlabelled_is_negative_once_mature_where_the_problem_says_so(toy: ToyProblem) -> None:
    problem = toy(**{"labels.after_maturity": "negative", "labels.maturity_days": 2})
    told = labels(problem, said("k1", 1.5, 1), said("k2", 2.5, 1, withdrawn_time=START + DAY * 7))
    found = label(problem, one_a_day(problem, 3), told, START + DAY * 9, dict.fromkeys(days(3), "test"))
    assert found.drop_columns(["partition", "event_time", "split"]).to_pylist() == [
        {
            "kettle_id": "k0",
            "label": 0,
            "source": "none",
            "confidence": 1.0,
            "label_known_time": START + DAY * 3 - BEFORE,
        },
        {"kettle_id": "k1", "label": 1, "source": "natural", "confidence": 1.0, "label_known_time": START + DAY * 1.5},
        {"kettle_id": "k2", "label": 0, "source": "none", "confidence": 1.0, "label_known_time": START + DAY * 7},
    ]


def test_rows_come_batch_by_batch_as_they_are_in_memory(toy: ToyProblem) -> None:
    problem = toy(**{"dataset.leaks": {"entities": ["shelf", "age"]}})
    split = dict(zip(days(4), ["train", "train", "validation", "test"], strict=True))
    told = labels(problem, *(said(f"k{n}", n + 0.5, n % 2) for n in range(3)))
    given = (one_a_day(problem, 4), told, START + DAY * 10, split)
    schema, batches = label_batches(problem, *given)
    assert pa.Table.from_batches(batches, schema).equals(label(problem, *given))


def test_a_late_label_is_embargoed(toy: ToyProblem) -> None:
    problem = toy()
    split = dict(zip(days(4), ["train", "train", "validation", "test"], strict=True))
    told = labels(
        problem, said("k0", 2, 1), said("k1", 2 - 1e-6, 1), said("k2", 2.5, 0), said("k3", 9, 1), said("late", 3.5, 0)
    )
    table = events(problem, *(happened(f"k{n}", n) for n in range(4)), happened("late", 2), happened("none", 2))
    found = label(problem, table, told, START + DAY * 10, split)
    assert column(found, "split") == {
        "k0": "embargo",
        "k1": "train",
        "k2": "validation",
        "late": "embargo",
        "none": "validation",
        "k3": "test",
    }
    assert excluded(found) == {"embargo": 2, "grouped_out": 0, "unlabelled": 1}
    plain = toy(**{"dataset.split": {"embargo": False}})
    assert column(label(plain, table, told, START + DAY * 10, split), "split")["k0"] == "train"


def test_events_too_young_for_their_labels_are_embargoed_whether_or_not_a_label_came_early(toy: ToyProblem) -> None:
    """Of a cut week the labels that came early would stand there alone."""
    problem = toy(**{"labels.delay_days": 2, "partitions.every": "week"})
    split = {"2024-01-01": "train", "2024-01-08": "validation", "2024-01-15": "test"}
    weeks = {n: problem.partitions.key_of((START + DAY * n).date()) for n in (3, 4, 5, 6, 8, 14)}
    table = events(problem, *(happened(f"k{n}", n, partition=week) for n, week in weeks.items()))
    told = labels(problem, said("k3", 5, 1), said("k4", 6, 0), said("k5", 5.1, 1), said("k8", 9, 1), said("k14", 16, 0))
    found = label(problem, table, told, START + DAY * 30, split)
    assert column(found, "split") == {
        "k3": "train",
        "k4": "train",
        "k5": "embargo",
        "k6": "embargo",
        "k8": "validation",
        "k14": "test",
    }


def test_negatives_are_known_when_their_partition_matures(toy: ToyProblem) -> None:
    """Were the negatives of the last partition before the gap left out, the positives would stand there alone."""
    problem = toy(**{"labels.after_maturity": "negative", "labels.maturity_days": 1})
    split = splits(problem, "2024-01-07", days(7))
    assert list(split.values()) == ["train", "embargo", "validation", "embargo", "test", "test"]
    found = label(problem, one_a_day(problem, 7), labels(problem, said("k2", 2.1, 1)), START + DAY * 7, split)
    assert column(found, "split") == {f"k{n}": name for n, name in enumerate(split.values())}
    assert column(found, "label") == {"k0": 0, "k1": 0, "k2": 1, "k3": 0, "k4": 0, "k5": 0}


def test_what_people_say_late_is_not_embargoed(toy: ToyProblem) -> None:
    problem = toy()
    split = dict(zip(days(3), ["train", "validation", "test"], strict=True))
    told = labels(problem, said("k0", 5, 1, source="hand"), said("k1", 1.5, 0), said("k2", 9, 1))
    table = events(problem, *(happened(f"k{n}", n) for n in range(3)))
    found = label(problem, table, told, START + DAY * 10, split)
    assert column(found, "split") == {"k0": "train", "k1": "validation", "k2": "test"}


def test_an_embargo_of_a_whole_split_says_so(toy: ToyProblem) -> None:
    problem = toy()
    told = labels(problem, *(said(f"k{n}", n + 5, 1) for n in range(6)))
    with pytest.raises(DataError, match="train split has no labelled row left: the labels of 3 were") as info:
        label(problem, one_a_day(problem, 6), told, START + DAY * 20, splits(problem, "2024-01-06", days(6)))
    assert "labels.maturity_days" in info.value.cure


def test_a_group_stands_in_its_newest_split_alone(toy: ToyProblem) -> None:
    problem = toy(**{"dataset.split": {"group_by": "age"}})
    ages = [("k0", 0, 1), ("k1", 0, 2), ("k2", 0, None), ("k3", 1, 1), ("k4", 1, 3), ("k5", 2, 3), ("k6", 2, None)]
    table = events(problem, *(happened(key, day, age=age) for key, day, age in ages), happened("unlabelled", 2, age=2))
    told = labels(problem, *(said(key, day + 0.5, 1) for key, day, _ in ages))
    split = dict(zip(days(3), ["train", "validation", "test"], strict=True))
    found = label(problem, table, told, START + DAY * 3, split)
    assert column(found, "split") == {
        "k0": "grouped_out",  # 1 stands in validation
        "k1": "train",  # 2 in test has no label, and so is not in the set
        "k2": "train",
        "k3": "validation",
        "k4": "grouped_out",
        "k5": "test",
        "k6": "test",
        "unlabelled": "test",
    }
    assert column(found, "age")["k5"] == 3
    assert excluded(found) == {"embargo": 0, "grouped_out": 2, "unlabelled": 1}


def test_groups_that_live_on_leave_nothing_to_learn_from(toy: ToyProblem) -> None:
    problem = toy(**{"dataset.split": {"group_by": "shelf"}})
    told = labels(problem, *(said(f"k{n}", n + 0.5, 1) for n in range(4)))
    with pytest.raises(DataError, match=r"train split has no labelled row left.*groups of 1 stand in a newer one"):
        label(problem, one_a_day(problem, 4), told, START + DAY * 4, splits(problem, "2024-01-04", days(4)))


def test_columns_that_others_ask_for_are_carried_once(toy: ToyProblem) -> None:
    problem = toy(
        **{
            "dataset.sampling": {"method": "stratified", "by": ["label", "shelf"], "rows": 5},
            "dataset.split": {"group_by": "age"},
            "dataset.leaks": {"entities": ["age", "shelf"]},
        }
    )
    assert carried(problem) == ["shelf", "age"]
    found = label(problem, one_a_day(problem, 1), labels(problem), START + DAY, {"2024-01-01": "train"})
    assert found.column_names[-2:] == ["shelf", "age"]


def test_rows_come_by_time_and_key_and_none_of_other_partitions(toy: ToyProblem) -> None:
    problem = toy()
    table = events(problem, happened("k2", 0.5), happened("k1", 0.5), happened("k0", 0.7), happened("k9", 1))
    found = label(problem, table, labels(problem), START + DAY * 5, {"2024-01-01": "train"})
    assert found["kettle_id"].to_pylist() == ["k1", "k2", "k0"]
    assert label(problem, table.slice(0, 0), labels(problem), START, {"2024-01-01": "train"}).num_rows == 0


# What holds for every history ----------------------------------------------------------------------------

HOUR = st.integers(0, 24 * 14).map(lambda hour: hour / 24)


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[Row], list[Row]]:
    """Events on ten days, with corrections and withdrawals; labels by two sources, late, corrected, taken back."""
    told, stated = [], []
    for n in range(draw(st.integers(0, 10))):
        key, day, cutoff = f"k{n}", draw(st.integers(0, 239)) / 24, START + DAY * draw(HOUR)
        times = sorted(draw(st.sets(HOUR, min_size=1, max_size=3)))
        gone = draw(st.none() | st.integers(1, 48).map(lambda hours, times=times: times[-1] + hours / 24))
        for place, (known, following) in enumerate(zip(times, [*times[1:], None], strict=True)):
            told.append(
                happened(
                    key,
                    day,
                    known,
                    cutoff_time=cutoff,
                    statement=place,
                    age=draw(st.none() | st.integers(1, 3)),
                    superseded_time=None if following is None else START + DAY * following,
                    withdrawn_time=None if gone is None else START + DAY * gone,
                )
            )
        times = sorted(draw(st.sets(HOUR, max_size=2)))
        gone = draw(st.none() | st.just((times or [0])[-1] + 1.0))
        for known, following in zip(times, [*times[1:], None][: len(times)], strict=True):
            stated.append(
                said(
                    key,
                    known,
                    draw(st.integers(0, 1)),
                    superseded_time=None if following is None else START + DAY * following,
                    withdrawn_time=None if gone is None else START + DAY * gone,
                )
            )
        stated += [
            said(key, known, draw(st.integers(0, 1)), source="hand", confidence=0.5)
            for known in draw(st.sets(HOUR, max_size=2))
        ]
    return told, stated


def is_past(time: datetime | None, moment: datetime) -> bool:
    return time is not None and time < moment


def known_label(problem: Problem, stated: list[Row], key: str, as_of: datetime, matured: datetime) -> Row:
    """The label as a person would look it up who goes from moment to moment: the most trusted, then the newest."""
    use = problem.labels.use
    said = sorted(
        (row for row in stated if row["kettle_id"] == key),
        key=lambda row: (row["known_time"], row["confidence"], row["label"]),
    )
    ends = [
        min((time for time in (row["superseded_time"], row["withdrawn_time"]) if time), default=None) for row in said
    ]
    current, since = None, None
    for moment in sorted({row["known_time"] for row in said} | {end for end in ends if end}):
        if moment < as_of:
            best, before = None, current
            for place, (row, end) in enumerate(zip(said, ends, strict=True)):
                holds = row["known_time"] <= moment and (end is None or end > moment)
                if holds and (best is None or use.index(row["source"]) <= use.index(said[best]["source"])):
                    best = place
            current, since = best, since if best == before else moment
    if current is not None:
        row = said[current]
        return {
            "label": row["label"],
            "source": row["source"],
            "confidence": row["confidence"],
            "label_known_time": since,
        }
    taken_back = [end for end in ends if is_past(end, as_of)]
    if problem.labels.after_maturity == "negative":
        return {"label": 0, "source": "none", "confidence": 1.0, "label_known_time": max([matured, *taken_back])}
    return {"label": None, "source": None, "confidence": None, "label_known_time": None}


def by_hand(
    problem: Problem, told: list[Row], stated: list[Row], as_of: datetime, split: dict[str, str]
) -> dict[str, Row]:
    parts, rule = problem.partitions, problem.dataset.split
    found: dict[str, Row] = {}
    for row in told:
        key, partition = row["kettle_id"], row["partition"]
        if row["known_time"] >= as_of or is_past(row["withdrawn_time"], as_of) or partition not in split:
            continue
        in_time = [
            other
            for other in told
            if other["kettle_id"] == key and other["known_time"] <= row["cutoff_time"] and other["known_time"] < as_of
        ]
        if row is not (in_time[-1] if in_time else next(o for o in told if o["kettle_id"] == key)):
            continue
        matured = parts.end(partition) + DAY * problem.labels.mature_after_days - BEFORE
        its = known_label(problem, stated, key, as_of, matured)
        name = split[partition]
        following = {"train": "validation", "validation": "test"}.get(name)
        due = min((parts.start(other) for other in split if split[other] == following), default=None)
        if rule.embargo and due and its["source"] in BY_THEMSELVES and its["label_known_time"] >= due:
            name = "embargo"
        is_whole = problem.labels.after_maturity == "negative" or not rule.embargo
        if due and not is_whole and row["event_time"] >= due - DAY * problem.labels.mature_after_days:
            name = "embargo"
        found[key] = its | {"split": name, "group": row["age"]}
    ranks = {"train": 1, "validation": 2, "test": 3}
    if rule.group_by:
        newest: dict[int, int] = {}
        for its in found.values():
            if its["group"] is not None and its["label"] is not None and its["split"] in ranks:
                newest[its["group"]] = max(newest.get(its["group"], 0), ranks[its["split"]])
        for its in found.values():
            if its["label"] is not None and ranks.get(its["split"], 9) < newest.get(its["group"], 0):
                its["split"] = "grouped_out"
    return {key: {name: value for name, value in its.items() if name != "group"} for key, its in found.items()}


def emptied(planned: dict[str, str], partitions: dict[str, str], found: dict[str, Row]) -> bool:
    """Whether a split has labelled rows in its partitions, and keeps none."""
    names = {"train", "validation", "test"}
    labelled = {key: its for key, its in found.items() if its["label"] is not None}
    meant = {planned[partitions[key]] for key in labelled} & names
    kept = {its["split"] for key, its in labelled.items() if its["split"] == planned[partitions[key]]}
    return bool(meant - kept)


@settings(max_examples=dear(50), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    history=histories(),
    until=st.integers(8, 13),
    after_maturity=st.sampled_from(["leave_out", "negative"]),
    embargo=st.booleans(),
    group_by=st.sampled_from([None, "age"]),
    wait=st.integers(0, 1),
)
def test_labels_and_splits_for_every_history(
    toy: ToyProblem,
    history: tuple[list[Row], list[Row]],
    until: int,
    after_maturity: str,
    embargo: bool,
    group_by: str | None,
    wait: int,
) -> None:
    problem = toy(
        **{
            "labels.after_maturity": after_maturity,
            "labels.maturity_days": wait,
            "dataset.split": {"embargo": embargo, "group_by": group_by},
        }
    )
    told, stated = history
    newest, as_of = (START + DAY * (until - 1)).date().isoformat(), START + DAY * until
    split = splits(problem, newest, days(10))
    expected = by_hand(problem, told, stated, as_of, split)
    try:
        found = label(problem, events(problem, *told), labels(problem, *stated), as_of, split)
    except DataError:
        event("a split is emptied")
        assert emptied(split, {row["kettle_id"]: row["partition"] for row in told}, expected)
        return
    event("rows" if found.num_rows else "no rows")
    names = ["split", "label", "source", "confidence", "label_known_time"]
    assert {row.pop("kettle_id"): row for row in found.select(["kettle_id", *names]).to_pylist()} == {
        key: {name: its[name] for name in names} for key, its in expected.items()
    }
    assert sum(excluded(found).values()) == sum(
        row["label"] is None or row["split"] in ("embargo", "grouped_out") for row in expected.values()
    )

    # What was learnt at as_of or later, of any kind, might as well not have been said.
    def unsaid(rows: list[Row]) -> list[Row]:
        ends = ("superseded_time", "withdrawn_time")
        return [
            row | {name: row[name] if is_past(row[name], as_of) else None for name in ends}
            for row in rows
            if row["known_time"] < as_of
        ]

    assert label(problem, events(problem, *unsaid(told)), labels(problem, *unsaid(stated)), as_of, split).equals(found)

    # No label that a split learns from was known when the next split had to be predicted.
    if embargo:
        for older, newer in pairwise(("train", "validation", "test")):
            due = problem.partitions.start(min(key for key, name in split.items() if name == newer))
            its = found.filter(pc.and_(pc.equal(found["split"], older), pc.is_valid(found["label"])))
            by_itself = its.filter(pc.is_in(its["source"], pa.array(BY_THEMSELVES)))
            assert all(known < due for known in by_itself["label_known_time"].to_pylist())

    # A group stands in one split.
    if group_by:
        inside = found.filter(
            pc.and_(
                pc.is_in(found["split"], pa.array(["train", "validation", "test"])),
                pc.and_(pc.is_valid(found["label"]), pc.is_valid(found["age"])),
            )
        )
        homes = inside.group_by(["age", "split"]).aggregate([])
        assert len(set(homes["age"].to_pylist())) == homes.num_rows


OF_CLASSES = {"task": "multiclass", "labels.classes": ["dry", "wet"], "features.history": {}}


def test_a_class_is_kept_by_its_name_and_read_as_its_place(toy: ToyProblem) -> None:
    problem = toy(**OF_CLASSES)
    told = labels(problem, said("k0", 0.5, "wet"), said("k1", 1.5, "dry"))  # type: ignore[arg-type]
    found = label(problem, one_a_day(problem, 2), told, START + DAY * 3, dict.fromkeys(days(2), "train"))
    assert found["label"].to_pylist() == ["wet", "dry"]
    numbers = sql.query(f"SELECT {label_number(problem, 'label')} AS n FROM rows", {"rows": found})["n"]
    assert (numbers.to_pylist(), numbers.type) == ([1, 0], pa.int64())
    assert label_number(toy(), "label") == "label"


def test_a_class_that_is_declared_no_more_is_told(toy: ToyProblem) -> None:
    problem = toy(**OF_CLASSES)
    told = labels(problem, said("k0", 0.5, "wet"), said("k1", 1.5, "soaked"))  # type: ignore[arg-type]
    with pytest.raises(DataError, match="1 labels are of classes that are not declared, such as 'soaked'"):
        label(problem, one_a_day(problem, 3), told, START + DAY * 3, dict.fromkeys(days(3), "train"))
