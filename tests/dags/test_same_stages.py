"""A DAG and `evergreen run` give the same, whichever stages have nothing to do and whichever fail.

The DAG's side is Airflow's own: the tasks' real bodies and arguments, and Airflow's evaluation of their trigger rules
on the states of the tasks before them. Only the stage functions are stand-ins, which give something, have nothing to
do or fail as told.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import cache
from importlib import import_module
from itertools import product
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Literal
from unittest.mock import Mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines import inline
from pipelines.errors import DataError, NothingToDo
from pipelines.problem import load_problem

if TYPE_CHECKING:
    from airflow.dag_processing.dagbag import DagBag

PROBLEM, PARTITION = "flight_delay", "2013-04-01"
CANDIDATES = list(load_problem(PROBLEM).training.candidates)
Outcome = Literal["gives", "nothing", "fails"]
Plan = dict[str, Outcome]  # by stage, `train.<candidate>` and `score.<shard>`; what is left out gives something
SHARDS = 2
PEOPLE = {"choose", "collect"}  # what waits for people is no part of `evergreen run annotate`
ARGUMENTS: dict[str, dict[str, Any]] = {
    "ingest": {"first": PARTITION, "last": PARTITION},
    "train": {},
    "annotate": {"partition": PARTITION},
    "score": {"partition": PARTITION},
    "monitor": {"partition": PARTITION},
}
SPECIAL = {"train.train": [f"train.{name}" for name in CANDIDATES],
           "score.score": [f"score.{shard}" for shard in range(SHARDS)]}  # fmt: skip


def steps(dag: str) -> list[str]:
    """What may have nothing to do in a DAG: its stages, a mapped one once for each of its tasks."""
    stages = [stage for stage in inline.STAGES[dag] if stage not in PEOPLE]
    return [step for stage in stages for step in SPECIAL.get(f"{dag}.{stage}", [stage])]


class Stages:
    """Stand-ins for the stage functions of a DAG; `gave` are those that ran to their end."""

    def __init__(self, dag: str, plan: Plan) -> None:
        self.dag, self.plan = dag, plan
        self.gave: set[str] = set()

    def install(self, patch: pytest.MonkeyPatch) -> None:
        module = import_module(f"pipelines.stages.{self.dag}")
        for stage in inline.STAGES[self.dag]:
            patch.setattr(module, stage, self._standing_in(stage))

    def _standing_in(self, stage: str) -> Callable[..., Any]:
        def stand_in(problem: str, *given: Any, **_: Any) -> Any:
            step = stage
            if f"{self.dag}.{stage}" == "train.train":
                step = f"train.{given[-1]}"
            if f"{self.dag}.{stage}" == "score.score":
                step = f"score.{given[0]}"
            if (self.dag, stage) == ("monitor", "diagnose") and given[0] is None:
                raise NothingToDo("as the stage itself does")
            outcome = self.plan.get(step, "gives")
            if outcome == "nothing":
                raise NothingToDo(step)
            if outcome == "fails":
                raise DataError(step)
            self.gave.add(step)
            return list(range(SHARDS)) if (self.dag, stage) == ("score", "plan") else {"from": step}

        return stand_in


def by_command(dag: str, plan: Plan) -> tuple[set[str], str]:
    """Which stages gave something under `evergreen run`, and how it ended."""
    stages, end = Stages(dag, plan), "gives"
    with pytest.MonkeyPatch.context() as patch:
        for name in inline.PLACES:
            patch.setenv(name, "file:///nowhere")
        stages.install(patch)
        try:
            inline.run(dag, PROBLEM, ARGUMENTS[dag])
        except NothingToDo:
            end = "nothing"
        except DataError:
            end = "fails"
    return stages.gave, end


@cache
def as_scheduled(bag: DagBag, dag_id: str) -> Any:
    """The DAG as the scheduler knows it."""
    from airflow.serialization.serialized_objects import DagSerialization

    return DagSerialization.from_dict(DagSerialization.to_dict(bag.dags[dag_id]))


class Run:
    """A run of a DAG without a scheduler: Airflow's rules say what starts, and the tasks' bodies are called."""

    def __init__(self, bag: DagBag, dag: str) -> None:
        self.dag = bag.dags[f"{PROBLEM}.{dag}"]
        self.serialized = as_scheduled(bag, self.dag.dag_id)
        self.states: dict[str, list[str]] = {}
        self.values: dict[str, Any] = {}

    def play(self) -> None:
        for task in self.dag.topological_sort():
            held_up = self._held_up(task.task_id)
            if held_up:
                self.states[task.task_id] = [held_up]
            elif task.is_mapped:
                calls = self._mapped(task)
                results = [self._call(task, given) for given in calls]
                self.states[task.task_id] = [state for state, _ in results] or ["skipped"]
                self.values[task.task_id] = [value for state, value in results if state == "success"]
            else:
                state, self.values[task.task_id] = self._call(task, [self._resolved(one) for one in task.op_args])
                self.states[task.task_id] = [state]

    @property
    def is_red(self) -> bool:
        """Airflow fails a run for its last tasks."""
        return any(state in ("failed", "upstream_failed") for leaf in self.dag.leaves
                   for state in self.states[leaf.task_id])  # fmt: skip

    def _held_up(self, task_id: str) -> str | None:
        """The state that Airflow's trigger rule gives the task at once; None: it starts."""
        from airflow.ti_deps.dep_context import DepContext
        from airflow.ti_deps.deps.trigger_rule_dep import TriggerRuleDep

        task, given = self.serialized.get_task(task_id), list[str]()
        before = [Mock(task_id=one, state=state, map_index=index if len(states) > 1 else -1,
                       task=self.serialized.get_task(one))
                  for one, states in self.states.items() for index, state in enumerate(states)]  # fmt: skip
        context = DepContext(flag_upstream_failed=True, finished_tis=before)
        counts = [(one, len(self.states[one])) for one in task.upstream_task_ids]
        session = Mock(**{"execute.return_value": counts})
        instance = Mock(task=task, map_index=-1, set_state=lambda state, session: given.append(state.value) or True)
        statuses = list(TriggerRuleDep()._get_dep_statuses(instance, context, session=session))
        assert given or all(status.passed for status in statuses), f"{task_id} would wait for ever: {statuses}"
        return given[0] if given else None

    def _mapped(self, task: Any) -> list[list[Any]]:
        ((name, expanded),) = task.op_kwargs_expand_input.value.items()
        values = self._resolved(expanded)
        fixed = {key: self._resolved(one) for key, one in task.partial_kwargs["op_kwargs"].items()}
        order = inspect.signature(task.python_callable).parameters
        return [[{**fixed, name: value}[key] for key in order if key in {*fixed, name}] for value in values]

    def _resolved(self, argument: Any) -> Any:
        operator = getattr(argument, "operator", None)
        return argument if operator is None else self.values.get(operator.task_id)

    def _call(self, task: Any, given: list[Any]) -> tuple[str, Any]:
        from airflow.sdk.exceptions import AirflowException, AirflowSkipException

        offered = {
            "dag_run": SimpleNamespace(partition_key=PARTITION, run_type="manual", clear_number=0),
            "params": {"restate": False, "how": "scratch", "window_from": None},
            "ti": Mock(**{"get_dr_count.return_value": 0}),
        }
        if task.task_id in PEOPLE or task.task_id not in inline.STAGES[self.dag.dag_id.partition(".")[2]]:
            return "skipped", None
        wanted = inspect.signature(inspect.unwrap(task.python_callable)).parameters
        context = {name: value for name, value in offered.items() if name in wanted}
        try:
            return "success", task.python_callable(*given, **context)
        except AirflowSkipException:
            return "skipped", None
        except AirflowException:
            return "failed", None


def by_airflow(bag: DagBag, dag: str, plan: Plan) -> tuple[set[str], bool]:
    """Which stages gave something in a run of the DAG, and whether the run failed."""
    stages, run = Stages(dag, plan), Run(bag, dag)
    with pytest.MonkeyPatch.context() as patch:
        stages.install(patch)
        run.play()
    return stages.gave, run.is_red


def agree(bag: DagBag, dag: str, plan: Plan) -> None:
    gave, is_red = by_airflow(bag, dag, plan)
    given_by_command, end = by_command(dag, plan)
    assert gave == given_by_command, plan
    assert not (is_red and end != "fails"), plan


@pytest.mark.parametrize("dag", ["ingest", "score", "monitor"])
def test_the_same_stages_run_whichever_of_them_have_nothing_to_do(bag: DagBag, dag: str) -> None:
    every = steps(dag)
    for outcomes in product(("gives", "nothing"), repeat=len(every)):
        agree(bag, dag, dict(zip(every, outcomes, strict=True)))  # type: ignore[arg-type]


def plans(dag: str) -> st.SearchStrategy[Plan]:
    """Few stages that do not give something: of many the first hides the others."""
    return st.dictionaries(st.sampled_from(steps(dag)), st.sampled_from(["nothing", "fails"]), max_size=4)


@pytest.mark.parametrize("dag", ["train", "annotate", "score", "monitor"])
def test_the_same_stages_run_whichever_have_nothing_to_do_or_fail(bag: DagBag, dag: str) -> None:
    @settings(max_examples=60)
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
