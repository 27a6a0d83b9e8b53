"""decide: what each way to act is expected to gain, and the policy's choice among them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipelines import ledger
from pipelines.config import Action
from pipelines.handoffs.config import problem_of
from pipelines.handoffs.monitoring import Decided, Explained
from pipelines.monitoring.diagnose.finding import Diagnosis
from pipelines.problem import Problem
from pipelines.stages.monitor import evidence
from pipelines.stages.waiting import handed_on

if TYPE_CHECKING:
    from pipelines.monitoring.decide.measure import Earlier


def decide(problem_name: str, explained: Explained, trainings: int = 0) -> Decided:
    """Measure what each way to act would have gained, and let the policy choose.

    Readings of earlier partitions are those on the ledger. `trainings`: runs of the train DAG that are on, or wait.
    """
    from pipelines.monitoring.decide.measure import weigh
    from pipelines.monitoring.decide.weighing import Weighing
    from pipelines.stages.monitor.past import Past
    from pipelines.usage.trainings import costings

    problem = problem_of(problem_name, explained)
    diagnosis = evidence.read(Diagnosis, explained.diagnosis)
    decision, readings = weigh(
        Past(explained.version, handed_on(problem, explained)),
        diagnosis,
        _earlier(problem, explained.partition),
        since=explained.since if "concept drift" in diagnosis.kinds else None,
        is_training=trainings > 0,
        costs=costings(problem, problem.monitoring.policy),
    )
    weighing = Weighing(options=decision.options, readings=tuple(readings))
    return Decided(
        **explained.model_dump(),
        weighing=evidence.keep(problem, explained, "weighing", weighing),
        verdict=decision.verdict,
        action=decision.action,
        reason=decision.reason,
        window_from=decision.window_from,
    )


def _earlier(problem: Problem, partition: str) -> Earlier:
    """What the ledger has of the partitions before; each reading once: a run that was cleared has written it again."""
    from pydantic import BaseModel

    from pipelines.monitoring.decide.measure import Earlier
    from pipelines.monitoring.decide.readings import Reading

    class Measured(BaseModel, extra="ignore"):
        """Of the evidence of a decision what `decide` goes by: the rest is many times as long."""

        readings: tuple[Reading, ...] | None = None

    rows = [row for row in ledger.decided(problem, "monitoring", Measured) if row[0]["partition"] < partition]
    readings = [reading for _, measured in rows for reading in measured.readings or ()]
    each = {(reading.way, reading.partition, reading.version, reading.window_from): reading for reading in readings}
    requests = sorted(row["partition"] for row, _ in rows if Action(row["action"]).trains)
    return Earlier(requests, list(each.values()))
