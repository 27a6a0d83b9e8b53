"""A unit's version depends on its text alone, and a share is a share."""

from __future__ import annotations

import hashlib
from itertools import pairwise
from math import sqrt

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines import sql
from pipelines.handoffs.releases import Assignment
from pipelines.release.assign import HASHES, is_challengers, unit_of
from tests.conftest import ToyProblem
from tests.handed_on import example

DAY = "2024-01-10"
UNITS = 100_000


def assignment(share: float, *, sticky: bool = False, unit: str = "key", release: str = "v3-v4") -> Assignment:
    return example(
        Assignment, release=release, kind="canary", champion="3", challenger="4", share=share, unit=unit, sticky=sticky
    )


def members(assigned: Assignment, units: list[str], partition: str = DAY) -> list[bool]:
    rows = pa.table({"unit": pa.array(units, pa.string()), "partition": pa.array([partition] * len(units))})
    query = f"SELECT {is_challengers(assigned)} AS is_in FROM t"
    is_in: list[bool] = sql.query(query, {"t": rows})["is_in"].to_pylist()
    return is_in


@given(
    units=st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0")), min_size=1, max_size=30),
    share=st.floats(0, 1, exclude_max=True),
    is_sticky=st.booleans(),
)
def test_any_program_can_say_who_serves_a_unit(units: list[str], share: float, is_sticky: bool) -> None:
    def is_in(unit: str) -> bool:
        text = f"v3-v4/{unit}" + f"/{DAY}" * (not is_sticky)
        return int.from_bytes(hashlib.md5(text.encode()).digest()[8:], "little") < int(share * HASHES)  # noqa: S324

    assert members(assignment(share, sticky=is_sticky), units) == [is_in(unit) for unit in units]


@given(shares=st.lists(st.floats(0, 1, exclude_max=True), min_size=2, max_size=4), is_sticky=st.booleans())
def test_whoever_is_in_stays_in_as_the_share_grows(shares: list[float], is_sticky: bool) -> None:
    units = [str(number) for number in range(200)]
    groups = [members(assignment(share, sticky=is_sticky), units) for share in sorted(shares)]
    for smaller, larger in pairwise(groups):
        assert all(after for before, after in zip(smaller, larger, strict=True) if before)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.05, 0.2, 0.5, 0.95])
def test_a_share_is_a_share(share: float) -> None:
    count = sum(members(assignment(share), [str(number) for number in range(UNITS)]))
    assert abs(count - share * UNITS) <= 4 * sqrt(UNITS * share * (1 - share))


def test_sticky_units_keep_their_version_and_others_are_drawn_anew() -> None:
    units = [str(number) for number in range(2_000)]
    before, after = (members(assignment(0.5, sticky=True), units, day) for day in (DAY, "2024-01-11"))
    assert before == after
    before, after = (members(assignment(0.5), units, day) for day in (DAY, "2024-01-11"))
    both = sum(one and other for one, other in zip(before, after, strict=True))
    assert abs(both - 500) <= 4 * sqrt(2_000 * 0.25 * 0.75), "one day says nothing of the next"
    another = members(assignment(0.5, sticky=True, release="v4-v5"), units)
    assert another != members(assignment(0.5, sticky=True), units), "nor one release of another"


def test_a_row_without_a_value_is_a_unit_of_its_own(toy: ToyProblem) -> None:
    rows = pa.table({"kettle_id": ["a", "b", "c"], "age": pa.array([7, None, None], pa.int64())})
    units = {}
    for unit in ("age", "key"):
        text = unit_of(toy(), assignment(0.5, unit=unit), "t")
        units[unit] = sql.query(f"SELECT {text} AS unit FROM t", {"t": rows})["unit"].to_pylist()
    assert units == {"age": ["7", "b", "c"], "key": ["a", "b", "c"]}
