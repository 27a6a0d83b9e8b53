"""refitted: whether a model that was fitted again, on the tested rows too, may serve in the place of the tested one.

It has learnt from those rows, so no figure of it on them says how good it is: that the tested model has shown. What it
shows is damage. A sound refit fits rows that it has learnt from at least as well as a model that has not.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from pipelines.documents.lineage import RefitVerdict
from pipelines.documents.measures import Interval
from pipelines.metrics.bootstrap import Array, gains
from pipelines.metrics.scored import Scored
from pipelines.problem import Problem


class RefitCheck(NamedTuple):
    """`gain`: of the refitted model over the tested one on the test rows, of which the refitted one has learnt."""

    passed: bool
    reason: str
    metric: str
    gain: Interval | None

    def document(self) -> RefitVerdict:
        """As lineage.json keeps it."""
        return {"passed": self.passed, "reason": self.reason, "metric": self.metric, "gain": self.gain}


def refit_check(problem: Problem, tested: Scored, refitted: Scored, blocks: Array) -> RefitCheck:
    """Fails where the refitted model's scores are no numbers, or are surely worse than the tested model's on the test
    rows by training.select_by: the whole interval of the paired gain lies below 0, or there is none and the gain does.

    Args:
        tested, refitted: the same test rows, scored by either.
        blocks: of these rows, as `blocks_of` gives them.
    """
    metric = problem.training.select_by
    strange = int((~np.isfinite(refitted.scores)).sum())
    if strange:
        return RefitCheck(False, f"{strange} of its scores on the test rows are no numbers", metric, None)
    gain = gains(refitted, tested, blocks, problem.evaluation.bootstrap, [metric])[metric]
    value, high = gain["value"], gain["high"]
    if value is None:
        return RefitCheck(
            False, f"{metric} has no value on the test rows, so nothing shows that it is sound", metric, gain
        )
    is_worse = (value if high is None else high) < 0
    side = "better" if value >= 0 else "worse"
    message = f"{metric} is {side} by {abs(value):.4f} than the tested model's on the test rows, of which it has learnt"
    return RefitCheck(
        not is_worse, message + (": it should fit them better, not worse" if is_worse else ""), metric, gain
    )
