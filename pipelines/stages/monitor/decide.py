"""decide: what each way to act is expected to gain, and the policy's choice among them."""

from __future__ import annotations

from typing import Any

from pipelines import ledger, store
from pipelines.config import Action, Way
from pipelines.handoffs.config import problem_of
from pipelines.handoffs.monitoring import Decided, Explained
from pipelines.monitoring.decide.decide import Decision, Situation, is_alarm
from pipelines.monitoring.decide.readings import Reading
from pipelines.monitoring.decide.weighing import Weighing
from pipelines.monitoring.diagnose.finding import Diagnosis
from pipelines.paths import version_uri
from pipelines.problem import Problem
from pipelines.stages.monitor import evidence
from pipelines.stages.monitor.readings import ages, measure, taught_by
from pipelines.stages.waiting import handed_on


def decide(problem_name: str, explained: Explained, trainings: int = 0) -> Decided:
    """Measure what each way to act would have gained, and let the policy choose.

    Readings of earlier partitions are those on the ledger. `trainings`: runs of the train DAG that are on, or wait.
    """
    from pipelines.monitoring.decide.decide import decide as apply_policy

    problem = problem_of(problem_name, explained)
    diagnosis = evidence.read(Diagnosis, explained.diagnosis)
    readings: list[Reading] = []
    if diagnosis.is_empty:
        decision = apply_policy(problem.monitoring.policy, diagnosis, (), Situation())
    else:
        decision, readings = _decision(problem, explained, diagnosis, trainings)
    weighing = Weighing(options=decision.options, readings=tuple(readings))
    return Decided(
        **explained.model_dump(),
        weighing=evidence.keep(problem, explained, "weighing", weighing),
        verdict=decision.verdict,
        action=decision.action,
        reason=decision.reason,
        window_from=decision.window_from,
    )


def _decision(
    problem: Problem, explained: Explained, diagnosis: Diagnosis, trainings: int
) -> tuple[Decision, list[Reading]]:
    """The policy's choice, and what was measured for it."""
    from pipelines.monitoring.decide.decide import decide as apply_policy
    from pipelines.monitoring.decide.options import options

    policy, partition, version = problem.monitoring.policy, explained.partition, explained.version
    earlier = [row for row in ledger.decisions(problem, "monitoring") if row["partition"] < partition]
    lineage = store.read_json(version_uri(problem, version, "lineage.json"))
    chain = taught_by(problem, lineage)
    situation = _situation(problem, partition, lineage, len(chain) - 1, earlier, trainings)
    readings, new, unmeasured = _earlier_readings(earlier), list[Reading](), dict[Way, str]()
    if policy.updates == "continual":
        new, unmeasured = measure(
            version,
            handed_on(problem, explained),
            chain,
            lineage["candidate"],
            readings,
            is_bad=diagnosis.is_newest_bad,
            since=explained.since if "concept drift" in diagnosis.kinds else None,
        )
    alarm = is_alarm(policy, diagnosis)
    considered = options(policy, [*readings, *new], version, ages(problem, chain, partition), alarm, unmeasured)
    return apply_policy(policy, diagnosis, considered if policy.updates == "continual" else (), situation), new


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
    written = [Reading.model_validate(kept) for row in earlier for kept in row["evidence"].get("readings") or []]
    each = {(reading.way, reading.partition, reading.version, reading.window_from): reading for reading in written}
    return list(each.values())
