from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pipelines.config import Release, Rung
from pipelines.errors import ConfigError
from tests.conftest import ToyProblem


def test_without_a_word_a_version_serves_at_once() -> None:
    release = Release()
    assert not release.by_steps
    assert release.rungs == [Rung("full", 1.0)]


def test_a_canary_is_a_rung_for_each_share() -> None:
    release = Release.model_validate({"path": ["shadow", "canary", "full"], "canary": {"shares": [0.1, 0.5]}})
    assert release.by_steps
    assert release.rungs == [Rung("shadow", 0.0), Rung("canary", 0.1), Rung("canary", 0.5), Rung("full", 1.0)]
    assert release.looks_of("canary").max_partitions == 8


def test_an_approval_is_a_word_or_more() -> None:
    assert Release.model_validate({"approval": "promote"}).approval.when == "promote"
    asked = Release.model_validate({"approval": {"when": "every_step", "users": ["ada"], "hours": 2}}).approval
    assert (asked.when, asked.users, asked.hours, asked.otherwise) == ("every_step", ["ada"], 2, "reject")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"path": ["shadow"]}, "the last rung is full"),
        ({"path": ["canary", "shadow", "full"]}, "in the order shadow, canary"),
        ({"path": ["shadow", "shadow", "full"]}, "each rung once"),
        ({"path": ["shadow", "full"], "feedback": "outcome"}, "needs a rung that randomises"),
        ({"path": ["bandit", "full"]}, "a bandit is for feedback: outcome"),
        ({"canary": {"shares": [0.5, 0.2]}}, "each above the one before"),
        ({"canary": {"shares": [0.2, 1.0]}}, "between 0 and 1"),
        ({"canary": {"partitions": 4}}, "do not fit into max_partitions"),
        ({"shadow": {"partitions": 9}}, "more than max_partitions"),
        ({"approval": "sometimes"}, "none"),
    ],
)
def test_a_path_that_cannot_be_walked_is_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Release.model_validate(wrong)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"release.metric": "absolute_error"}, "release.metric: 'absolute_error' does not go with the task binary"),
        ({"release.metric": "cost"}, "release.metric: cost needs costs"),
        ({"release.unit": "shelv"}, "release.unit: 'shelv' is neither key nor a column; did you mean 'shelf'"),
        ({"key": "variant"}, "key: 'variant' is a name that Evergreen gives itself"),
    ],
)
def test_what_no_section_sees_by_itself(toy: ToyProblem, changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        toy(**changes)


def test_a_model_is_the_same_however_it_came_to_serve(toy: ToyProblem) -> None:
    assert toy().config_hash == toy(**{"release.path": ["shadow", "full"]}).config_hash


@given(st.lists(st.floats(0.01, 0.99), min_size=1, max_size=5, unique=True))
def test_shares_grow_to_the_full(shares: list[float]) -> None:
    canary = {"shares": sorted(shares)}
    rungs = Release.model_validate({"path": ["shadow", "canary", "full"], "canary": canary}).rungs
    assert [rung.share for rung in rungs] == sorted(rung.share for rung in rungs)
