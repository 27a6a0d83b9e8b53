from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.errors import DataError
from pipelines.labeling.hand import ANSWERS, answers, escape, form, parameter
from pipelines.problem import Problem

ADA, BOB = {"id": "1", "name": "ada"}, {"id": "2", "name": "bob"}
EVENTS = pa.table(
    {
        "kettle_id": ["a", "b|b"],
        "shelf": ["top", "{{ var.value.secret }}"],
        "litres": [4.0, None],
        "age": pa.array([9, 1], pa.int64()),
        "event_time": pa.array([datetime(2024, 1, 1, tzinfo=UTC)] * 2),
    }
)


@pytest.fixture
def problem(toy: Callable[..., Problem]) -> Problem:
    return toy(**{"labels.hand": {"question": "Did it boil over?", "show": ["litres", "shelf"]}})


def response(user: dict[str, str] | None, *said: str, at: int = 0) -> dict[str, Any]:
    given_answers = {parameter(number): answer for number, answer in enumerate(said, start=1)}
    return {
        "chosen_options": ["OK"],
        "params_input": given_answers,
        "responded_by_user": user,
        "responded_at": datetime(2024, 1, 2, at, tzinfo=UTC),
    }


def test_a_form_shows_the_events_and_asks_about_each(problem: Problem) -> None:
    asked = form(problem, EVENTS)
    assert asked.subject == "kettle: Did it boil over?"
    assert asked.body.splitlines() == [
        "Did it boil over?",
        "",
        "|  | kettle\\_id | litres (litre) | shelf |",
        "| --- | --- | --- | --- |",
        "| 1 | a | 4 | top |",
        "| 2 | b\\|b |  | &#123;&#123; var.value.secret &#125;&#125; |",
    ]
    assert list(asked.params) == ["event_01", "event_02"]
    assert asked.params["event_02"] == {
        "default": "cannot tell",
        "type": "string",
        "enum": ["positive", "negative", "cannot tell"],
        "title": "2. b|b",
    }


def test_without_show_it_shows_the_features_and_says_what_positive_means(toy: Callable[..., Problem]) -> None:
    problem = toy(**{"labels.hand": {"question": "Well?"}, "labels.description": "1 if it boiled over"})
    body = form(problem, EVENTS).body
    assert "| shelf | litres (litre) |" in body
    assert "Positive means: 1 if it boiled over" in body


@given(st.text())
def test_nothing_in_a_value_is_markup_or_a_template(text: str) -> None:
    escaped = escape(text)
    assert "{" not in escaped
    assert "<" not in escaped
    assert len(escaped.splitlines()) <= 1
    assert "|" not in escaped.replace("\\|", "")


def test_answers_are_votes_and_cannot_tell_is_none(problem: Problem) -> None:
    said = answers(
        problem, ["a", "b"], [response(ADA, "positive", "cannot tell"), response(BOB, "negative", "positive")]
    )
    assert said.to_pylist() == [
        {"kettle_id": "a", "voter": "ada (1)", "vote": 1},
        {"kettle_id": "a", "voter": "bob (2)", "vote": 0},
        {"kettle_id": "b", "voter": "bob (2)", "vote": 1},
    ]
    assert said.schema.field("vote").type == pa.int8()


def test_who_answers_two_forms_counts_once_with_the_last_word(problem: Problem) -> None:
    late, early = response(ADA, "negative", "cannot tell", at=9), response(ADA, "positive", "positive", at=3)
    said = answers(problem, ["a", "b"], [late, early])
    assert said.to_pylist() == [{"kettle_id": "a", "voter": "ada (1)", "vote": 0}]


def test_a_form_that_ran_out_of_time_says_nothing(problem: Problem) -> None:
    timed_out = response(None, "cannot tell", "cannot tell")
    said = answers(problem, ["a", "b"], [None, timed_out, response(ADA, "positive", "negative"), {}])
    assert said["vote"].to_pylist() == [1, 0]
    assert answers(problem, ["a"], [None]).num_rows == 0


def test_an_answer_that_nobody_offered_is_told(problem: Problem) -> None:
    with pytest.raises(DataError, match=r"ada \(1\) answered 'perhaps' about a"):
        answers(problem, ["a"], [response(ADA, "perhaps")])


@given(st.lists(st.tuples(st.sampled_from([ADA, BOB, None]), st.lists(st.sampled_from(list(ANSWERS)), max_size=3))))
def test_a_person_has_one_vote_per_event(given_forms: list[tuple[Any, list[str]]]) -> None:
    problem = Problem.model_construct(key="kettle_id")
    said = answers(problem, ["a", "b", "c"], [response(user, *texts) for user, texts in given_forms])
    pairs = list(zip(said["kettle_id"].to_pylist(), said["voter"].to_pylist(), strict=True))
    assert len(pairs) == len(set(pairs))
    assert set(said["vote"].to_pylist()) <= {0, 1}
