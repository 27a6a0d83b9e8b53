"""The policies that are replayed: the cost-aware one, and plain ones to hold it against."""

from __future__ import annotations

from collections.abc import Callable

from pipelines.config import Action
from pipelines.errors import EvergreenError
from pipelines.metrics.metrics import SKILL
from pipelines.monitoring.decide.decide import Decision
from pipelines.monitoring.decide.measure import Earlier, weigh
from pipelines.monitoring.detect.detection import Drift, LabelledPartition
from pipelines.monitoring.diagnose.diagnose import diagnose
from pipelines.monitoring.diagnose.finding import Diagnosis
from pipelines.monitoring.served import detected, newest_realised, waiting
from pipelines.policies.history import History, Recipe
from pipelines.policies.played import PlayedVersion, State

COLUMN_PSI = 0.25  # Siddiqi's major shift

Rule = Callable[[PlayedVersion], Decision]


def never(_: PlayedVersion) -> Decision:
    return Decision(verdict="stable", action=Action.NONE, reason="never")


def always(_: PlayedVersion) -> Decision:
    return Decision(verdict="stable", action=Action.RETRAIN, reason="always")


def on_column_drift(served: PlayedVersion) -> Decision:
    """Any feature's PSI to what the model learnt from is above 0.25: what many monitors do."""
    columns = _detected(served).columns
    moved = [name for name, drift in columns.items() if drift.psi > COLUMN_PSI]
    if not moved:
        return Decision(verdict="stable", action=Action.NONE, reason="no PSI above the limit")
    reason = f"PSI above {COLUMN_PSI} of {', '.join(moved[:3])}"
    return Decision(verdict="covariate shift", action=Action.RETRAIN, reason=reason)


def on_metric_drop(served: PlayedVersion) -> Decision:
    """The newest labelled partition is below the model's own test by the policy's limit (AUC; of a regression R2)."""
    metric, policy = SKILL[served.problem.task], served.problem.monitoring.policy
    limit = policy.max_r2_drop if metric == "r2" else policy.max_auc_drop
    realised = _own_realised(served)
    usual = served.reference.metrics.get(metric)
    value = realised[-1].value(metric) if realised and realised[-1].rows >= policy.min_labels else None
    if value is None or usual is None or usual - value <= limit:
        return Decision(verdict="stable", action=Action.NONE, reason="no drop")
    reason = f"{metric} {value:.3f} in {realised[-1].partition}, {usual:.3f} tested"
    return Decision(verdict="performance drop", action=Action.RETRAIN, reason=reason)


def by_policy(served: PlayedVersion) -> Decision:
    """The problem's own policy, as the monitor DAG applies it."""
    state = served.state
    decision, readings = weigh(served, diagnosis(served), Earlier(state.asked, state.readings))
    state.readings += readings
    return decision


def diagnosis(served: PlayedVersion) -> Diagnosis:
    policy = served.problem.monitoring.policy
    return diagnose(policy, served.reference, _detected(served), _own_realised(served), waiting=waiting(served))


def _detected(served: PlayedVersion) -> Drift:
    return served.measured_once("detected", Drift, lambda: detected(served))


def _own_realised(served: PlayedVersion) -> list[LabelledPartition]:
    return [pool for pool in newest_realised(served) if pool.version == served.version]


PLAIN: dict[str, Rule] = {
    "never": never,
    "always": always,
    f"any column's PSI > {COLUMN_PSI}": on_column_drift,
    "metric drop": on_metric_drop,
}


def made(history: History, state: State, decision: Decision, partition: str) -> Recipe | None:
    """The model that a decision asks for; None where it asks for none, or it cannot be made."""
    champion, held = state.champion, tuple(state.held)
    match decision.action:
        case Action.ROLL_BACK:
            return state.previous
        case Action.FALL_BACK:
            return history.baseline(champion)
        case Action.RETRAIN:
            after = history.trained_until(champion)
            recipe = Recipe(partition, window_from=decision.window_from, held=held, after=after)
        case Action.CONTINUE | Action.RECALIBRATE:
            after = history.trained_until(champion)
            recipe = Recipe(partition, decision.action.trains or "scratch", base=champion, held=held, after=after)
        case _:
            return None
    try:
        state.featured.update(history.plan(recipe).keys)
        history.fitted(recipe)
    except EvergreenError:
        return None
    return recipe
