"""The outcomes of replayed policies, for people and for machines."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import JsonValue

from pipelines.policies.replay import SHOWN, Outcome, lost
from pipelines.problem import Problem

Row = dict[str, JsonValue]


def summary(problem: Problem, outcomes: Sequence[Outcome]) -> list[Row]:
    """A row per policy. paid: configured costs of its actions; lost: what its models were worse by than those of
    `always`, over all partitions (below 0: better); cost: both; saved: the cost of `always` less this one's."""
    skill, loss = SHOWN[problem.task]
    against = next((outcome for outcome in outcomes if outcome.policy == "always"), None)
    rows: list[Row] = []
    for outcome in outcomes:
        worse = None if against is None else lost(problem, outcome, against)
        cost = None if worse is None else outcome.paid + worse
        rows.append(
            {
                "policy": outcome.policy,
                "trainings": outcome.trainings,
                "refused": outcome.refused,
                skill: outcome.mean(skill),
                loss: outcome.mean(loss),
                "training_cpu_s": outcome.training_s,
                "watching_cpu_s": outcome.watching_s,
                "paid": outcome.paid,
                "lost": worse,
                "cost": cost,
                "saved": None if cost is None or against is None else against.paid - cost,
            }
        )
    return rows


def decisions(outcome: Outcome) -> list[Row]:
    """A row per partition: how it turned out, and what was decided at its end."""
    return [
        {
            "partition": step.partition,
            "model": step.champion,
            **step.metrics,
            "verdict": step.decision.verdict,
            "action": step.decision.action,
            "outcome": step.outcome,
            "reason": step.decision.reason,
            "options": [option.model_dump(mode="json") for option in step.decision.options],
        }
        for step in outcome.steps
    ]


def shown(value: object) -> str:
    """A cell's text.

    >>> shown(0.70661), shown(12), shown(None), shown(-1e-9), shown("always")
    ('0.7066', '12', '-', '0.0000', 'always')
    """
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.0f}" if abs(value) >= 100 else f"{round(value, 4) + 0.0:.4f}"
    return str(value)


def markdown(rows: Sequence[Row]) -> str:
    """Rows with the same keys as a Markdown table."""
    names = list(rows[0]) if rows else []
    lines = [f"| {' | '.join(names)} |", f"| {' | '.join('---' for _ in names)} |"]
    return "\n".join([*lines, *(f"| {' | '.join(shown(row[name]) for name in names)} |" for row in rows)])
