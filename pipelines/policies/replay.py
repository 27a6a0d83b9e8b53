"""replay: policies played over a problem's history, partition by partition, and what each of them cost.

Per partition: the model that serves scores it; labels come with their delay; what monitoring sees is measured by the
functions that the monitor DAG calls; the policy decides; what it asks for is fitted as of then and serves from the next
partition on, if it passes the gate's comparison with the champion on its test split (gate.gain_over_champion). The
candidate is one and the same all along, without the others and without the gate's further checks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pipelines.config import Action, Policy
from pipelines.errors import DataError, NothingToDo
from pipelines.evaluation.gate.champion_checks import no_worse
from pipelines.metrics.bootstrap import gains
from pipelines.metrics.metrics import METRICS, goodness
from pipelines.monitoring.decide.decide import Decision
from pipelines.monitoring.decide.readings import worth
from pipelines.policies.past import Past, Recipe
from pipelines.policies.rules import PLAIN, Rule, State, by_policy, made
from pipelines.policies.watch import Watch, with_policy

COST_AWARE = "policy of problem.yaml"
SHOWN = {"binary": ("auc", "log_loss"), "multiclass": ("auc", "log_loss"), "regression": ("r2", "rmse")}


@dataclass(frozen=True)
class Step:
    """One partition: how the model that served turned out there, and what was decided at its end."""

    partition: str
    champion: str
    metrics: dict[str, float | None]
    decision: Decision
    outcome: str = ""


@dataclass(frozen=True)
class Outcome:
    """A policy played to the end.

    trainings: requests, those that the gate refused among them. training_s, watching_s: CPU seconds of fits, and of
    measuring what the policy decides by. paid: configured costs of what was done.
    """

    policy: str
    steps: tuple[Step, ...]
    trainings: int
    refused: int
    training_s: float
    watching_s: float
    paid: float
    actions: Mapping[str, int] = field(default_factory=dict)

    def mean(self, metric: str) -> float | None:
        """Over the partitions in which it is defined."""
        values = [value for step in self.steps if (value := step.metrics.get(metric)) is not None]
        return sum(values) / len(values) if values else None


def replay(
    past: Past,
    first: str,
    last: str,
    policies: Mapping[str, tuple[Rule, Policy]],
    tell: Callable[[str], None] = lambda _: None,
) -> list[Outcome]:
    """Each policy's outcome over the partitions from `first` to `last`; the first model is of the partition before.

    Raises:
        NothingToDo: no partition in that range has its labels yet.
        DataError: what lies before `first` is too little for a first model.
    """
    labelled = set(past.mature(past.partitions[-1]))
    keys = [key for key in past.partitions if first <= key <= last and key in labelled]
    if not keys:
        raise NothingToDo(
            f"no partition from {first} to {last} has its labels yet", where=past.problem.name, cure="ingest more"
        )
    start = Recipe(past.problem.partitions.shift(first, -1))
    past.fitted(start)
    watch, done = Watch(past), []
    for name, (rule, policy) in policies.items():
        tell(name)
        done.append(_play(watch, name, rule, policy, start, keys))
        watch.save()
    return done


def compared(policy: Policy) -> dict[str, tuple[Rule, Policy]]:
    """The plain policies, and the problem's own (or another that is given)."""
    return {name: (rule, policy) for name, rule in PLAIN.items()} | {COST_AWARE: (by_policy, policy)}


def lost(problem: Any, outcome: Outcome, against: Outcome) -> float:
    """What the policy's models were worse by than those of another, over all partitions, in the policy's worth."""
    total = 0.0
    for step, other in zip(outcome.steps, against.steps, strict=True):
        for metric, each in worth(problem).items():
            ours, theirs = step.metrics.get(metric), other.metrics.get(metric)
            if ours is not None and theirs is not None:
                total += each * float(goodness(metric, theirs) - goodness(metric, ours))
    return total


def _play(watch: Watch, name: str, rule: Rule, policy: Policy, start: Recipe, keys: Sequence[str]) -> Outcome:
    past, state = watch.past, State(champion=start, since=keys[0])
    steps, paid, training_s, refused = [], 0.0, 0.0, 0
    measured = sorted({*worth(with_policy(past.problem, policy)), *SHOWN[past.problem.task]})
    for partition in keys:
        truth, _ = past.truth(state.champion, [partition])
        metrics = {metric: METRICS[metric].function(truth) if len(truth.labels) else None for metric in measured}
        served, outcome = state.champion.name, ""
        decision = rule(watch, policy, state, partition)
        if decision.action == "quarantine":
            state.held.append(partition)
        if decision.action in policy.costs:
            paid += policy.costs[decision.action]
            recipe = made(watch, state, decision, partition)
            is_training = decision.action.trains is not None
            if is_training:
                state.asked.append(partition)
                training_s += past.fitted(recipe).cpu_s if recipe else 0.0
            if recipe is None or (is_training and not _passes(past, recipe, state.champion)):
                refused, outcome = refused + 1, "refused"
            else:
                outcome = "serves"
                state.continued = (
                    state.continued + 1
                    if decision.action == Action.CONTINUE
                    else (0 if decision.action == Action.RETRAIN else state.continued)
                )
                # What was left by rolling back is not gone back to.
                state.previous = None if decision.action == Action.ROLL_BACK else state.champion
                state.champion = recipe
                state.since = past.problem.partitions.shift(partition, 1)
        steps.append(Step(partition, served, metrics, decision, outcome))
    actions: dict[str, int] = {}
    for step in steps:
        actions[step.decision.action] = actions.get(step.decision.action, 0) + 1
    return Outcome(
        name, tuple(steps), len(state.asked), refused, training_s, state.watching_s, paid, dict(sorted(actions.items()))
    )


def _passes(past: Past, recipe: Recipe, champion: Recipe) -> bool:
    """As the gate compares a challenger with the champion on the test split: by the lower ends of its gains, or a tie.

    Of the baselines, above which a tie is measured, there is the first alone.
    """
    problem = past.problem
    if recipe.how == "recalibrate":  # the ranking stays, and the newest rows were learnt from
        return True
    if recipe.base is not None and np.array_equal(past.fitted(recipe).scores, past.fitted(champion).scores):
        return False  # not a tree was added: it is the champion, and no fresher
    test = past.split(recipe.as_of, recipe.window_from, recipe.held)["test"]
    ours, blocks = past.truth(recipe, test)
    theirs, _ = past.truth(champion, test)
    if len(ours.labels) < problem.gate.min_rows:
        return False
    rule, wanted = problem.evaluation.bootstrap, problem.gate.gain_over_champion
    baseline, _ = past.truth(Recipe(recipe.as_of, "baseline", recipe.window_from, held=recipe.held), test)
    of_ours, of_theirs, of_baseline = (
        {metric: METRICS[metric].function(one) for metric in wanted} for one in (ours, theirs, baseline)
    )
    compared_with = {"metrics": of_theirs, "gain": gains(ours, theirs, blocks, rule, list(wanted))}
    report = {"metrics": {metric: {"value": value} for metric, value in of_ours.items()}}
    evaluation = {"confidence": rule.confidence, "baselines": {"first": {"metrics": of_baseline}}}
    return all(no_worse(evaluation, report, compared_with, metric, problem.gate).passed for metric in wanted)


def ranges(problem: Any, partitions: Sequence[str], first: str | None, last: str | None) -> tuple[str, str]:
    """The first and last partition to play; where none is given the history of `replay` is left out, or a quarter.

    Raises:
        DataError: nothing lies between.
    """
    if first is None:
        after = problem.partitions.shift(problem.replay.history_until.isoformat(), 1) if problem.replay else None
        first = after or partitions[len(partitions) // 4]
    found = problem.partitions.parse(first).isoformat(), problem.partitions.parse(last or partitions[-1]).isoformat()
    if not any(found[0] <= key <= found[1] for key in partitions):
        raise DataError(
            f"no partition from {found[0]} to {found[1]} was ingested",
            where=f"problem {problem.name}",
            cure=f"there are {partitions[0]} to {partitions[-1]}",
        )
    return found
