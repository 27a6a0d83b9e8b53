"""A DAG and `evergreen run` give the same, whichever stages have nothing to do and whichever fail.

The DAG's side is Airflow's own: the tasks' real bodies and arguments, and Airflow's evaluation of their trigger rules
on the states of the tasks before them. Only the stage functions are stand-ins, which give something, have nothing to
do or fail as told.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines import local_run
from pipelines.errors import DataError, NothingToDo
from pipelines.handoffs.ingestion import Published
from pipelines.handoffs.releases import Assessed
from pipelines.problem import load_problem
from pipelines.stage_names import STAGES
from pipelines.stages import function_of
from tests.dags.run import PEOPLE, Run
from tests.examples import dear
from tests.handed_on import example

if TYPE_CHECKING:
    from airflow.dag_processing.dagbag import DagBag

PROBLEM, PARTITION = "flight_delay", "2013-04-01"
CANDIDATES = list(load_problem(PROBLEM).training.candidates)
Outcome = Literal["gives", "nothing", "fails"]
Plan = dict[
    str, Outcome
]  # by stage, `train.<candidate>`, `featurize.<share>` and `score.<shard>`; what is left out gives something
SHARDS = 2
ARGUMENTS: dict[str, dict[str, Any]] = {
    "ingest": {"first": PARTITION, "last": PARTITION},
    "train": {},
    "annotate": {"partition": PARTITION},
    "score": {"partition": PARTITION},
    "monitor": {"partition": PARTITION},
    "release": {"partition": PARTITION},
}
SPECIAL = {
    "train.featurize": [f"featurize.{share}" for share in range(SHARDS)],
    "train.train": [f"train.{name}" for name in CANDIDATES],
    "score.score": [f"score.{shard}" for shard in range(SHARDS)],
}


def steps(dag: str) -> list[str]:
    """What may have nothing to do in a DAG: its stages, a mapped one once for each of its tasks."""
    stages = [stage for stage in STAGES[dag] if stage not in PEOPLE]
    return [step for stage in stages for step in SPECIAL.get(f"{dag}.{stage}", [stage])]


class Stages:
    """Stand-ins for the stage functions of a DAG; `gave` are those that ran to their end."""

    def __init__(self, dag: str, plan: Plan) -> None:
        self.dag, self.plan = dag, plan
        self.gave: set[str] = set()

    def install(self, patch: pytest.MonkeyPatch) -> None:
        for stage in STAGES[self.dag]:
            patch.setattr(sys.modules[function_of(f"{self.dag}.{stage}").__module__], stage, self._standing_in(stage))

    def _standing_in(self, stage: str) -> Callable[..., Any]:
        def stand_in(problem: str, *given: Any, **_: Any) -> Any:
            step = stage
            if f"{self.dag}.{stage}" == "train.train":
                step = f"train.{given[-1]}"
            if f"{self.dag}.{stage}" in ("score.score", "train.featurize"):
                step = f"{stage}.{given[0]}"
            if (self.dag, stage) == ("monitor", "diagnose") and given[0] is None:
                raise NothingToDo("as the stage itself does")
            outcome = self.plan.get(step, "gives")
            if outcome == "nothing":
                raise NothingToDo(step)
            if outcome == "fails":
                raise DataError(step)
            self.gave.add(step)
            if step == "publish" and self.dag == "ingest":
                return example(Published)
            if step == "assess":
                return example(Assessed)
            return list(range(SHARDS)) if stage in ("plan", "sample") else {"from": step}

        return stand_in


def by_command(dag: str, plan: Plan) -> tuple[set[str], str]:
    """Which stages gave something under `evergreen run`, and how it ended."""
    stages, end = Stages(dag, plan), "gives"
    with pytest.MonkeyPatch.context() as patch, TemporaryDirectory() as folder:
        for name in local_run.PLACES:
            patch.setenv(name, Path(folder).as_uri())
        stages.install(patch)
        try:
            local_run.run(dag, PROBLEM, ARGUMENTS[dag])
        except NothingToDo:
            end = "nothing"
        except DataError:
            end = "fails"
    return stages.gave, end


def by_airflow(bag: DagBag, dag: str, plan: Plan) -> tuple[set[str], bool]:
    """Which stages gave something in a run of the DAG, and whether the run failed."""
    stages, run = Stages(dag, plan), Run(bag, PROBLEM, dag, PARTITION)
    with pytest.MonkeyPatch.context() as patch:
        stages.install(patch)
        run.play()
    return stages.gave, run.is_red


def agree(bag: DagBag, dag: str, plan: Plan) -> None:
    gave, is_red = by_airflow(bag, dag, plan)
    given_by_command, end = by_command(dag, plan)
    assert gave == given_by_command, plan
    assert not (is_red and end != "fails"), plan


@pytest.mark.parametrize("dag", ["ingest", "score", "monitor", "release"])
def test_the_same_stages_run_whichever_of_them_have_nothing_to_do(bag: DagBag, dag: str) -> None:
    every = steps(dag)
    for outcomes in product(("gives", "nothing"), repeat=len(every)):
        agree(bag, dag, dict(zip(every, outcomes, strict=True)))  # type: ignore[arg-type]


def plans(dag: str) -> st.SearchStrategy[Plan]:
    """Few stages that do not give something: of many the first hides the others."""
    return st.dictionaries(st.sampled_from(steps(dag)), st.sampled_from(["nothing", "fails"]), max_size=4)


@pytest.mark.parametrize("dag", ["train", "annotate", "score", "monitor", "release"])
def test_the_same_stages_run_whichever_have_nothing_to_do_or_fail(bag: DagBag, dag: str) -> None:
    @settings(max_examples=dear(60))
    @given(plan=plans(dag))
    def holds(plan: Plan) -> None:
        agree(bag, dag, plan)

    holds()


def test_an_update_that_no_candidate_takes_up_ends_alike(bag: DagBag) -> None:
    agree(bag, "train", dict.fromkeys(SPECIAL["train.train"], "nothing"))


def test_a_regression_is_judged_before_its_first_labels(bag: DagBag) -> None:
    gave, is_red = by_airflow(bag, "monitor", {"estimate": "nothing"})
    assert gave == {"profile", "detect", "diagnose", "explain", "decide", "act", "report"}
    assert not is_red


def test_a_failed_estimate_costs_no_verdict(bag: DagBag) -> None:
    gave, _ = by_airflow(bag, "monitor", {"estimate": "fails"})
    assert {"diagnose", "decide", "act", "report"} <= gave
    assert by_command("monitor", {"estimate": "fails"}) == (gave, "fails"), "told, after the verdict"


@pytest.mark.parametrize("stage", ["profile", "detect", "diagnose", "explain", "decide", "act", "report"])
def test_no_run_is_green_whose_verdict_failed(bag: DagBag, stage: str) -> None:
    _, is_red = by_airflow(bag, "monitor", {stage: "fails"})
    assert is_red
