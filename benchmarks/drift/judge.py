"""Two judges of a week: the monitor's own diagnosis, and a fixed limit on PSI."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from benchmarks.drift.plants import ROWS, Plant
from pipelines.config import Policy
from pipelines.monitoring.detect import detect
from pipelines.monitoring.diagnose import diagnose
from pipelines.monitoring.finding import Finding
from pipelines.monitoring.profile import SCORE, Profiles, Reference

SCORE_KINDS = ("prediction drift",)


@dataclass(frozen=True)
class Judged:
    """One week: findings that alarm (a feature change does not), columns told as changed, PSI by column."""

    alarms: tuple[Finding, ...]
    changed: tuple[str, ...]
    psi: dict[str, float]

    def beyond(self, limit: float) -> set[str]:
        return {name for name, psi in self.psi.items() if psi > limit}


@dataclass(frozen=True)
class Count:
    """Of so many weeks (`of`), how many."""

    hits: int
    of: int

    def __str__(self) -> str:
        return f"{self.hits} of {self.of}" if self.of else "-"


def judge(policy: Policy, reference: Reference, found: Profiles, since: Mapping[str, Profiles]) -> Judged:
    """A week after those of `since`, without labels: as it is judged on the day it was scored."""
    detected = detect(reference, found, since, policy.false_alarm_rate, policy.trailing_partitions)
    findings = diagnose(policy, reference, detected, []).findings
    return Judged(
        alarms=tuple(one for one in findings if one.kind != "feature change"),
        changed=tuple(name for one in findings if one.kind == "feature change" for name in one.numbers),
        psi={name: one["psi"] for name, one in detected["columns"].items()} | {SCORE: detected["prediction"]["psi"]},
    )


def alarmed(plant: Plant, weeks: list[tuple[Judged, Judged]]) -> tuple[Count, Count, Count]:
    """Harmed weeks (week, the same unharmed) that alarm, of those that do not alarm unharmed; of the right kind; and
    with a right feature first of all that it says about features."""
    quiet = [harmed for harmed, unharmed in weeks if not unharmed.alarms]
    kinds = [one for one in quiet if any(alarm.kind in plant.kinds for alarm in one.alarms)]
    first = [one for one in quiet if (said := leading(one, SCORE in plant.features)) and said in plant.features]
    return tuple(Count(len(hit), len(quiet)) for hit in ([q for q in quiet if q.alarms], kinds, first))  # type: ignore[return-value]


def leading(judged: Judged, is_of_scores: bool) -> str | None:
    """The first column that an alarm names: of a fault the first, of a shift the largest. What happens to a feature
    moves the scores too: their drift is passed over unless scores are what was harmed."""
    for alarm in judged.alarms:
        if alarm.kind in SCORE_KINDS:
            if is_of_scores:
                return SCORE
        elif alarm.kind == "data fault":
            return next(iter(alarm.numbers)).split(" ")[0]
        else:
            return max(alarm.numbers, key=lambda name: alarm.numbers[name])
    return None


def by_psi(plant: Plant, weeks: list[tuple[Judged, Judged]], limit: float) -> tuple[Count, Count]:
    """Harmed weeks with a right column beyond the limit, of those that have none of them beyond it unharmed; and,
    of all, those whose largest PSI is a right column's. It has no word for rows that come again."""
    if ROWS in plant.features:
        return Count(0, 0), Count(0, 0)
    right = set(plant.features)
    quiet = [harmed for harmed, unharmed in weeks if not right & unharmed.beyond(limit)]
    found = [one for one in quiet if right & one.beyond(limit)]
    names = [{name: psi for name, psi in harmed.psi.items() if (name == SCORE) == (SCORE in right)}
             for harmed, _ in weeks]  # fmt: skip
    first = [psi for psi in names if max(psi, key=lambda name: psi[name]) in right]
    return Count(len(found), len(quiet)), Count(len(first), len(weeks))
