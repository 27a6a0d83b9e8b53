"""The policies that are replayed: the cost-aware one, and plain ones to hold it against."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from pipelines.config import Action, Policy
from pipelines.errors import EvergreenError
from pipelines.metrics.metrics import SKILL
from pipelines.monitoring.decide.decide import Decision, Situation, decide, is_alarm
from pipelines.monitoring.decide.options import options
from pipelines.monitoring.decide.readings import Reading
from pipelines.policies.past import Recipe
from pipelines.policies.watch import Watch, ages

COLUMN_PSI = 0.25  # Siddiqi's major shift


@dataclass
class State:
    """What a policy has come to: the model that serves, and what was asked for so far."""

    champion: Recipe
    since: str  # first partition that the champion scored
    previous: Recipe | None = None
    continued: int = 0
    asked: list[str] = field(default_factory=list)  # partitions that asked for a training
    held: list[str] = field(default_factory=list)  # partitions that it has put into quarantine
    readings: list[Reading] = field(default_factory=list)
    watching_s: float = 0.0


Rule = Callable[[Watch, Policy, State, str], Decision]


def never(_: Watch, policy: Policy, state: State, partition: str) -> Decision:
    return Decision(verdict="stable", action="none", reason="never")


def always(_: Watch, policy: Policy, state: State, partition: str) -> Decision:
    return Decision(verdict="stable", action=Action.RETRAIN, reason="always")


def on_column_drift(watch: Watch, policy: Policy, state: State, partition: str) -> Decision:
    """Any feature's PSI to what the model learnt from is above 0.25: what many monitors do."""
    found, cpu_s = watch.detected(state.champion, state.since, partition, policy, state.held)
    state.watching_s += cpu_s
    moved = [name for name, drift in found.columns.items() if drift.psi > COLUMN_PSI]
    reason = f"PSI above {COLUMN_PSI} of {', '.join(moved[:3])}" if moved else "no PSI above the limit"
    return Decision(
        verdict="covariate shift" if moved else "stable", action=Action.RETRAIN if moved else "none", reason=reason
    )


def on_metric_drop(watch: Watch, policy: Policy, state: State, partition: str) -> Decision:
    """The newest labelled partition is below the model's own test by the policy's limit (AUC; of a regression R2)."""
    metric = SKILL[watch.problem.task]
    limit = policy.max_r2_drop if metric == "r2" else policy.max_auc_drop
    realised = watch.realised(state.champion, state.since, partition, policy, state.held)
    usual = watch.reference(state.champion).metrics.get(metric)
    value = realised[-1].value(metric) if realised and realised[-1].rows >= policy.min_labels else None
    is_down = value is not None and usual is not None and usual - value > limit
    reason = f"{metric} {value:.3f} in {realised[-1].partition}, {usual:.3f} tested" if is_down else "no drop"
    return Decision(
        verdict="performance drop" if is_down else "stable", action=Action.RETRAIN if is_down else "none", reason=reason
    )


def by_policy(watch: Watch, policy: Policy, state: State, partition: str) -> Decision:
    """The problem's own policy, as the monitor DAG applies it."""
    problem, parts = watch.problem, watch.problem.partitions
    diagnosis, cpu_s = watch.diagnosis(state.champion, state.since, partition, policy, state.held)
    state.watching_s += cpu_s
    its_ages = ages(problem, state.champion, partition)
    considered = []
    if policy.updates == "continual":
        found, cpu_s = watch.readings(
            state.champion, state.previous, state.since, partition, policy, diagnosis.is_newest_bad, state.held
        )
        state.watching_s += cpu_s
        state.readings += found
        why_not = {} if state.previous else {Action.ROLL_BACK: "there is no version before"}
        if problem.training.candidates[watch.past.candidate].model != "xgboost":
            why_not[Action.CONTINUE] = "only xgboost goes on from a champion"
        alarm = is_alarm(policy, diagnosis)
        considered = list(options(policy, state.readings, state.champion.name, its_ages, alarm, why_not))  # type: ignore[arg-type]
    since = len(parts.between(state.asked[-1], partition)) - 1 if state.asked else None
    situation = Situation(
        since_request=since,
        since_training=min(its_ages[Action.CONTINUE], since if since is not None else its_ages[Action.CONTINUE]),
        continued=state.continued,
    )
    return decide(policy, diagnosis, considered, situation)


PLAIN: dict[str, Rule] = {
    "never": never,
    "always": always,
    f"any column's PSI > {COLUMN_PSI}": on_column_drift,
    "metric drop": on_metric_drop,
}


def made(watch: Watch, state: State, decision: Decision, partition: str) -> Recipe | None:
    """The model that a decision asks for; None where it asks for none, or it cannot be made."""
    past, champion, kept = watch.past, state.champion, tuple(state.held)
    match decision.action:
        case Action.RETRAIN:
            recipe = Recipe(partition, window_from=decision.window_from, held=kept)
        case Action.CONTINUE:
            recipe = Recipe(partition, "continue", base=champion, held=kept)
        case Action.RECALIBRATE:
            recipe = Recipe(partition, "recalibrate", base=champion, held=kept)
        case Action.ROLL_BACK:
            return state.previous
        case Action.FALL_BACK:
            recipe = Recipe(champion.as_of, "baseline")
        case _:
            return None
    try:
        past.fitted(recipe)
    except EvergreenError:
        return None
    return recipe
