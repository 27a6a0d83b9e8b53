"""gate: may the challenger serve? Numbers and thresholds in, a verdict with a reason per check out."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from pipelines.config import Gate
from pipelines.evaluation.metrics import METRICS


@dataclass(frozen=True)
class Check:
    name: str
    passed: bool
    reason: str


@dataclass(frozen=True)
class Verdict:
    checks: list[Check]

    @property
    def passed(self) -> bool:
        return all(check.passed for check in self.checks)

    @property
    def reason(self) -> str:
        """The checks that failed, or all of them when none did, in one line."""
        failed = [check.reason for check in self.checks if not check.passed]
        return "; ".join(failed or [check.reason for check in self.checks])

    def to_dict(self) -> dict[str, Any]:
        return {"passed": self.passed, "reason": self.reason, "checks": [asdict(check) for check in self.checks]}


def gate(evaluation: dict[str, Any], thresholds: Gate) -> Verdict:
    """Judge an evaluation, as `evaluate` gives it. Evidence that is missing or not a number fails its check.

    All metrics are the test split's: challenger, baseline and champion on the same rows. A gain is positive
    where the challenger is better, whichever way its metric runs.
    """
    challenger = _metrics(evaluation, "challenger")
    checks = [_enough_rows(evaluation, thresholds.min_rows)]
    for metric, limit in thresholds.limits.items():
        value = _number(challenger, metric)
        bounds = {"at least": limit.min, "at most": limit.max}
        wanted = " and ".join(f"{side} {bound:g}" for side, bound in bounds.items() if bound is not None)
        low = -math.inf if limit.min is None else limit.min
        high = math.inf if limit.max is None else limit.max
        is_inside = value is not None and low <= value <= high
        checks.append(Check(f"{metric} limit", is_inside, f"{metric} {_show(value)}, wanted {wanted}"))
    checks += _gains("baseline", challenger, _metrics(evaluation, "baseline"), dict(thresholds.gain_over_baseline))
    champion = evaluation.get("champion")
    if "champion" not in evaluation:
        checks.append(Check("champion", False, "no evidence about the champion"))
    elif champion is None:
        checks.append(Check("champion", True, "no champion serves yet"))
    else:
        checks += _against_champion(evaluation, champion, challenger, thresholds)
    return Verdict(checks)


def _enough_rows(evaluation: dict[str, Any], wanted: int) -> Check:
    rows = evaluation.get("test_rows") or 0
    return Check("test rows", rows >= wanted, f"{rows} test rows, wanted at least {wanted}")


def _against_champion(
    evaluation: dict[str, Any], champion: dict[str, Any], challenger: dict[str, Any], thresholds: Gate
) -> list[Check]:
    tested = evaluation.get("test_partitions") or []
    until = champion.get("trained_until")
    same_run = evaluation["challenger"].get("run_id") == champion.get("run_id")
    return [
        Check("another model", not same_run, "challenger and champion are the same run" if same_run
              else f"champion is version {champion.get('version')}"),
        Check("champion's test is fair", bool(until and tested and until < min(tested)),
              f"champion learnt from data until {until}, the test starts at {min(tested, default='?')}"),
        *_gains("champion", challenger, champion.get("metrics") or {}, dict(thresholds.gain_over_champion)),
    ]  # fmt: skip


def _gains(over: str, challenger: dict[str, Any], other: dict[str, Any], wanted: dict[Any, float]) -> list[Check]:
    checks = []
    for metric, least in wanted.items():
        ours, theirs = _number(challenger, metric), _number(other, metric)
        gain = None
        if ours is not None and theirs is not None:
            gain = ours - theirs if METRICS[metric].higher_is_better else theirs - ours
        checks.append(Check(
            f"{metric} over {over}", gain is not None and gain >= least,
            f"{metric} {_show(ours)} against {over} {_show(theirs)}, wanted a gain of at least {least:g}",
        ))  # fmt: skip
    return checks


def _metrics(evaluation: dict[str, Any], who: str) -> dict[str, Any]:
    return (evaluation.get(who) or {}).get("metrics") or {}


def _number(metrics: dict[str, Any], name: str) -> float | None:
    value = metrics.get(name)
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not math.isfinite(value):
        return None
    return float(value)


def _show(value: float | None) -> str:
    return "missing" if value is None else f"{value:.4f}"
