"""decide: what each way to act is expected to gain, and the policy's choice among them."""

from __future__ import annotations

from typing import Any

from pipelines import ledger, store
from pipelines.config import Action, Way
from pipelines.handoffs.config import pinned_problem
from pipelines.monitoring.decide.decide import Situation, is_alarm
from pipelines.monitoring.decide.readings import Reading
from pipelines.paths import version_uri
from pipelines.problem import Problem
from pipelines.stages.monitor.readings import ages, measure, taught_by
from pipelines.stages.waiting import handed_on


def decide(problem_name: str, explained: dict[str, Any], trainings: int = 0) -> dict[str, Any]:
    """Measure what each way to act would have gained, and let the policy choose.

    Readings of earlier partitions are those on the ledger. `trainings`: runs of the train DAG that are on, or wait.
    Result: what was given, and {"verdict", "action", "reason",
    "window_from", "options": [each way with its expected gain, cost and why it was not taken], "readings"}.
    """
    from pipelines.monitoring.decide.decide import decide as apply_policy
    from pipelines.monitoring.decide.options import options
    from pipelines.monitoring.diagnose.finding import Diagnosis

    problem = pinned_problem(problem_name, explained.get("config"))
    policy, partition, version = problem.monitoring.policy, explained["partition"], explained["version"]
    diagnosis = Diagnosis.model_validate(explained["diagnosis"])
    if diagnosis.is_empty:
        decision = apply_policy(policy, diagnosis, (), Situation())
        return {**explained, **decision.model_dump(mode="json"), "readings": []}
    earlier = [row for row in ledger.decisions(problem, "monitoring") if row["partition"] < partition]
    lineage = store.read_json(version_uri(problem, version, "lineage.json"))
    chain = taught_by(problem, lineage)
    situation = _situation(problem, partition, lineage, len(chain) - 1, earlier, trainings)
    readings, new, unmeasured = _earlier_readings(earlier), list[Reading](), dict[Way, str]()
    if policy.updates == "continual":
        since = explained.get("explained", {}).get("since") if "concept drift" in diagnosis.kinds else None
        new, unmeasured = measure(
            version,
            handed_on(problem, explained),
            chain,
            lineage["candidate"],
            readings,
            is_bad=diagnosis.is_newest_bad,
            since=since,
        )
    its_ages = ages(problem, chain, partition)
    considered = options(policy, [*readings, *new], version, its_ages, is_alarm(policy, diagnosis), unmeasured)
    decision = apply_policy(policy, diagnosis, considered if policy.updates == "continual" else (), situation)
    told = [one.model_dump(mode="json") for one in new]
    return {**explained, **decision.model_dump(mode="json"), "readings": told}


def _situation(
    problem: Problem,
    partition: str,
    lineage: dict[str, Any],
    continued: int,
    earlier: list[ledger.Decision],
    trainings: int,
) -> Situation:
    parts = problem.partitions
    requests = sorted(row["partition"] for row in earlier if Action(row["action"]).trains)
    since = len(parts.between(requests[-1], partition)) - 1 if requests else None
    age = max(len(parts.between(lineage["partition"], partition)) - 1, 0)
    return Situation(
        since_request=since,
        since_training=age if since is None else min(age, since),
        continued=continued,
        is_training=trainings > 0,
    )


def _earlier_readings(earlier: list[ledger.Decision]) -> list[Reading]:
    """The ledger's readings, each once: a run that was cleared has written them again."""
    found = [Reading.model_validate(one) for row in earlier for one in row["evidence"].get("readings") or []]
    each = {(one.way, one.partition, one.version, one.window_from): one for one in found}
    return list(each.values())
