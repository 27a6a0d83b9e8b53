"""shifts: kinds of shift that labels show, or that are estimated before they come; from `estimate`'s numbers."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import BaseModel, ConfigDict

from pipelines.config import Policy
from pipelines.monitoring.diagnose.concept import Concept
from pipelines.monitoring.diagnose.feedback import Feedback
from pipelines.monitoring.diagnose.finding import Finding, apart
from pipelines.monitoring.diagnose.label_shift import LabelShift

LEAST_ERROR = 0.1  # standard deviations of the labels: what came off by less is no other concept


class LabelEvidence(BaseModel):
    """What labels show of a partition and of those before it, or will show; None where there is nothing to say."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    partition: str
    label_shift: LabelShift | None = None
    concept: Concept | None = None
    feedback: Feedback | None = None


def shifts(policy: Policy, evidence: LabelEvidence, label_spread: float | None = None) -> Iterator[Finding]:
    """Findings, the most harmful first.

    Fewer rows than the policy's `min_labels` prove nothing. `label_spread`: standard deviation of the labels that the
    model learnt from.
    """
    if evidence.concept:
        yield from _concept(policy, evidence.concept, label_spread or 0.0)
    if evidence.label_shift:
        yield from _label_shift(policy, evidence.label_shift, evidence.partition)
    if evidence.feedback:
        yield from _feedback(policy, evidence.feedback)


def _concept(policy: Policy, concept: Concept, label_spread: float) -> Iterator[Finding]:
    times, limit, where = concept.times_usual, policy.max_concept_shift, concept.where
    if times <= limit or concept.rows < policy.min_labels:
        return
    if abs(where.error) < LEAST_ERROR * label_spread:
        return
    carriers = [carrier for carrier in concept.features if carrier.times_usual > limit / 2]
    off = f"labels of {where.rows} came {where.error:+.2f} off what scores like theirs gave"
    if where.label_class is not None:
        off += f" for {where.label_class}"
    numbers = {"times_usual": times, "gain": carriers[0].gain, "error": where.error}
    for metric, compared in concept.compared.items():
        sides = {"expected": compared.expected["value"], "realised": compared.realised["value"]}
        numbers |= {f"{name}_{metric}": value for name, value in sides.items() if value is not None}
    yield Finding(
        kind="concept drift",
        evidence=f"labels in {concept.partition} follow {carriers[0].feature} otherwise than before ({times:.1f} "
        f"times the usual): {off}",
        numbers=numbers,
        features=tuple(carrier.feature for carrier in carriers),
    )


def _label_shift(policy: Policy, label_shift: LabelShift, partition: str) -> Iterator[Finding]:
    if label_shift.why_not is not None or label_shift.rows < policy.min_labels:
        return
    rates = label_shift.rates
    names = list(rates)[1:] if len(rates) == 2 else list(rates)  # of two classes one says it all
    most = max(names, key=lambda name: rates[name].beyond)
    rate = rates[most]
    if rate.low is None or rate.high is None or rate.beyond <= 0:
        return
    if abs(rate.value - rate.usual) > policy.max_label_rate_shift:
        value, usual = apart([rate.value, rate.usual])
        yield Finding(
            kind="label shift",
            evidence=f"estimated before labels came: rate of {most} {value} ({rate.low:.2f} to {rate.high:.2f}) in "
            f"{partition}, {usual} when it was tested",
            numbers={"estimated_rate": rate.value, "low": rate.low, "high": rate.high, "test_rate": rate.usual},
        )


def _feedback(policy: Policy, feedback: Feedback) -> Iterator[Finding]:
    """Both pieces are needed: labels may be a selected sample for reasons of the world."""
    if feedback.coverage is None or feedback.trend is None:
        return
    gap, trend = feedback.coverage.gap, feedback.trend
    fall, fall_low, gap_low = trend.fall["value"], trend.fall["low"], gap["low"]
    if fall is None or fall_low is None or gap_low is None:
        return
    is_below = feedback.usual_evenness is None or trend.newest < feedback.usual_evenness
    is_falling = fall_low > 0 and fall > policy.max_concentration
    if gap_low > policy.max_coverage_gap and is_falling and is_below:
        yield Finding(
            kind="feedback loop",
            evidence=f"labels depend on the score (their share differs by {gap['value']:.0%}) and scores concentrate "
            f"(entropy down by {fall:.0%} over {trend.partitions} partitions)",
            numbers={"coverage_gap": gap["value"] or 0.0, "fall": fall, "evenness": trend.newest},
        )
