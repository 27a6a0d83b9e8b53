"""Small neighbours are judged together, and windows hold what they promise."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.profiles.pooled import pooled_profiles, windows
from pipelines.profiles.profile import Reference, profile


@settings(max_examples=60)
@given(rows=st.lists(st.integers(0, 300), max_size=30), enough=st.integers(1, 250))
def test_windows_are_neighbours_that_end_with_the_newest_and_have_enough_rows(rows: list[int], enough: int) -> None:
    found = windows(rows, enough)
    if not rows:
        assert found == []
        return
    assert found[-1].stop == len(rows)
    assert all(one.stop == other.start for one, other in pairwise(found))
    if sum(rows) >= enough:
        for window in found:
            sizes = rows[window.start : window.stop]
            assert sum(sizes) >= enough > sum(sizes[1:]), "enough rows, and no partition more than that takes"
        assert sum(rows[: found[0].start]) < enough
    else:
        assert found == [range(len(rows))]


def test_a_pool_has_the_profile_of_all_its_rows(trained: Reference, rows: Callable[..., pa.Table]) -> None:
    parts = {key: rows(150, seed=place) for place, key in enumerate("abc")}
    pooled = pooled_profiles({key: profile(part.to_batches(), trained)[0] for key, part in parts.items()}, 200)
    assert list(pooled) == ["c"], "a is left over: too few rows by itself"
    both = profile(pa.concat_tables([parts["b"], parts["c"]]).combine_chunks().to_batches(), trained)[0]
    assert {name: column.counts for name, column in pooled["c"].items()} == {
        name: column.counts for name, column in both.items()
    }
