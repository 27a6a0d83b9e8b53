"""What a diagnosis is made of: kinds of shift, and what shows them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from pipelines.profiles.column import Frozen

MOST_DIGITS = 6

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


def apart(values: Sequence[float], digits: int = 2) -> list[str]:
    """Numbers with as many digits behind the point as tell them from each other, and two at least.

    >>> apart([0.33, 0.21]), apart([0.0582, 0.0578]), apart([0.5, 0.5])
    (['0.33', '0.21'], ['0.0582', '0.0578'], ['0.50', '0.50'])
    """
    while digits < MOST_DIGITS and len({f"{value:.{digits}f}" for value in values}) < len(set(values)):
        digits += 1
    return [f"{value:.{digits}f}" for value in values]


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

    `waiting`: partitions that do not count yet, as too many of their labels are still on their way. `unjudged`: of
    inputs and of performance, why they could not be judged, a clause for people: without findings that is no "stable".
    `is_empty`: the partition has no rows, and nothing was looked at.
    """

    findings: tuple[Finding, ...]
    labelled: tuple[str, ...]
    bad: tuple[str, ...]
    waiting: tuple[str, ...] = ()
    unjudged: dict[Literal["inputs", "performance"], str] = Field(default_factory=dict)
    is_empty: bool = False

    @property
    def kinds(self) -> tuple[Kind, ...]:
        return tuple(finding.kind for finding in self.findings)

    @property
    def is_newest_bad(self) -> bool:
        return bool(self.labelled) and self.labelled[-1] in self.bad
