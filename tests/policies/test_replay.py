"""Policies on kettles whose nature turns round once: who retrains when, and what it is worth."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from pipelines.config import Policy
from pipelines.errors import DataError, NothingToDo
from pipelines.monitoring.served import fresh
from pipelines.policies.history import History, Recipe
from pipelines.policies.played import PlayedVersion, State, Watch
from pipelines.policies.replay import COST_AWARE, Outcome, _passes, compared, lost, ranges, replay
from pipelines.policies.rules import PLAIN, by_policy
from pipelines.policies.table import decisions, markdown, summary
from pipelines.problem import Problem
from pipelines.stages.train.label import Request, planned
from tests.policies.conftest import CHANGES, DAYS, TURN, key

FIRST = key(12)


def play(history: History, *names: str, **changes: Any) -> list[Outcome]:
    policy = Policy.model_validate({**history.problem.monitoring.policy.model_dump(), **changes})
    rules = compared(policy)
    return replay(history, FIRST, key(DAYS), {name: rules[name] for name in names or rules})


def asked(outcome: Outcome) -> list[str]:
    return [step.partition for step in outcome.steps if step.decision.action in ("retrain", "continue", "recalibrate")]


def test_rows_are_joined_and_labelled(history: History) -> None:
    assert history.rows.num_rows == DAYS * 60
    assert history.rows["label"].null_count == 0
    assert sum(len(one) for one in history.places.values()) == history.rows.num_rows
    assert {*history.rows["partition"].take(history.places[key(3)]).to_pylist()} == {key(3)}
    assert history.mature(key(5)) == [key(n) for n in range(5)], "labels come a day late"


def test_a_model_learns_only_from_what_was_known(history: History) -> None:
    recipe = Recipe(key(20))
    assert history.plan(recipe).train == [key(n) for n in range(15)], (
        "two test days, one validation, and the embargo before each"
    )
    assert history.taught(recipe) == [key(n) for n in range(20)], "what serves was fitted again on all of them"
    tested, serving = history.fitted(recipe, is_tested=True), history.fitted(recipe)
    assert tested.threshold == serving.threshold and not np.array_equal(tested.scores, serving.scores)
    truth, blocks = history.truth(recipe, [key(21)], None)
    assert len(truth.labels) == len(blocks) == 60
    assert not len(history.truth(recipe, [key(21)], key(20))[0].labels), "they were not known yet"
    assert history.fitted(recipe) is history.fitted(Recipe(key(20)))


def test_held_partitions_teach_nothing(history: History) -> None:
    assert key(5) not in history.taught(Recipe(key(20), held=(key(5),)))
    assert Recipe(key(20), held=(key(5),)).name != Recipe(key(20)).name
    assert history.taught(Recipe(key(20), window_from=key(9)))[0] == key(9)


def test_what_is_fresh_is_what_the_train_dag_would_learn_from(toy: Any, history: History) -> None:
    """Small partitions: a training holds more of them out than dataset.split names."""
    split = {"validation_partitions": 1, "test_partitions": 2, "min_rows": 150}
    problem = toy(**CHANGES | {"training.refit": False, "dataset.split": split})
    small, now = History(problem, "xgboost"), key(30)
    champion = Recipe(key(12))
    state = State(champion, {*small.partitions})
    served = PlayedVersion(Watch(small), problem, state, champion, now)
    ingested = [name for name in small.partitions if name <= now]
    planned_split, plan = planned(problem, Request("scratch", None), now, ingested, set(), small.counts(now))
    assert plan.held_out.test == 3, "three days have 150 rows"
    assert fresh(served, small.mature(now)[-1]) == [name for name, part in planned_split.items() if part == "train"]


def test_going_on_from_a_champion(history: History) -> None:
    base = Recipe(key(15))
    went_on = Recipe(key(20), "continue", base=base)
    assert history.plan(went_on).train == [key(n) for n in range(10, 15)]
    assert history.fitted_on(went_on) == [key(n) for n in range(15, 20)], "the base was fitted on those before"
    assert history.taught(went_on) == history.taught(Recipe(key(20)))
    assert [lesson.as_of for lesson in history.lessons(went_on)] == [key(15), key(20)]
    calibrated = Recipe(key(20), "recalibrate", base=base)
    assert history.lessons(calibrated) == history.lessons(base) and history.taught(calibrated) == history.taught(base)
    assert history.learnt(calibrated) == {*history.taught(base), *history.fitted_on(calibrated)}
    scores = {recipe: history.fitted(recipe).scores for recipe in (base, went_on, calibrated)}
    assert (
        np.argsort(scores[base][:50], kind="stable") == np.argsort(scores[calibrated][:50], kind="stable")
    ).mean() > 0.5
    assert not np.allclose(scores[base], scores[went_on])


def test_never_and_always(history: History) -> None:
    never, always = play(history, "never", "always")
    assert never.trainings == 0 and asked(never) == [] and never.paid == 0
    assert always.trainings == len(always.steps) == len(asked(always))
    assert len({step.champion for step in never.steps}) == 1
    before = [step.metrics["auc"] or 0 for step in never.steps if step.partition < key(TURN)]
    after = [step.metrics["auc"] or 0 for step in never.steps if step.partition >= key(TURN)]
    assert min(before) > 0.7 and max(after) < 0.4, "the world turned round"
    assert lost(history.problem, never, always) > 1
    assert always.training_s > 0


def test_a_policy_that_counts_costs_follows_the_turn(history: History) -> None:
    always, ours = play(history, "always", COST_AWARE, updates="continual")
    assert 1 <= ours.trainings <= always.trainings / 3
    acted = [step for step in ours.steps if step.partition in asked(ours)]
    assert any(key(TURN) < step.partition <= key(TURN + 8) for step in acted), asked(ours)
    assert all(any(not one.why_not for one in step.decision.options) for step in acted)
    assert ours.paid > 0 and ours.watching_s > 0


def test_what_a_training_costs_counts(history: History) -> None:
    dear = dict.fromkeys(("recalibrate", "retrain", "continue", "roll_back", "fall_back"), 1e6)
    (ours,) = play(history, COST_AWARE, costs=dear)
    assert ours.trainings == 0 and set(ours.actions) <= {"none", "alert"}
    (worthless,) = play(history, COST_AWARE, worth={"auc": 0.0})
    gains = [one.gain for step in worthless.steps for one in step.decision.options]
    assert not any(gains), "what nobody counts is no gain"
    unmeasured = [step for step in worthless.steps if step.decision.action == "retrain"]
    assert all(one.gain is None for step in unmeasured for one in step.decision.options if not one.why_not)


def test_a_tie_with_the_champion_passes_as_at_the_gate(history: History) -> None:
    """Two models of the same days but one, on 120 rows."""
    passed = {}
    for ties_pass in (0.9, None):
        gate = {"gain_over_champion": {"auc": 0.0}, "ties_pass": ties_pass}
        problem = history.problem.model_copy(update={"gate": history.problem.gate.model_copy(update=gate)})
        passed[ties_pass] = _passes(History(problem, "xgboost"), Recipe(key(20)), Recipe(key(19)))
    assert passed == {0.9: True, None: False}
    of_before, of_after = Recipe(key(TURN + 2)), Recipe(key(DAYS - 1), window_from=key(TURN))
    assert not _passes(history, of_before, of_after), "what has not learnt of the turn is clearly worse: no tie"


@pytest.mark.parametrize(("updates", "most"), [("manual", 0), ("scheduled", 10), ("scheduled_stateful", 10)])
def test_the_stages_of_updating(history: History, updates: str, most: int) -> None:
    (ours,) = play(history, COST_AWARE, updates=updates, every_partitions=9, scratch_every=2)
    days = asked(ours)
    assert len(days) <= most
    if most:
        gaps = {int((np.datetime64(b) - np.datetime64(a)).astype(int)) for a, b in pairwise(days)}
        assert gaps == {9}
        kinds = [step.decision.action for step in ours.steps if step.partition in days]
        assert set(kinds) == ({"retrain"} if updates == "scheduled" else {"continue", "retrain"})


def test_plain_alarms(history: History) -> None:
    by_drop = play(history, "metric drop")[0]
    assert asked(by_drop) and asked(by_drop)[0] >= key(TURN)
    by_psi = play(history, next(name for name in PLAIN if "PSI" in name))[0]
    assert all("PSI above" in step.decision.reason for step in by_psi.steps if step.decision.action == "retrain")


def test_a_second_replay_fits_nothing(history: History, monkeypatch: pytest.MonkeyPatch) -> None:
    first = play(history, COST_AWARE)[0]
    again = History(history.problem, "xgboost")
    monkeypatch.setattr(History, "_serving", lambda *_: pytest.fail("fitted again"))
    second = replay(again, FIRST, key(DAYS), {COST_AWARE: (by_policy, history.problem.monitoring.policy)})[0]
    assert [step.decision for step in second.steps] == [step.decision for step in first.steps]
    assert (second.training_s, second.watching_s) == (first.training_s, first.watching_s)


def test_outcomes_are_told(history: History) -> None:
    outcomes = play(history, "never", "always")
    rows = summary(history.problem, outcomes)
    assert [row["policy"] for row in rows] == ["never", "always"]
    assert rows[1]["lost"] == 0 and rows[1]["saved"] == 0 and rows[1]["cost"] == rows[1]["paid"]
    assert rows[0]["cost"] == pytest.approx(rows[0]["lost"])
    text = markdown(rows)
    assert text.count("\n") == 3 and "| never |" in text
    assert decisions(outcomes[1])[0]["partition"] == FIRST
    assert summary(history.problem, outcomes[:1])[0]["saved"] is None


def test_ranges(history: History) -> None:
    problem: Problem = history.problem
    assert ranges(problem, history.partitions, None, None) == (key(9), key(DAYS - 1))
    with pytest.raises(DataError, match="was ingested"):
        ranges(problem, history.partitions, "2025-01-01", "2025-01-02")
    with pytest.raises(NothingToDo, match="labels yet"):
        replay(history, key(DAYS - 1), key(DAYS - 1), compared(Policy()))
    with pytest.raises(DataError):
        replay(history, key(1), key(9), compared(Policy()))
