"""shifts: kinds of shift that labels show, or that are estimated before they come; from `estimate`'s numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pipelines.config import Policy
from pipelines.monitoring.diagnose.finding import Finding, apart

LEAST_ERROR = 0.1  # standard deviations of the labels: what came off by less is no other concept


def shifts(policy: Policy, estimated: Mapping[str, Any], label_spread: float | None = None) -> Iterator[Finding]:
    """Findings, the most harmful first, from what the stage `estimate` gave: its keys `concept`, `label_shift` and
    `feedback`, each a dict or None.

    Fewer rows than the policy's `min_labels` prove nothing. `label_spread`: standard deviation of the labels that the
    model learnt from.
    """
    if concept := estimated.get("concept"):
        yield from _concept(policy, concept, label_spread or 0.0)
    if label_shift := estimated.get("label_shift"):
        yield from _label_shift(policy, label_shift, estimated["partition"])
    if feedback := estimated.get("feedback"):
        yield from _feedback(policy, feedback)


def _concept(policy: Policy, concept: Mapping[str, Any], label_spread: float) -> Iterator[Finding]:
    times, limit = concept["times_usual"], policy.max_concept_shift
    if times <= limit or concept["rows"] < policy.min_labels:
        return
    if abs(concept["where"]["error"]) < LEAST_ERROR * label_spread:
        return
    carriers = [one for one in concept["features"] if one["times_usual"] > limit / 2]
    where = concept["where"]
    off = f"labels of {where['rows']} came {where['error']:+.2f} off what scores like theirs gave"
    if "class" in where:
        off += f" for {where['class']}"
    numbers = {"times_usual": times, "gain": carriers[0]["gain"], "error": where["error"]}
    for metric, one in concept["compared"].items():
        numbers |= {
            f"{name}_{metric}": one[name]["value"]
            for name in ("expected", "realised")
            if one[name]["value"] is not None
        }
    yield Finding(
        kind="concept drift",
        evidence=f"labels in {concept['partition']} follow {carriers[0]['feature']} otherwise than before ({times:.1f} "
        f"times the usual): {off}",
        numbers=numbers,
        features=tuple(one["feature"] for one in carriers),
    )


def _label_shift(policy: Policy, label_shift: Mapping[str, Any], partition: str) -> Iterator[Finding]:
    if label_shift["why_not"] is not None or label_shift["rows"] < policy.min_labels:
        return
    rates = label_shift["rates"]
    told = list(rates)[1:] if len(rates) == 2 else list(rates)  # of two classes one says it all
    beyond = {
        name: max(rates[name]["low"] - rates[name]["usual"], rates[name]["usual"] - rates[name]["high"])
        for name in told
    }
    most = max(told, key=lambda name: beyond[name])
    if beyond[most] > 0 and abs(rates[most]["value"] - rates[most]["usual"]) > policy.max_label_rate_shift:
        one = rates[most]
        value, usual = apart([one["value"], one["usual"]])
        yield Finding(
            kind="label shift",
            evidence=f"estimated before labels came: rate of {most} {value} ({one['low']:.2f} to {one['high']:.2f}) in "
            f"{partition}, {usual} when it was tested",
            numbers={"estimated_rate": one["value"], "low": one["low"], "high": one["high"], "test_rate": one["usual"]},
        )


def _feedback(policy: Policy, feedback: Mapping[str, Any]) -> Iterator[Finding]:
    """Both pieces are needed: labels may be a selected sample for reasons of the world."""
    covered, trend = feedback["coverage"], feedback["trend"]
    if covered is None or trend is None or covered["gap"]["low"] is None:
        return
    gap, fall, usual = covered["gap"], trend["fall"], feedback["usual_evenness"]
    is_below = usual is None or trend["newest"] < usual
    is_falling = fall["low"] > 0 and fall["value"] > policy.max_concentration
    if gap["low"] > policy.max_coverage_gap and is_falling and is_below:
        yield Finding(
            kind="feedback loop",
            evidence=f"labels depend on the score (their share differs by {gap['value']:.0%}) and scores concentrate "
            f"(entropy down by {fall['value']:.0%} over {trend['partitions']} partitions)",
            numbers={"coverage_gap": gap["value"], "fall": fall["value"], "evenness": trend["newest"]},
        )
