"""diagnose: what kinds of shift the numbers show, and by what evidence."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from pipelines.config import Policy
from pipelines.monitoring.profile import SCORE, Frozen, Reference

Kind = Literal[
    "data fault",
    "performance drop",
    "calibration drift",
    "label shift",
    "prediction drift",
    "covariate shift",
]

LOST_SHARE = 0.5  # of the rows, beyond the reference's: so many values do not go missing by chance


class Finding(Frozen):
    """One kind of shift; `evidence` is a clause for people, `numbers` the same for machines."""

    kind: Kind
    evidence: str
    numbers: dict[str, float]


class Diagnosis(Frozen):
    """Findings, the most harmful first; newest labelled partitions that count, oldest first, and the bad of them."""

    findings: tuple[Finding, ...]
    labelled: tuple[str, ...]
    bad: tuple[str, ...]

    @property
    def kinds(self) -> tuple[Kind, ...]:
        return tuple(finding.kind for finding in self.findings)

    @property
    def is_newest_bad(self) -> bool:
        return bool(self.labelled) and self.labelled[-1] in self.bad


def diagnose(
    policy: Policy, reference: Reference, detected: Mapping[str, Any], realised: Sequence[Mapping[str, Any]]
) -> Diagnosis:
    """Name the kinds of shift.

    Args:
        detected: what `detect` found in the partition.
        realised: what `performance` found in labelled partitions that this same model scored, oldest first, each
            with its "partition".

    Fewer rows or labels than the policy's `min_labels` prove nothing. A partition is bad when its AUC dropped or its
    calibration drifted: those harm whoever uses the scores, while a shift of inputs or labels alone may not. What the
    task has no number for is not looked at: of several classes there is no calibration gap, of a regression neither
    that nor an AUC.
    """
    labelled = [each for each in realised if each["rows"] >= policy.min_labels][-policy.of_last :]
    bad = [each for each in labelled if [*_harm(policy, reference, each)]]
    findings: list[Finding] = []
    if detected["rows"] >= policy.min_labels:
        findings += _data_fault(reference, detected)
    if labelled:
        findings += [*_harm(policy, reference, labelled[-1]), *_label_shift(policy, reference, labelled[-1])]
    if detected["rows"] >= policy.min_labels:
        findings += _drift(policy, detected)
    return Diagnosis(
        findings=tuple(findings),
        labelled=tuple(each["partition"] for each in labelled),
        bad=tuple(each["partition"] for each in bad),
    )


def _data_fault(reference: Reference, detected: Mapping[str, Any]) -> Iterator[Finding]:
    evidence, numbers = [], {}
    for name, found in {**detected["columns"], SCORE: detected["prediction"]}.items():
        usual = reference.columns[name].profile
        usual_nulls = usual.nulls / usual.rows
        if found["null_share"] - usual_nulls > LOST_SHARE:
            evidence.append(f"{found['null_share']:.0%} of {name} is empty (training: {usual_nulls:.0%})")
            numbers[f"{name} null share"] = found["null_share"]
        elif found["unseen_share"] > LOST_SHARE and found["unseen_share"] + found["null_share"] > 1 - 1e-9:
            evidence.append(f"every {name} is new to the model")
            numbers[f"{name} unseen share"] = found["unseen_share"]
    if evidence:
        yield Finding(kind="data fault", evidence=", ".join(evidence), numbers=numbers)


def _harm(policy: Policy, reference: Reference, realised: Mapping[str, Any]) -> Iterator[Finding]:
    """What makes a partition bad."""
    where, auc, gap = (realised[name] for name in ("partition", "auc", "calibration_gap"))
    usual = reference.metrics.get("auc")
    if auc is not None and usual is not None and usual - auc > policy.max_auc_drop:
        yield Finding(
            kind="performance drop",
            evidence=f"AUC {auc:.2f} in {where}, {usual:.2f} when it was tested",
            numbers={"auc": auc, "test_auc": usual},
        )
    if gap is not None and abs(gap) > policy.max_calibration_gap:
        score, rate = realised["mean_score"], realised["positive_rate"]
        yield Finding(
            kind="calibration drift",
            evidence=f"mean score {score:.2f} but positive rate {rate:.2f} in {where} (gap {gap:+.2f})",
            numbers={"mean_score": score, "positive_rate": rate, "calibration_gap": gap},
        )


def _label_shift(policy: Policy, reference: Reference, realised: Mapping[str, Any]) -> Iterator[Finding]:
    rate = realised["positive_rate"]
    if rates := realised.get("class_rates"):
        shifts = {name: rates[name] - usual for name, usual in reference.class_rates.items() if name in rates}
        most = max(shifts, key=lambda name: abs(shifts[name]), default=None)
        if most is not None and abs(shifts[most]) > policy.max_label_rate_shift:
            usual = reference.class_rates[most]
            yield Finding(
                kind="label shift",
                evidence=f"share of {most} {rates[most]:.2f} in {realised['partition']}, {usual:.2f} in training",
                numbers={f"share of {most}": rates[most], f"training share of {most}": usual},
            )
    elif (
        rate is not None
        and reference.label_rate is not None
        and abs(rate - reference.label_rate) > policy.max_label_rate_shift
    ):
        yield Finding(
            kind="label shift",
            evidence=f"positive rate {rate:.2f} in {realised['partition']}, {reference.label_rate:.2f} in training",
            numbers={"positive_rate": rate, "training_positive_rate": reference.label_rate},
        )


def _drift(policy: Policy, detected: Mapping[str, Any]) -> Iterator[Finding]:
    score = detected["prediction"]
    psi, mean, usual = (score[name] for name in ("psi", "mean", "reference_mean"))
    if psi > policy.max_prediction_psi and mean is not None:
        yield Finding(
            kind="prediction drift",
            evidence=f"mean score {mean:.2f} instead of {usual:.2f} (PSI {psi:.2f})",
            numbers={"psi": psi, "mean_score": mean, "test_mean_score": usual},
        )
    moved = {name: found["psi"] for name, found in detected["columns"].items() if found["psi"] > policy.max_column_psi}
    if moved:
        first = sorted(moved, key=lambda name: -moved[name])[:3]
        more = f" and {len(moved) - len(first)} more" if len(moved) > len(first) else ""
        yield Finding(
            kind="covariate shift",
            evidence="PSI " + ", ".join(f"{moved[name]:.2f} of {name}" for name in first) + more,
            numbers=moved,
        )
