"""gate: may the challenger serve?"""

from __future__ import annotations

import re

from pipelines import ledger, store
from pipelines.documents.evaluation import Evaluation
from pipelines.errors import GateFailed
from pipelines.handoffs.config import problem_of
from pipelines.handoffs.training import Evaluated, Gated
from pipelines.paths import evaluation_uri


def gate(problem_name: str, evaluated: Evaluated) -> Gated:
    """Judge the challenger by its evaluation; the verdict goes to the ledger and to its MLflow run either way.

    Raises:
        GateFailed: the challenger is not good enough, or there is no evidence; the champion goes on serving.
    """
    from pipelines import tracking
    from pipelines.evaluation.gate.checks import gate as judge
    from pipelines.evaluation.page.page import page

    problem = problem_of(problem_name, evaluated)
    uri = evaluated.evaluation
    kept: Evaluation | None = store.find_json(uri)
    evaluation: Evaluation = kept or {}
    serves = tracking.champion(problem)
    evaluation["serves"] = None if serves is None else str(serves.version)
    evaluation["judged"] = {"training": evaluated.training, "run_id": evaluated.run_id}
    verdict = judge(evaluation, problem.gate)
    word = "passed" if verdict.passed else "failed"
    ledger.record(
        problem,
        decision=f"gate:{evaluated.training}",
        kind="gate",
        partition=evaluated.partition,
        verdict=word,
        action="register" if verdict.passed else "keep champion",
        reason=verdict.reason,
        evidence={"evaluation": evaluation, **verdict.document()},
    )
    judged = page(evaluation, verdict.document())
    store.write_bytes(evaluation_uri(problem, evaluated.training, "html"), judged)
    tags = {"gate": word, "gate_reason": verdict.reason}
    for check in verdict.checks:
        outcome = "passed" if check.passed else f"failed: {check.reason}"
        tags["gate." + re.sub(r"[^\w .:/-]", "", check.name)] = outcome
    tracking.annotate(evaluated.run_id, files={"gate.json": verdict.document(), "evaluation.html": judged}, tags=tags)
    if not verdict.passed:
        raise GateFailed(
            f"{evaluated.candidate} did not pass: {verdict.reason}",
            where=f"gate of {problem_name}, data until {evaluated.partition}",
            cure="the champion goes on serving; compare the runs in MLflow, then change the data, the candidates or "
            "the thresholds (gate in problem.yaml)",
        )
    return Gated(
        config=evaluated.config,
        partition=evaluated.partition,
        run_id=evaluated.run_id,
        candidate=evaluated.candidate,
        training_set=evaluated.training_set,
        evaluation=evaluated.evaluation,
        verdict=word,
        reason=verdict.reason,
        models_sha256=evaluated.models_sha256,
    )
