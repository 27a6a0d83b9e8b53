"""Partitions that are held, and who lets them in again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines import ledger, quarantine, store
from pipelines.errors import ConfigError
from pipelines.problem import Problem

ToyProblem = Callable[..., Problem]
DAYS = ("2024-01-01", "2024-01-02", "2024-01-03")


def test_a_partition_is_held_and_readmitted_each_with_its_row(toy: ToyProblem, store_folder: Path) -> None:
    problem = toy()
    assert quarantine.held(problem) == set()
    assert quarantine.hold(problem, DAYS[0], "a sensor was dead", {"by": "hand"})
    assert not quarantine.hold(problem, DAYS[0], "another reason", {}), "the first reason stands"
    assert quarantine.held(problem) == {DAYS[0]}
    (row,) = quarantine.holds(problem)
    assert (row["kind"], row["action"], row["verdict"]) == ("partition", "quarantine", "data fault")
    assert (row["reason"], row["evidence"]) == ("a sensor was dead", {"by": "hand"})
    assert quarantine.readmit(problem, DAYS[0], "mended")
    assert not quarantine.readmit(problem, DAYS[0], "mended")
    assert quarantine.held(problem) == set()
    assert quarantine.hold(problem, DAYS[0], "dead again", {})
    assert [row["action"] for row in ledger.decisions(problem, "partition")] == [
        "quarantine",
        "readmitted",
        "quarantine",
    ]


def test_what_is_no_partition_is_refused(toy: ToyProblem, store_folder: Path) -> None:
    for turn in (lambda: quarantine.hold(toy(), "2024", "x", {}), lambda: quarantine.readmit(toy(), "soon", "x")):
        with pytest.raises(ConfigError, match="names no partition"):
            turn()


def test_labels_that_came_in_a_refused_delivery_are_not_taken_for_negative(toy: ToyProblem, store_folder: Path) -> None:
    negative = {"labels.after_maturity": "negative", "labels.maturity_days": 2, "labels.delay_days": 1}
    problem = toy(**negative)
    quarantine.hold(problem, "2024-02-01", "a person says so", {"by": "hand"})
    assert quarantine.unlabelled(problem) == set(), "labels of it were published"
    quarantine.hold(problem, "2024-01-10", "no rows", {"by": quarantine.REFUSED})
    assert quarantine.unlabelled(problem) == {"2024-01-08", "2024-01-09", "2024-01-10"}
    assert quarantine.unlabelled(toy()) == set(), "an event without a label is left out anyway"
    quarantine.readmit(problem, "2024-01-10", "mended")
    assert quarantine.unlabelled(problem) == set()


def test_several_are_held_in_one_commit(toy: ToyProblem, store_folder: Path) -> None:
    problem = toy()
    quarantine.hold(problem, DAYS[1], "before", {})
    version = store.table_version(problem, "ledger")
    assert quarantine.hold_all(problem, {day: f"about {day}" for day in DAYS}, {}) == [DAYS[0], DAYS[2]]
    assert store.table_version(problem, "ledger") == (version or 0) + 1
    assert quarantine.readmit_all(problem, ["2024-01-09", *DAYS], "mended") == list(DAYS)


@settings(max_examples=5, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(turns=st.lists(st.tuples(st.sampled_from(DAYS), st.booleans()), max_size=6))
def test_the_last_word_counts(
    toy: ToyProblem, tmp_path_factory: pytest.TempPathFactory, turns: list[tuple[str, bool]]
) -> None:
    problem, wanted = toy(), set[str]()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EVERGREEN_STORE_URI", tmp_path_factory.mktemp("store").as_uri())
        for key, is_hold in turns:
            changed = quarantine.hold(problem, key, "x", {}) if is_hold else quarantine.readmit(problem, key, "x")
            assert changed == ((key not in wanted) if is_hold else (key in wanted))
            (wanted.add if is_hold else wanted.discard)(key)
        assert quarantine.held(problem) == wanted
