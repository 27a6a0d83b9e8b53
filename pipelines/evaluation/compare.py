"""compare: what the gate has to know beside the challenger's own report: how it does against others, row by row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from pipelines.evaluation.bootstrap import blocks_of, gains
from pipelines.evaluation.metrics import measure
from pipelines.evaluation.scored import Scored
from pipelines.evaluation.slices import compared_slices
from pipelines.problem import Problem

if TYPE_CHECKING:
    from pipelines.training.model import Model


@dataclass(frozen=True)
class Contender:
    """A model and how it scored the test rows; a version of the registry says so, and what it has learnt from.

    promoted: of a champion, what `at_promotion` gives.
    """

    name: str
    run_id: str
    model: Model
    scored: Scored
    version: str | None = None
    trained_until: str | None = None
    promoted: dict[str, Any] | None = None

    @property
    def metrics(self) -> dict[str, float | None]:
        return measure(self.scored)


def evidence(
    problem: Problem,
    challenger: Contender,
    report: dict[str, Any],
    baselines: list[Contender],
    champion: Contender | None,
    rows: pa.Table,
) -> dict[str, Any]:
    """{"challenger": report, "baselines", "champion" (None: none serves)}, gains paired on the same test rows."""
    blocks, rule = blocks_of(problem, rows), problem.evaluation.bootstrap
    found: dict[str, Any] = {
        "challenger": report,
        "baselines": {
            one.name: {
                "run_id": one.run_id,
                "metrics": one.metrics,
                "gain": gains(challenger.scored, one.scored, blocks, rule),
            }
            for one in baselines
        },
        "champion": None,
    }
    if champion is not None:
        known = report["slices"]
        several = {one["name"]: one for one in (*known["declared"], *known["found"])}
        found["champion"] = {
            "version": champion.version,
            "run_id": champion.run_id,
            "trained_until": champion.trained_until,
            "metrics": champion.metrics,
            "promoted": champion.promoted,
            "gain": gains(challenger.scored, champion.scored, blocks, rule),
            "slices": compared_slices(
                problem, list(several.values()), rows, challenger.scored, champion.scored, blocks
            ),
        }
    return found


def at_promotion(evaluation: dict[str, Any]) -> dict[str, Any]:
    """{"metrics": {metric: value}, "baselines": {name: {"metrics"}}} of the evaluation that a champion came in by."""
    return {
        "metrics": {name: one["value"] for name, one in evaluation["challenger"]["metrics"].items()},
        "baselines": {name: {"metrics": one["metrics"]} for name, one in evaluation["baselines"].items()},
    }
