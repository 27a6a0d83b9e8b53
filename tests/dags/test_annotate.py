"""The forms of `ask` as Airflow builds them out of what travels between the tasks."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from pipelines.labeling.hand import CANNOT_TELL
from pipelines.problem import load_problem

if TYPE_CHECKING:
    from airflow.dag_processing.dagbag import DagBag
    from airflow.providers.standard.operators.hitl import HITLEntryOperator

PARAMS = {"event_01": {"default": CANNOT_TELL, "type": "string", "enum": ["positive", CANNOT_TELL], "title": "1. a"}}
CHOSEN = {"forms": [{"subject": "s", "body": "| &#123;&#123; 7 * 7 &#125;&#125; |", "params": PARAMS}] * 2}


def asked(bag: DagBag) -> HITLEntryOperator:
    """The first form's operator, its arguments sent through XCom's encoding."""
    from airflow.sdk.serde import deserialize, serialize

    dag = bag.dags["flight_delay.annotate"]
    forms = deserialize(serialize(dag.get_task("form").python_callable(CHOSEN)))
    assert len(forms) == 2
    operator: Any = dag.get_task("ask").unmap(forms[0])
    return operator  # type: ignore[no-any-return]


def test_a_form_asks_about_each_event_with_its_answers(bag: DagBag) -> None:
    operator = asked(bag)
    (param,) = operator.serialized_params.values()
    assert param["value"] == CANNOT_TELL
    assert param["schema"] == {"type": "string", "enum": ["positive", CANNOT_TELL], "title": "1. a"}
    assert "partition" not in operator.serialized_params, "the DAG's own parameters are no questions"


def test_time_runs_out_without_a_failure(bag: DagBag) -> None:
    operator = asked(bag)
    hand = load_problem("flight_delay").labels.hand
    assert hand is not None
    assert operator.response_timeout == timedelta(hours=hand.answer_within_hours)
    assert operator.defaults == ["OK"], "Airflow answers with the defaults then, and names no user"


def test_an_answer_that_was_not_offered_is_refused(bag: DagBag) -> None:
    operator = asked(bag)
    operator.validate_params_input({"event_01": "positive"})
    with pytest.raises(Exception, match="perhaps"):
        operator.validate_params_input({"event_01": "perhaps"})


def test_nothing_in_an_event_is_evaluated(bag: DagBag) -> None:
    operator = asked(bag)
    operator.render_template_fields({})
    assert operator.body == "| &#123;&#123; 7 * 7 &#125;&#125; |"


def test_one_branch_does_not_wait_for_another(bag: DagBag) -> None:
    dag = bag.dags["flight_delay.annotate"]
    assert {task.task_id for task in dag.roots} == {"vote", "choose", "self_train"}
    assert dag.get_task("collect").upstream_task_ids == {"choose", "ask"}
    assert dag.get_task("collect").trigger_rule == "all_done_min_one_success", "one failed form loses no other answers"
