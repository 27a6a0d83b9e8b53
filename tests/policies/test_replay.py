"""Policies on kettles whose nature turns round once: who retrains when, and what it is worth."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from pipelines.config import Policy
from pipelines.errors import DataError, NothingToDo
from pipelines.policies.past import Past, Recipe
from pipelines.policies.replay import COST_AWARE, Outcome, _passes, compared, lost, ranges, replay
from pipelines.policies.rules import PLAIN, by_policy
from pipelines.policies.table import decisions, markdown, summary
from pipelines.problem import Problem
from tests.policies.conftest import DAYS, TURN, key

FIRST = key(12)


def play(past: Past, *names: str, **changes: Any) -> list[Outcome]:
    policy = Policy.model_validate({**past.problem.monitoring.policy.model_dump(), **changes})
    rules = compared(policy)
    return replay(past, FIRST, key(DAYS), {name: rules[name] for name in names or rules})


def asked(outcome: Outcome) -> list[str]:
    return [step.partition for step in outcome.steps if step.decision.action in ("retrain", "continue", "recalibrate")]


def test_rows_are_joined_and_labelled(past: Past) -> None:
    assert past.rows.num_rows == DAYS * 60
    assert past.rows["label"].null_count == 0
    assert sum(len(one) for one in past.places.values()) == past.rows.num_rows
    assert {*past.rows["partition"].take(past.places[key(3)]).to_pylist()} == {key(3)}
    assert past.mature(key(5)) == [key(n) for n in range(5)], "labels come a day late"


def test_a_model_learns_only_from_what_was_known(past: Past) -> None:
    recipe = Recipe(key(20))
    assert past.taught(recipe) == [key(n) for n in range(15)], (
        "two test days, one validation, and the embargo before each"
    )
    truth, blocks = past.truth(recipe, [key(21)])
    assert len(truth.labels) == len(blocks) == 60
    assert past.fitted(recipe) is past.fitted(Recipe(key(20)))


def test_held_partitions_teach_nothing(past: Past) -> None:
    assert key(5) not in past.taught(Recipe(key(20), held=(key(5),)))
    assert Recipe(key(20), held=(key(5),)).name != Recipe(key(20)).name
    assert past.taught(Recipe(key(20), window_from=key(9)))[0] == key(9)


def test_going_on_from_a_champion(past: Past) -> None:
    base = Recipe(key(15))
    went_on = Recipe(key(20), "continue", base=base)
    assert past.since(went_on) == [key(n) for n in range(10, 15)]
    assert past.taught(went_on) == past.taught(Recipe(key(20)))
    assert (went_on.began, went_on.learnt) == (key(15), key(20))
    assert past.chain(went_on) == [past.taught(base), past.since(went_on)]
    calibrated = Recipe(key(20), "recalibrate", base=base)
    assert calibrated.learnt == key(15) and past.taught(calibrated) == past.taught(base)
    scores = {recipe: past.fitted(recipe).scores for recipe in (base, went_on, calibrated)}
    assert (
        np.argsort(scores[base][:50], kind="stable") == np.argsort(scores[calibrated][:50], kind="stable")
    ).mean() > 0.5
    assert not np.allclose(scores[base], scores[went_on])


def test_never_and_always(past: Past) -> None:
    never, always = play(past, "never", "always")
    assert never.trainings == 0 and asked(never) == [] and never.paid == 0
    assert always.trainings == len(always.steps) == len(asked(always))
    assert len({step.champion for step in never.steps}) == 1
    before = [step.metrics["auc"] or 0 for step in never.steps if step.partition < key(TURN)]
    after = [step.metrics["auc"] or 0 for step in never.steps if step.partition >= key(TURN)]
    assert min(before) > 0.7 and max(after) < 0.4, "the world turned round"
    assert lost(past.problem, never, always) > 1
    assert always.training_s > 0


def test_a_policy_that_counts_costs_follows_the_turn(past: Past) -> None:
    always, ours = play(past, "always", COST_AWARE, updates="continual")
    assert 1 <= ours.trainings <= always.trainings / 3
    acted = [step for step in ours.steps if step.partition in asked(ours)]
    assert any(key(TURN) < step.partition <= key(TURN + 8) for step in acted), asked(ours)
    assert all(any(not one.why_not for one in step.decision.options) for step in acted)
    assert ours.paid > 0 and ours.watching_s > 0


def test_what_a_training_costs_counts(past: Past) -> None:
    dear = dict.fromkeys(("recalibrate", "retrain", "continue", "roll_back", "fall_back"), 1e6)
    (ours,) = play(past, COST_AWARE, costs=dear)
    assert ours.trainings == 0 and set(ours.actions) <= {"none", "alert"}
    (worthless,) = play(past, COST_AWARE, worth={"auc": 0.0})
    gains = [one.gain for step in worthless.steps for one in step.decision.options]
    assert not any(gains), "what nobody counts is no gain"
    unmeasured = [step for step in worthless.steps if step.decision.action == "retrain"]
    assert all(one.gain is None for step in unmeasured for one in step.decision.options if not one.why_not)


def test_a_tie_with_the_champion_passes_as_at_the_gate(past: Past) -> None:
    """Two models of the same days but one, on 120 rows."""
    passed = {}
    for ties_pass in (0.9, None):
        gate = {"gain_over_champion": {"auc": 0.0}, "ties_pass": ties_pass}
        problem = past.problem.model_copy(update={"gate": past.problem.gate.model_copy(update=gate)})
        passed[ties_pass] = _passes(Past(problem, "xgboost"), Recipe(key(20)), Recipe(key(19)))
    assert passed == {0.9: True, None: False}
    of_before, of_after = Recipe(key(TURN + 2)), Recipe(key(DAYS - 1), window_from=key(TURN))
    assert not _passes(past, of_before, of_after), "what has not learnt of the turn is clearly worse: no tie"


@pytest.mark.parametrize(("updates", "most"), [("manual", 0), ("scheduled", 10), ("scheduled_stateful", 10)])
def test_the_stages_of_updating(past: Past, updates: str, most: int) -> None:
    (ours,) = play(past, COST_AWARE, updates=updates, every_partitions=9, scratch_every=2)
    days = asked(ours)
    assert len(days) <= most
    if most:
        gaps = {int((np.datetime64(b) - np.datetime64(a)).astype(int)) for a, b in pairwise(days)}
        assert gaps == {9}
        kinds = [step.decision.action for step in ours.steps if step.partition in days]
        assert set(kinds) == ({"retrain"} if updates == "scheduled" else {"continue", "retrain"})


def test_plain_alarms(past: Past) -> None:
    by_drop = play(past, "metric drop")[0]
    assert asked(by_drop) and asked(by_drop)[0] >= key(TURN)
    by_psi = play(past, next(name for name in PLAIN if "PSI" in name))[0]
    assert all("PSI above" in step.decision.reason for step in by_psi.steps if step.decision.action == "retrain")


def test_a_second_replay_fits_nothing(past: Past, monkeypatch: pytest.MonkeyPatch) -> None:
    first = play(past, COST_AWARE)[0]
    again = Past(past.problem, "xgboost")
    monkeypatch.setattr(Past, "_model", lambda *_: pytest.fail("fitted again"))
    second = replay(again, FIRST, key(DAYS), {COST_AWARE: (by_policy, past.problem.monitoring.policy)})[0]
    assert [step.decision for step in second.steps] == [step.decision for step in first.steps]
    assert (second.training_s, second.watching_s) == (first.training_s, first.watching_s)


def test_outcomes_are_told(past: Past) -> None:
    outcomes = play(past, "never", "always")
    rows = summary(past.problem, outcomes)
    assert [row["policy"] for row in rows] == ["never", "always"]
    assert rows[1]["lost"] == 0 and rows[1]["saved"] == 0 and rows[1]["cost"] == rows[1]["paid"]
    assert rows[0]["cost"] == pytest.approx(rows[0]["lost"])
    text = markdown(rows)
    assert text.count("\n") == 3 and "| never |" in text
    assert decisions(outcomes[1])[0]["partition"] == FIRST
    assert summary(past.problem, outcomes[:1])[0]["saved"] is None


def test_ranges(past: Past) -> None:
    problem: Problem = past.problem
    assert ranges(problem, past.partitions, None, None) == (key(9), key(DAYS - 1))
    with pytest.raises(DataError, match="was ingested"):
        ranges(problem, past.partitions, "2025-01-01", "2025-01-02")
    with pytest.raises(NothingToDo, match="labels yet"):
        replay(past, key(DAYS - 1), key(DAYS - 1), compared(Policy()))
    with pytest.raises(DataError):
        replay(past, key(1), key(9), compared(Policy()))
