"""replay: policies played over a problem's history, partition by partition, and what each of them cost.

Per partition: the model that serves scores it; labels come with their delay; what monitoring sees is measured by the
functions that the monitor DAG calls; the policy decides; what it asks for is fitted as of then and serves from the next
partition on, if it passes the gate's comparison with the champion on its test split (gate.gain_over_champion); where
training.refit says so, once it was fitted again; where problem.yaml releases by steps, once its release has promoted
it. The candidate is one and the same all along, without the others and
without the gate's further checks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from pipelines.config import Action, Policy
from pipelines.errors import DataError, NothingToDo
from pipelines.evaluation.gate.champion_checks import no_worse
from pipelines.evaluation.gate.refitted import refit_check
from pipelines.metrics.bootstrap import gains
from pipelines.metrics.metrics import METRICS, goodness
from pipelines.monitoring.decide.decide import Decision
from pipelines.monitoring.decide.readings import worth
from pipelines.policies.history import History, Recipe
from pipelines.policies.played import PlayedVersion, State, Watch, with_policy
from pipelines.policies.rules import PLAIN, Rule, by_policy, made
from pipelines.policies.trial import Trial, is_played
from pipelines.problem import Problem

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
    history: History,
    first: str,
    last: str,
    policies: Mapping[str, tuple[Rule, Policy]],
    tell: Callable[[str, int, int], None] = lambda policy, done, of: None,
) -> list[Outcome]:
    """Each policy's outcome over the partitions from `first` to `last`; the first model is of the partition before.

    `tell` is told of each partition that a policy was played over, and of how many there are.

    Raises:
        NothingToDo: no partition in that range has its labels yet.
        DataError: what lies before `first` is too little for a first model.
    """
    labelled = set(history.mature(history.partitions[-1]))
    keys = [key for key in history.partitions if first <= key <= last and key in labelled]
    if not keys:
        raise NothingToDo(
            f"no partition from {first} to {last} has its labels yet", where=history.problem.name, cure="ingest more"
        )
    start = Recipe(history.problem.partitions.shift(first, -1))
    history.fitted(start)
    watch, done = Watch(history), []
    for name, (rule, policy) in policies.items():
        done.append(_play(watch, name, rule, policy, start, keys, tell))
        watch.save()
    return done


def compared(policy: Policy) -> dict[str, tuple[Rule, Policy]]:
    """The plain policies, and the problem's own (or another that is given)."""
    return {name: (rule, policy) for name, rule in PLAIN.items()} | {COST_AWARE: (by_policy, policy)}


def lost(problem: Problem, outcome: Outcome, against: Outcome) -> float:
    """What the policy's models were worse by than those of another, over all partitions, in the policy's worth."""
    total = 0.0
    for step, other in zip(outcome.steps, against.steps, strict=True):
        for metric, each in worth(problem).items():
            ours, theirs = step.metrics.get(metric), other.metrics.get(metric)
            if ours is not None and theirs is not None:
                total += each * float(goodness(metric, theirs) - goodness(metric, ours))
    return total


def _play(
    watch: Watch,
    name: str,
    rule: Rule,
    policy: Policy,
    start: Recipe,
    keys: Sequence[str],
    tell: Callable[[str, int, int], None],
) -> Outcome:
    history, problem = watch.history, with_policy(watch.history.problem, policy)
    state = State(champion=start, featured={*history.plan(start).keys})
    steps, paid, training_s, refused = [], 0.0, 0.0, 0
    measured = sorted({*worth(problem), *SHOWN[problem.task]})
    for number, partition in enumerate(keys):
        tell(name, number, len(keys))
        champion = state.champion
        state.scored[partition] = champion
        released = _released(history, state, partition)
        truth, _ = history.truth(champion, [partition], None)
        metrics = {metric: METRICS[metric].function(truth) if len(truth.labels) else None for metric in measured}
        decision = rule(PlayedVersion(watch, problem, state, champion, partition))
        action, outcome = decision.action, released
        if action == Action.QUARANTINE:
            state.held.append(partition)
        if action in policy.costs:
            paid += policy.cost(action)
            recipe = made(history, state, decision, partition)
            if action.trains:
                state.asked.append(partition)
                training_s += history.fitted(recipe).cpu_s if recipe else 0.0
            if recipe is None or (action.trains and not _passes(history, recipe, state.champion)):
                refused, outcome = refused + 1, "refused"
            elif action.trains and is_played(problem):
                outcome = _enter(problem, state, recipe, partition)
            else:
                outcome, state.trial, state.waits = "serves", None, None
                # What was left by rolling back is not gone back to.
                state.previous = None if action == Action.ROLL_BACK else state.champion
                state.champion = recipe
        steps.append(Step(partition, champion.name, metrics, decision, outcome))
    actions = Counter(step.decision.action for step in steps)
    return Outcome(
        name,
        tuple(steps),
        len(state.asked),
        refused,
        training_s,
        state.watching_s,
        paid,
        dict(sorted(actions.items())),
    )


def _enter(problem: Problem, state: State, recipe: Recipe, partition: str) -> str:
    """Begin the release of a model that has passed its gate, or let it wait for the one that is under way."""
    if state.trial is not None and not problem.release.newest:
        state.waits = recipe
        return "waits"
    state.trial = Trial.begin(problem, state.champion, recipe, partition)
    return "released"


def _released(history: History, state: State, partition: str) -> str:
    """One partition more of the release that is under way; what became of it, empty while it goes on."""
    if state.trial is None:
        return ""
    trial, champion = state.trial, state.champion
    step = trial.step(history, champion, {*state.held}, partition)
    if step == "hold":
        return ""
    if step == "promote":
        state.previous, state.champion = champion, trial.recipe
    waits, state.trial, state.waits = state.waits, None, None
    if waits is not None:
        state.trial = Trial.begin(history.problem, state.champion, waits, partition)
    return {"promote": "serves", "roll back": "rolled back", "expire": "expired"}[step]


def _passes(history: History, recipe: Recipe, champion: Recipe) -> bool:
    """As the gate compares a challenger with the champion on the test split, by the lower ends of its gains, or a tie;
    and as a model that was fitted again is held against the tested one."""
    problem = history.problem
    if recipe.how == "recalibrate":  # the ranking stays, and the newest rows were learnt from
        return True
    tested, of_champion = (history.fitted(each, is_tested=True) for each in (recipe, champion))
    if recipe.base is not None and np.array_equal(tested.scores, of_champion.scores):
        return False  # not a tree was added: it is the champion, and no fresher
    test = history.plan(recipe).test
    ours, blocks = history.truth(recipe, test, recipe.as_of, is_tested=True)
    theirs, _ = history.truth(champion, test, recipe.as_of, is_tested=True)
    if len(ours.labels) < problem.gate.min_rows:
        return False
    rule, wanted = problem.evaluation.bootstrap, problem.gate.gain_over_champion
    of_ours, of_theirs = ({metric: METRICS[metric].function(scored) for metric in wanted} for scored in (ours, theirs))
    baselines = {}
    for name, baseline in history.baselines(recipe).items():
        truth, _ = history.truth(baseline, test, recipe.as_of)
        baselines[name] = {"metrics": {metric: METRICS[metric].function(truth) for metric in wanted}}
    compared_with = {"metrics": of_theirs, "gain": gains(ours, theirs, blocks, rule, list(wanted))}
    report = {"metrics": {metric: {"value": value} for metric, value in of_ours.items()}}
    evaluation = {"confidence": rule.confidence, "baselines": baselines}
    is_no_worse = all(no_worse(evaluation, report, compared_with, metric, problem.gate).passed for metric in wanted)
    served, _ = history.truth(recipe, test, recipe.as_of)
    is_sound = not history.is_refitted(recipe) or refit_check(problem, ours, served, blocks).passed
    return is_no_worse and is_sound


def ranges(problem: Problem, partitions: Sequence[str], first: str | None, last: str | None) -> tuple[str, str]:
    """The first and last partition to play; where none is given the history of `replay` is left out, or a quarter.

    Raises:
        DataError: nothing lies between.
    """
    parts = problem.partitions
    if first is None:
        after = parts.shift(parts.last_of(problem.replay.history_until), 1) if problem.replay else None
        first = after or partitions[len(partitions) // 4]
    begin, end = first, last or partitions[-1]
    for key in (begin, end):
        parts.parse(key)
    if not any(begin <= key <= end for key in partitions):
        raise DataError(
            f"no partition from {begin} to {end} was ingested",
            where=f"problem {problem.name}",
            cure=f"there are {partitions[0]} to {partitions[-1]}",
        )
    return begin, end
