"""compare: what the gate has to know beside the challenger's own report: how it does against others, row by row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from pipelines.documents.evaluation import Evaluation, Learnt, Promoted, Report
from pipelines.evaluation.report.slices import compared_slices
from pipelines.metrics.bootstrap import blocks_of, gains
from pipelines.metrics.metrics import SKILL, measure
from pipelines.metrics.scored import Scored
from pipelines.problem import Problem

if TYPE_CHECKING:
    from pipelines.training.model import Model


@dataclass(frozen=True)
class Contender:
    """A model and how it scored the test rows; a version of the registry says so, and what it has learnt from.

    promoted: of a champion, what `at_promotion` gives. learnt_from: its training partitions. known: its scores of the
    challenger's training rows; None where it asks for other features. learnt_test_rows: where rows are drawn, how many
    of the test rows it has learnt from.
    """

    name: str
    run_id: str
    model: Model
    scored: Scored
    version: str | None = None
    trained_until: str | None = None
    promoted: Promoted | None = None
    learnt_from: tuple[str, ...] = ()
    known: Scored | None = None
    learnt_test_rows: int | None = None

    @property
    def metrics(self) -> dict[str, float | None]:
        return measure(self.scored)


def evidence(
    problem: Problem,
    challenger: Contender,
    report: Report,
    baselines: list[Contender],
    champion: Contender | None,
    rows: pa.Table,
    learnt: pa.Table,
) -> Evaluation:
    """The part of an evaluation that is about models: challenger, learnt, baselines, champion and confidence.

    Gains are paired on the same test `rows`. `learnt` are rows, a sample maybe, of the training split; those of
    `challenger.known` and `champion.known`.
    """
    blocks, rule = blocks_of(problem, rows), problem.evaluation.bootstrap
    comparison: Evaluation = {
        "challenger": report,
        "learnt": _learnt(problem, challenger, champion, learnt),
        "baselines": {
            baseline.name: {
                "run_id": baseline.run_id,
                "metrics": baseline.metrics,
                "gain": gains(challenger.scored, baseline.scored, blocks, rule),
            }
            for baseline in baselines
        },
        "champion": None,
        "confidence": rule.confidence,
    }
    if champion is not None:
        slices = report["slices"]
        by_name = {part["name"]: part for part in (*slices["declared"], *slices["found"])}
        compared = compared_slices(problem, list(by_name.values()), rows, challenger.scored, champion.scored, blocks)
        comparison["champion"] = {
            "version": champion.version,
            "run_id": champion.run_id,
            "trained_until": champion.trained_until,
            "fitted_rows": champion.model.fitted_rows,
            "metrics": champion.metrics,
            "promoted": champion.promoted,
            "gain": gains(challenger.scored, champion.scored, blocks, rule),
            "slices": compared,
            "learnt_test_rows": champion.learnt_test_rows,
        }
    return comparison


def at_promotion(evaluation: Evaluation) -> Promoted:
    """What was measured in the evaluation that a champion came in by."""
    return {
        "metrics": {name: interval["value"] for name, interval in evaluation["challenger"]["metrics"].items()},
        "baselines": {name: {"metrics": baseline["metrics"]} for name, baseline in evaluation["baselines"].items()},
    }


def _learnt(problem: Problem, challenger: Contender, champion: Contender | None, rows: pa.Table) -> Learnt:
    """What the challenger makes of rows that it has learnt from."""
    model = challenger.model
    learnt: Learnt = {"from": model.learnt_from, "fitted_rows": model.fitted_rows, "bias": None, "shared": None}
    ours = challenger.known
    if ours is None or not rows.num_rows:
        return learnt
    if _keeps_frequencies(problem, challenger.name):
        learnt["bias"] = _bias(ours)
    if champion is not None and champion.known is not None:
        is_shared = np.isin(rows["partition"].to_numpy(zero_copy_only=False), champion.learnt_from)
        theirs, metric = champion.known.take(is_shared), SKILL[problem.task]
        blocks = blocks_of(problem, rows)[is_shared]
        if len(theirs.labels):
            gain = gains(ours.take(is_shared), theirs, blocks, problem.evaluation.bootstrap, [metric])[metric]
            learnt["shared"] = {"rows": len(theirs.labels), "champion": measure(theirs)[metric], "gain": gain}
    return learnt


def _keeps_frequencies(problem: Problem, candidate: str) -> bool:
    """Whether a model's mean score on its training rows is meant to be the share of positives there."""
    of, dataset = problem.training.of(candidate), problem.dataset
    changed = [of.imbalance, of.calibration, dataset.resampling]
    return (
        problem.task != "regression"
        and not of.of
        and all(change is None or change.method == "none" for change in changed)
    )


def _bias(scored: Scored) -> float:
    labels = np.eye(len(scored.classes))[scored.labels] if scored.scores.ndim == 2 else scored.labels
    off = np.average(scored.scores - labels, axis=0, weights=scored.weights)
    return float(off.flat[np.abs(off).argmax()]) if off.ndim else float(off)
