"""Partitions of a few rows: what happens in them is found, at once or together with neighbours, and little else."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from pipelines.config import Policy
from pipelines.metrics.scored import Scored
from pipelines.monitoring.detect.detect import detect
from pipelines.monitoring.diagnose.diagnose import diagnose
from pipelines.monitoring.diagnose.finding import Diagnosis
from pipelines.profiles.profile import Profiles, Reference, profile, reference

POLICY = Policy(min_labels=200)
Rows = Callable[..., pa.Table]


def known(rows: Rows, count: int, partitions: int) -> Reference:
    """Made from so many partitions of `count` rows."""
    parts = [rows(count, seed=1_000 + place) for place in range(partitions)]
    named = [part.append_column("partition", pa.array([f"{place:03}"] * count)) for place, part in enumerate(parts)]
    history = pa.concat_tables(named)
    features, scores = history.drop_columns(["score", "partition"]), history["score"].to_numpy()
    test = Scored("binary", ("0", "1"), scores > 0.5, scores, np.ones(len(scores)))
    return reference(features, (scores > 0.5).astype(np.int64), test, history=history)


def look(usual: Reference, part: pa.Table) -> Profiles:
    return profile(part.to_batches(), usual)[0]


def judged(usual: Reference, before: Mapping[str, Profiles], newest: Profiles) -> Diagnosis:
    rule = (POLICY.false_alarm_rate, POLICY.trailing_partitions, POLICY.min_labels)
    return diagnose(POLICY, usual, detect(usual, newest, before, *rule), [])


@pytest.mark.slow
@pytest.mark.parametrize(("count", "partitions"), [(30, 60), (120, 12)])
def test_small_partitions_of_a_world_that_stands_still_alarm_in_one_of_twenty_at_most(
    rows: Rows, count: int, partitions: int
) -> None:
    usual = known(rows, count, partitions)
    looks = {f"{100 + place}": look(usual, rows(count, seed=place)) for place in range(20)}
    keys = list(looks)
    found = [judged(usual, {one: looks[one] for one in keys[:place]}, looks[key]) for place, key in enumerate(keys)]
    assert sum(bool(one.kinds) for one in found) <= 1
    assert "inputs" in found[0].unjudged and "inputs" not in found[-1].unjudged, "first there are too few rows"


def test_a_shift_too_small_for_one_partition_is_found_in_the_pool(rows: Rows) -> None:
    usual = known(rows, 40, 40)
    looks = {f"{100 + place}": look(usual, rows(40, seed=place)) for place in range(5)}
    found = judged(usual, dict(list(looks.items())[:-1]), looks["104"])
    assert found.kinds == () and not found.unjudged
    for place in range(105, 111):
        part = rows(40, seed=place)
        warmer = look(usual, part.set_column(0, "temp", pc.add(part["temp"], 9.0)))
        found = judged(usual, looks, warmer)
        looks[str(place)] = warmer
        if found.kinds:
            break
    assert found.kinds == ("covariate shift",) and found.findings[0].features == ("temp",)
    assert "with the partitions before it" in found.findings[0].evidence


def test_three_empty_columns_of_a_small_partition_are_a_data_fault_at_once(rows: Rows) -> None:
    usual, part = known(rows, 120, 8), rows(120, seed=7)
    for name in ("temp", "seats", "carrier"):
        place = part.schema.get_field_index(name)
        part = part.set_column(place, name, pa.nulls(120, part.schema.field(name).type))
    (fault, *_) = judged(usual, {}, look(usual, part)).findings
    assert fault.kind == "data fault" and set(fault.features) == {"temp", "seats", "carrier"}


def test_what_is_the_same_every_day_is_no_repetition(rows: Rows) -> None:
    """Forty shops whose size and town never change; only their takings do."""
    shops = rows(40, seed=3).select(["seats", "temp"])

    def day(place: int) -> pa.Table:
        return shops.append_column("score", rows(40, seed=place)["score"])

    parts = [day(place).append_column("partition", pa.array([f"{place:03}"] * 40)) for place in range(6)]
    history = pa.concat_tables(parts)
    scores = history["score"].to_numpy()
    test = Scored("binary", ("0", "1"), scores > 0.5, scores, np.ones(len(scores)))
    usual = reference(history.select(["seats", "temp"]), (scores > 0.5).astype(np.int64), test, history=history)
    assert judged(usual, {"006": look(usual, day(6))}, look(usual, day(7))).kinds == ()
