from __future__ import annotations

from typing import Any

import pytest

from pipelines.errors import ConfigError
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


XGBOOST = {"prior": {"model": "prior"}, "linear": {"model": "logistic", "calibration": {"method": "platt"}}}


@pytest.mark.parametrize(
    ("candidate", "settings", "told"),
    [
        ({"calibration": {"method": "platt"}}, {}, "training.candidates.trees.calibration: needs all rows at once"),
        ({"selection": {"method": "l1"}}, {}, "training.candidates.trees.selection: needs all rows at once"),
        ({}, {"training.calibration": {"method": "platt"}}, "training.calibration: needs all rows at once"),
        ({}, {"dataset.resampling": {"method": "oversample"}}, "dataset.resampling: needs all rows at once"),
        ({}, {"dataset.augmentation": {"method": "perturb"}}, "dataset.augmentation: needs all rows at once"),
        ({"parameters": {"num_parallel_tree": 2}}, {}, "training.candidates.trees.parameters.num_parallel_tree does"),
        (
            {"search": {"num_parallel_tree": {"low": 1, "high": 3}}},
            {},
            "training.candidates.trees.search.num_parallel_tree does",
        ),
        (
            {"parameters": {"objective": "reg:absoluteerror"}},
            {},
            "training.candidates.trees.parameters.objective: reg:absoluteerror does not go with",
        ),
        ({}, {"training.device": "cuda"}, "training.device: cuda does not go with training.engine.kind: "),
    ],
)
@pytest.mark.parametrize("kind", ["processes", "ray"])
def test_what_workers_cannot_do_is_refused_with_the_config(
    toy: ToyProblem, kind: str, candidate: dict[str, Any], settings: dict[str, Any], told: str
) -> None:
    candidates = XGBOOST | {"trees": {"model": "xgboost", **candidate}}
    with pytest.raises(ConfigError, match="1 wrong setting\n") as caught:
        toy(**{"training.candidates": candidates, "training.engine": {"kind": kind}, **settings})
    assert told in str(caught.value) and "set kind: local" in str(caught.value).replace("or kind", "set kind")
    for other in ("local", "auto"):  # of few rows both learn in one process
        toy(**{"training.candidates": candidates, "training.engine": {"kind": other}, **settings})
