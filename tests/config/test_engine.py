from __future__ import annotations

import pytest

from tests.conftest import ToyProblem

CANDIDATES = {"prior": {"model": "prior"}, "linear": {"model": "logistic"}, "trees": {"model": "xgboost"}}


@pytest.mark.parametrize(
    ("engine", "small", "large"),
    [
        (None, False, False),
        ({"kind": "local"}, False, False),
        ({"kind": "processes"}, True, True),
        ({"kind": "ray"}, True, True),
        ({}, False, True),
    ],
)
def test_workers_fit_what_xgboost_learns_where_the_engine_says_so(
    toy: ToyProblem, engine: dict[str, str] | None, small: bool, large: bool
) -> None:
    training = toy(**{"training.candidates": CANDIDATES, "training.engine": engine}).training
    assert [training.has_workers("trees", is_large) for is_large in (False, True)] == [small, large]
    assert not training.has_workers("linear", True) and not training.has_workers("prior", True)


def test_the_state_is_kept_as_often_as_the_engine_says(toy: ToyProblem) -> None:
    rounds = {
        own: toy(**{"training.engine": {"checkpoint_rounds": own}}).training.rounds_between_states for own in (None, 7)
    }
    assert rounds == {None: 100, 7: 7}
    assert toy().training.rounds_between_states == 100


def test_a_problem_that_names_no_engine_is_the_one_that_it_was(toy: ToyProblem) -> None:
    plain, named = toy(), toy(**{"training.engine": {"kind": "local"}})
    assert "engine" not in plain.model_dump(mode="json")["training"]
    assert toy(**{"training.engine": None}).config_hash == plain.config_hash != named.config_hash
