"""diagnose: what kinds of shift the numbers show, and by what evidence."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, NamedTuple, get_args

from pipelines.config import Policy
from pipelines.monitoring.detect.alarm_levels import MIN_PARTITIONS
from pipelines.monitoring.detect.detection import (
    ColumnDrift,
    Drift,
    LabelledPartition,
    Which,
    measure_of,
)
from pipelines.monitoring.detect.faults import column_faults
from pipelines.monitoring.diagnose.finding import Diagnosis, Finding, Kind, apart
from pipelines.monitoring.diagnose.shifts import LabelEvidence, shifts
from pipelines.profiles.profile import SCORE, Reference

VANISHED = 1e-6  # chance that a class is missing among so many labels: below it, it has vanished
LEAST_MOVE = 0.1  # standard deviations of the labels: scores that moved by less on average changed nothing that counts
UNITS = {"wasserstein": "sd", "js": "JS", "relation": "sd beside the other columns"}
# Standard errors, by which a metric has to be off: one partition in a hundred is, though nothing happened.
CHANCE = 2.33


class Beyond(NamedTuple):
    """A distance that lies beyond its alarm level."""

    distance: float
    level: float
    times: float
    unit: str
    is_pooled: bool
    """Of the partition and its neighbours together."""

    @property
    def is_relation(self) -> bool:
        """Of how a column goes with the others, not of the column by itself."""
        return self.unit == UNITS["relation"]

    def in_words(self) -> str:
        pooled = ", with the partitions before it" if self.is_pooled else ""
        return f"{self.distance:.2f} {self.unit} (usual: up to {self.level:.2f}{pooled})"


def diagnose(
    policy: Policy,
    reference: Reference,
    detected: Drift,
    realised: Sequence[LabelledPartition],
    evidence: LabelEvidence | None = None,
    waiting: Sequence[str] = (),
) -> Diagnosis:
    """Name the kinds of shift.

    Args:
        detected: what `detect` found in the partition.
        realised: labelled partitions that this same model scored, oldest first.
        evidence: what the stage `estimate` gave: concept drift, label shift before labels, feedback (see `shifts`).
        waiting: partitions that are not among the `realised` because too many labels are still on their way.

    Fewer labels than the policy's `min_labels` prove nothing, and of inputs so many rows are needed for "stable": what
    could not be judged is told as `unjudged`. A fault or a shift that few rows show all the same is told at once. A
    partition is bad when its performance dropped (AUC; of a regression R2), its calibration drifted (of a regression:
    bias), both by more than chance among so many rows, or, the newest, its labels show concept drift: those harm
    whoever uses the scores, while a shift of inputs or labels alone may not. Inputs and scores have shifted when the
    partition is unlike all those just before it, more than is usual; what is far from training but came in usual steps
    is a feature change: a season.
    """
    labelled = [part for part in realised if part.rows >= policy.min_labels][-policy.of_last :]
    off = {part.partition for part in labelled if [*_harm(policy, reference, part)]}
    findings: list[Finding] = []
    if detected.rows:
        findings += _data_fault(detected)
    if labelled:
        newest = labelled[-1]
        findings += [*_harm(policy, reference, newest), *_label_schema(reference, labelled[-2:])]
        findings += _label_shift(policy, reference, newest)
    if detected.rows:
        findings += [*_prediction_drift(policy, reference, detected), *_feature_shift(policy, detected)]
    measured = {finding.kind for finding in findings}
    by_labels = [] if evidence is None else [*shifts(policy, evidence, label_spread(reference))]
    # Where labels have come, what was estimated before they came says nothing more.
    by_labels = [finding for finding in by_labels if finding.kind not in measured]
    if labelled and any(finding.kind == "concept drift" for finding in by_labels):
        off.add(labelled[-1].partition)
    order = get_args(Kind)
    return Diagnosis(
        findings=tuple(sorted([*findings, *by_labels], key=lambda finding: order.index(finding.kind))),
        labelled=tuple(part.partition for part in labelled),
        bad=tuple(part.partition for part in labelled if part.partition in off),
        unjudged=_unjudged(policy, detected, realised),
        waiting=tuple(waiting),
    )


def _unjudged(
    policy: Policy, detected: Drift, realised: Sequence[LabelledPartition]
) -> dict[Literal["inputs", "performance"], str]:
    """What nothing can be said of yet, and why."""
    unjudged: dict[Literal["inputs", "performance"], str] = {}
    rows, fewest = detected.rows_judged, policy.min_labels
    has_fixed_limits = policy.max_column_psi is not None and policy.max_prediction_psi is not None
    if rows < fewest:
        unjudged["inputs"] = f"inputs not judged: {rows} rows of {fewest}"
    elif not has_fixed_limits and not _has_levels(detected):
        past = "partitions" if detected.rows >= fewest else f"pools of {fewest} rows"
        unjudged["inputs"] = f"inputs not judged: fewer than {MIN_PARTITIONS} {past} tell what is usual"
    most = max((part.rows for part in realised), default=fewest)
    if most < fewest:
        unjudged["performance"] = f"performance not judged: {most} rows of {fewest} with labels"
    return unjudged


def _has_levels(detected: Drift) -> bool:
    """Whether any column was judged; of a small partition: together with its neighbours."""
    is_pooled = detected.rows_judged > detected.rows
    return any(
        level.step_level is not None
        for drift in _with_score(detected).values()
        for name, level in drift.levels.items()
        if measure_of(name).is_pooled == is_pooled
    )


def _with_score(detected: Drift) -> dict[str, ColumnDrift]:
    scores = {} if detected.prediction is None else {SCORE: detected.prediction}
    return {**detected.columns, **scores}


def _data_fault(detected: Drift) -> Iterator[Finding]:
    evidence, numbers, features = [], {}, []
    for name, drift in _with_score(detected).items():
        for fault in column_faults(name, drift, detected.rows, is_score=name == SCORE):
            evidence.append(fault.clause)
            numbers[f"{name} {fault.measure}"] = fault.value
            features.append(name)
    if detected.same_as is not None:
        evidence.append(f"the same rows as in {detected.same_as}")
        numbers["rows"] = float(detected.rows)
    if evidence:
        yield Finding(kind="data fault", evidence=", ".join(evidence), numbers=numbers, features=_unique(features))


def _harm(policy: Policy, reference: Reference, realised: LabelledPartition) -> Iterator[Finding]:
    """What makes a partition bad."""
    where, gap = realised.partition, realised.calibration_gap
    for metric, word, limit in (("auc", "AUC", policy.max_auc_drop), ("r2", "R2", policy.max_r2_drop)):
        value, usual = realised.value(metric), reference.metrics.get(metric)
        beyond_chance = CHANCE * realised.errors.get(metric, 0.0)
        if value is not None and usual is not None and usual - value > max(limit, beyond_chance):
            now, before = apart([value, usual])
            yield Finding(
                kind="performance drop",
                evidence=f"{word} {now} in {where}, {before} when it was tested",
                numbers={metric: value, f"test_{metric}": usual},
            )
    score, rate = realised.mean_score, realised.positive_rate
    limit = max(policy.max_calibration_gap, CHANCE * realised.errors.get("calibration_gap", 0.0))
    if gap is not None and abs(gap) > limit and score is not None and rate is not None:
        said, came = apart([score, rate])
        yield Finding(
            kind="calibration drift",
            evidence=f"mean score {said} but positive rate {came} in {where} (gap {gap:+.2f})",
            numbers={"mean_score": score, "positive_rate": rate, "calibration_gap": gap},
        )
    bias, label = realised.value("bias"), realised.mean_label
    limit = max(policy.max_bias_sd * (reference.label_std or 0.0), CHANCE * realised.errors.get("bias", 0.0))
    if bias is None or score is None or label is None or not reference.label_std:
        return
    if abs(bias) > limit:
        off = bias / reference.label_std
        yield Finding(
            kind="calibration drift",
            evidence=f"mean score {score:.4g} but mean label {label:.4g} in {where} (bias {off:+.2f} sd of the labels)",
            numbers={"mean_score": score, "mean_label": label, "bias": bias, "bias_sd": off},
        )


def _label_schema(reference: Reference, newest: Sequence[LabelledPartition]) -> Iterator[Finding]:
    """A new class at once; a vanished one when two labelled partitions in a row are without: a dry week has no rain."""
    last = newest[-1]
    usual = reference.class_rates
    if reference.label_rate is not None:
        usual = {"0": 1 - reference.label_rate, "1": reference.label_rate}
    evidence, numbers = [], {}
    for name, count in last.unknown_labels.items():
        evidence.append(f"{count} labels {name} in {last.partition}, a class that the model does not know")
        numbers[f"labels {name}"] = float(count)
    rows, rates_of = sum(part.rows for part in newest), [_class_rates(part) for part in newest]
    for name, share in usual.items():
        is_gone = len(newest) == 2 and all(rates.get(name) == 0 for rates in rates_of)
        if is_gone and (1 - share) ** rows < VANISHED:
            where = f"{newest[0].partition} and {last.partition}"
            evidence.append(f"no label {name} in {where}, {share:.0%} in training")
            numbers[f"training share of {name}"] = share
    if evidence:
        yield Finding(kind="label schema change", evidence=", ".join(evidence), numbers=numbers)


def _class_rates(realised: LabelledPartition) -> Mapping[str, float]:
    rate = realised.positive_rate
    return realised.class_rates or ({} if rate is None else {"0": 1 - rate, "1": rate})


def _label_shift(policy: Policy, reference: Reference, realised: LabelledPartition) -> Iterator[Finding]:
    rate = realised.positive_rate
    if rates := realised.class_rates:
        moved = {name: rates[name] - usual for name, usual in reference.class_rates.items() if name in rates}
        most = max(moved, key=lambda name: abs(moved[name]), default=None)
        if most is not None and abs(moved[most]) > policy.max_label_rate_shift:
            usual = reference.class_rates[most]
            share, before = apart([rates[most], usual])
            yield Finding(
                kind="label shift",
                evidence=f"share of {most} {share} in {realised.partition}, {before} in training",
                numbers={f"share of {most}": rates[most], f"training share of {most}": usual},
            )
    elif (
        rate is not None
        and reference.label_rate is not None
        and abs(rate - reference.label_rate) > policy.max_label_rate_shift
    ):
        share, before = apart([rate, reference.label_rate])
        yield Finding(
            kind="label shift",
            evidence=f"positive rate {share} in {realised.partition}, {before} in training",
            numbers={"positive_rate": rate, "training_positive_rate": reference.label_rate},
        )


def label_spread(reference: Reference) -> float | None:
    """Standard deviation of the labels that the model learnt from; of several classes, of whether the one it decides
    for is the right one, by its own scores."""
    if reference.label_std is not None:
        return reference.label_std
    rate = reference.mean_score if reference.label_rate is None else reference.label_rate
    return None if rate is None or not 0 <= rate <= 1 else float(rate * (1 - rate)) ** 0.5


def _prediction_drift(policy: Policy, reference: Reference, detected: Drift) -> Iterator[Finding]:
    """What is unlikely by chance may still be nothing that anybody could act on: scores that are off by next to nothing
    beside how widely labels spread."""
    drift, limit = detected.prediction, policy.max_prediction_psi
    if drift is None or drift.mean is None or drift.reference_mean is None:
        return
    mean, usual = drift.mean, drift.reference_mean
    numbers = {"psi": drift.psi, "mean_score": mean, "test_mean_score": usual}
    now, before = apart([mean, usual])
    words = f"mean score {now} instead of {before}"
    if limit is not None:
        if drift.psi > limit and detected.rows >= policy.min_labels:  # few rows alone make it large
            yield Finding(kind="prediction drift", evidence=f"{words} (PSI {drift.psi:.2f})", numbers=numbers)
    elif beyond := _beyond(drift, "step"):
        moved = drift.pooled_moved if beyond.is_pooled else drift.moved
        spread = label_spread(reference)
        if moved is not None and spread is not None and moved < LEAST_MOVE * spread:
            return
        numbers |= {"step": beyond.distance, "step_level": beyond.level}
        evidence = f"{words}, moved by {beyond.in_words()} at once"
        yield Finding(kind="prediction drift", evidence=evidence, numbers=numbers)


def _feature_shift(policy: Policy, detected: Drift) -> Iterator[Finding]:
    columns = {name: drift for name, drift in detected.columns.items() if not drift.is_of_calendar}
    if (limit := policy.max_column_psi) is not None:
        is_enough = detected.rows >= policy.min_labels  # few rows alone make it large
        moved = {name: drift.psi for name, drift in columns.items() if drift.psi > limit and is_enough}
        words = {name: f"{psi:.2f} of {name}" for name, psi in moved.items()}
        yield from _shift("covariate shift", "PSI ", moved, words, sorted(moved, key=lambda name: -moved[name]))
        columns = {}
    steps = {name: beyond for name, drift in columns.items() if (beyond := _beyond(drift, "step"))}
    if policy.max_prediction_psi is None and detected.prediction is not None:
        columns[SCORE] = detected.prediction
    fars = {
        name: beyond
        for name, drift in columns.items()
        if not _beyond(drift, "step") and (beyond := _beyond(drift, "far"))
    }
    yield from _moved("covariate shift", "unlike the partitions before: ", steps)
    yield from _moved("feature change", "away from training in usual steps: ", fars)


def _moved(kind: Kind, start: str, beyond_of: Mapping[str, Beyond]) -> Iterator[Finding]:
    words = {name: f"{name} by {beyond.in_words()}" for name, beyond in beyond_of.items()}
    moved = {name: beyond.times for name, beyond in beyond_of.items()}
    yield from _shift(kind, start, moved, words, sorted(beyond_of, key=lambda name: _rank(beyond_of[name])))


def _rank(beyond: Beyond) -> tuple[bool, float]:
    """A column that moved by itself comes before those that only left the others' company. Of these the one that is
    furthest off is the likeliest to have moved, whatever is usual of it: the others' residuals follow from its own."""
    return beyond.is_relation, -beyond.distance if beyond.is_relation else -beyond.times


def _shift(
    kind: Kind, start: str, moved: dict[str, float], words: Mapping[str, str], ranked: Sequence[str]
) -> Iterator[Finding]:
    if moved:
        more = f" and {len(ranked) - 3} more" if len(ranked) > 3 else ""
        evidence = start + ", ".join(words[name] for name in ranked[:3]) + more
        yield Finding(kind=kind, evidence=evidence, numbers=moved, features=tuple(ranked))


def _unique(names: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))


def _beyond(drift: ColumnDrift, which: Which) -> Beyond | None:
    """The distance that lies the most times its level off, if any does; how it goes with others comes last."""
    candidates = []
    for name, level in drift.levels.items():
        distance, limit = level.of(which)
        times = level.times(which)
        if times is not None and distance is not None and limit is not None:
            measure = measure_of(name)
            candidates.append(Beyond(distance, limit, times, UNITS[measure.distance], measure.is_pooled))
    return max(candidates, key=lambda beyond: (not beyond.is_relation, beyond.times), default=None)
