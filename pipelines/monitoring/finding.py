"""What a diagnosis is made of: kinds of shift, and what shows them."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from pipelines.monitoring.column import Frozen

Kind = Literal[
    "data fault",
    "performance drop",
    "concept drift",
    "calibration drift",
    "label schema change",
    "label shift",
    "prediction drift",
    "covariate shift",
    "feedback loop",
    "staleness",
    "feature change",
]


class Finding(Frozen):
    """One kind of shift; `evidence` is a clause for people, `numbers` the same for machines.

    `features` are those that carry it, the most telling first; empty: it is of no feature.
    """

    kind: Kind
    evidence: str
    numbers: dict[str, float]
    features: tuple[str, ...] = ()


class Diagnosis(Frozen):
    """Findings, the most harmful first; newest labelled partitions that count, oldest first, and the bad of them.

    `unjudged`: of inputs and of performance, why they could not be judged, a clause for people: without findings that
    is no "stable". `is_empty`: the partition has no rows, and nothing was looked at.
    """

    findings: tuple[Finding, ...]
    labelled: tuple[str, ...]
    bad: tuple[str, ...]
    unjudged: dict[Literal["inputs", "performance"], str] = Field(default_factory=dict)
    is_empty: bool = False

    @property
    def kinds(self) -> tuple[Kind, ...]:
        return tuple(finding.kind for finding in self.findings)

    @property
    def is_newest_bad(self) -> bool:
        return bool(self.labelled) and self.labelled[-1] in self.bad
