"""A run of a DAG without a scheduler: Airflow's trigger rules say what starts, and the tasks' own bodies are called."""

from __future__ import annotations

import inspect
from functools import cache
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest.mock import Mock

from pipelines.stage_names import STAGES

if TYPE_CHECKING:
    from airflow.dag_processing.dagbag import DagBag

PEOPLE = {"choose", "collect"}  # what waits for people is no part of `evergreen run annotate`


@cache
def as_scheduled(bag: DagBag, dag_id: str) -> Any:
    """The DAG as the scheduler knows it."""
    from airflow.serialization.serialized_objects import DagSerialization

    return DagSerialization.from_dict(DagSerialization.to_dict(bag.dags[dag_id]))


class Run:
    """A run of a problem's DAG, for a partition or by hand without one.

    `states` of each task's instances, `values` that the tasks gave, and `errors` for which they failed.
    """

    def __init__(self, bag: DagBag, problem: str, dag: str, partition: str | None = None) -> None:
        self.dag, self.partition = bag.dags[f"{problem}.{dag}"], partition
        self.serialized = as_scheduled(bag, self.dag.dag_id)
        self.states: dict[str, list[str]] = {}
        self.values: dict[str, Any] = {}
        self.errors: dict[str, BaseException | None] = {}

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
        return any(
            state in ("failed", "upstream_failed") for leaf in self.dag.leaves for state in self.states[leaf.task_id]
        )

    def _held_up(self, task_id: str) -> str | None:
        """The state that Airflow's trigger rule gives the task at once; None: it starts."""
        from airflow.ti_deps.dep_context import DepContext
        from airflow.ti_deps.deps.trigger_rule_dep import TriggerRuleDep

        task, given = self.serialized.get_task(task_id), list[str]()
        before = [
            Mock(
                task_id=one, state=state, map_index=index if len(states) > 1 else -1, task=self.serialized.get_task(one)
            )
            for one, states in self.states.items()
            for index, state in enumerate(states)
        ]
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
            "dag_run": SimpleNamespace(partition_key=self.partition, run_type="manual", clear_number=0),
            "params": self.dag.params.dump(),
            "ti": Mock(**{"get_dr_count.return_value": 0}),
        }
        if task.task_id in PEOPLE or task.task_id not in STAGES[self.dag.dag_id.partition(".")[2]]:
            return "skipped", None
        wanted = inspect.signature(inspect.unwrap(task.python_callable)).parameters
        context = {name: value for name, value in offered.items() if name in wanted}
        try:
            return "success", task.python_callable(*given, **context)
        except AirflowSkipException:
            return "skipped", None
        except AirflowException as error:
            self.errors[task.task_id] = error.__cause__
            return "failed", None
