"""diagnose: what kinds of shift the numbers show, and by what evidence."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, get_args

from pipelines.config import Policy
from pipelines.monitoring.detect.alarm_levels import MIN_PARTITIONS
from pipelines.monitoring.detect.detect import POOLED
from pipelines.monitoring.detect.faults import column_faults
from pipelines.monitoring.diagnose.finding import Diagnosis, Finding, Kind, apart
from pipelines.monitoring.diagnose.shifts import shifts
from pipelines.profiles.profile import SCORE, Reference

VANISHED = 1e-6  # chance that a class is missing among so many labels: below it, it has vanished
LEAST_MOVE = 0.1  # standard deviations of the labels: scores that moved by less on average changed nothing that counts
UNITS = {"wasserstein": "sd", "js": "JS", "relation": "sd beside the other columns"}
CHANCE = (
    2.33  # standard errors, by which a metric has to be off: one partition in a hundred is, though nothing happened
)


def diagnose(
    policy: Policy,
    reference: Reference,
    detected: Mapping[str, Any],
    realised: Sequence[Mapping[str, Any]],
    estimated: Mapping[str, Any] | None = None,
    waiting: Sequence[str] = (),
) -> Diagnosis:
    """Name the kinds of shift.

    Args:
        detected: what `detect` found in the partition.
        realised: what `performance` found in labelled partitions that this same model scored, oldest first, each
            with its "partition" and, where labels came that the model does not know, "unknown_labels".
        estimated: what the stage `estimate` gave: concept drift, label shift before labels, feedback (see `shifts`).
        waiting: partitions that are not among the `realised` because too many labels are still on their way.

    Fewer labels than the policy's `min_labels` prove nothing, and of inputs so many rows are needed for "stable": what
    could not be judged is told as `unjudged`. A fault or a shift that few rows show all the same is told at once. A
    partition is bad when its performance dropped (AUC; of a regression R2), its calibration drifted (of a regression:
    bias), both by more than chance among so many rows, or, the newest, its labels show concept drift: those harm
    whoever uses the scores, while a shift of inputs or labels alone may not. Inputs and scores have shifted when the
    partition is unlike all those just before it, more than is usual; what is far from training but came in usual steps
    is a feature change: a season.
    """
    labelled = [each for each in realised if each["rows"] >= policy.min_labels][-policy.of_last :]
    bad = [each for each in labelled if [*_harm(policy, reference, each)]]
    findings: list[Finding] = []
    if detected["rows"]:
        findings += _data_fault(detected)
    if labelled:
        newest = labelled[-1]
        findings += [*_harm(policy, reference, newest), *_label_schema(reference, labelled[-2:])]
        findings += _label_shift(policy, reference, newest)
    if detected["rows"]:
        findings += [*_prediction_drift(policy, reference, detected), *_feature_shift(policy, detected)]
    measured = {finding.kind for finding in findings}
    # Where labels have come, what was estimated before they came says nothing more.
    told = [one for one in shifts(policy, estimated or {}, label_spread(reference)) if one.kind not in measured]
    off = {each["partition"] for each in bad}
    if labelled and any(one.kind == "concept drift" for one in told):
        off.add(labelled[-1]["partition"])
    order = get_args(Kind)
    return Diagnosis(
        findings=tuple(sorted([*findings, *told], key=lambda finding: order.index(finding.kind))),
        labelled=tuple(each["partition"] for each in labelled),
        bad=tuple(each["partition"] for each in labelled if each["partition"] in off),
        unjudged=_unjudged(policy, detected, realised),
        waiting=tuple(waiting),
    )


def _unjudged(
    policy: Policy, detected: Mapping[str, Any], realised: Sequence[Mapping[str, Any]]
) -> dict[Literal["inputs", "performance"], str]:
    """What nothing can be said of yet, and why."""
    found: dict[Literal["inputs", "performance"], str] = {}
    rows, fewest = detected.get("judged_rows", detected["rows"]), policy.min_labels
    has_fixed_limits = policy.max_column_psi is not None and policy.max_prediction_psi is not None
    if rows < fewest:
        found["inputs"] = f"inputs not judged: {rows} rows of {fewest}"
    elif not has_fixed_limits and not _has_levels(detected):
        past = "partitions" if detected["rows"] >= fewest else f"pools of {fewest} rows"
        found["inputs"] = f"inputs not judged: fewer than {MIN_PARTITIONS} {past} tell what is usual"
    most = max((each["rows"] for each in realised), default=fewest)
    if most < fewest:
        found["performance"] = f"performance not judged: {most} rows of {fewest} with labels"
    return found


def _has_levels(detected: Mapping[str, Any]) -> bool:
    """Whether any column was judged; of a small partition: together with its neighbours."""
    columns = [*detected["columns"].values(), detected["prediction"]]
    is_pooled = detected.get("judged_rows", detected["rows"]) > detected["rows"]
    return any(
        level["step_level"] is not None
        for found in columns
        for name, level in found["levels"].items()
        if name.startswith(POOLED) == is_pooled
    )


def _data_fault(detected: Mapping[str, Any]) -> Iterator[Finding]:
    evidence, numbers, features = [], {}, []
    for name, found in {**detected["columns"], SCORE: detected["prediction"]}.items():
        for clause, measure, value in column_faults(name, found, detected["rows"], is_score=name == SCORE):
            evidence.append(clause)
            numbers[f"{name} {measure}"] = value
            features.append(name)
    if detected["same_as"] is not None:
        evidence.append(f"the same rows as in {detected['same_as']}")
        numbers["rows"] = float(detected["rows"])
    if evidence:
        yield Finding(kind="data fault", evidence=", ".join(evidence), numbers=numbers, features=_unique(features))


def _harm(policy: Policy, reference: Reference, realised: Mapping[str, Any]) -> Iterator[Finding]:
    """What makes a partition bad."""
    where, gap = realised["partition"], realised["calibration_gap"]
    for metric, told, limit in (("auc", "AUC", policy.max_auc_drop), ("r2", "R2", policy.max_r2_drop)):
        value, usual = realised.get(metric), reference.metrics.get(metric)
        beyond_chance = CHANCE * realised.get("errors", {}).get(metric, 0.0)
        if value is not None and usual is not None and usual - value > max(limit, beyond_chance):
            now, before = apart([value, usual])
            yield Finding(
                kind="performance drop",
                evidence=f"{told} {now} in {where}, {before} when it was tested",
                numbers={metric: value, f"test_{metric}": usual},
            )
    errors = realised.get("errors", {})
    if gap is not None and abs(gap) > max(policy.max_calibration_gap, CHANCE * errors.get("calibration_gap", 0.0)):
        score, rate = realised["mean_score"], realised["positive_rate"]
        said, came = apart([score, rate])
        yield Finding(
            kind="calibration drift",
            evidence=f"mean score {said} but positive rate {came} in {where} (gap {gap:+.2f})",
            numbers={"mean_score": score, "positive_rate": rate, "calibration_gap": gap},
        )
    bias = realised.get("bias")
    limit = max(policy.max_bias_sd * (reference.label_std or 0.0), CHANCE * errors.get("bias", 0.0))
    if bias is not None and reference.label_std and abs(bias) > limit:
        score, label, off = realised["mean_score"], realised["mean_label"], bias / reference.label_std
        yield Finding(
            kind="calibration drift",
            evidence=f"mean score {score:.4g} but mean label {label:.4g} in {where} (bias {off:+.2f} sd of the labels)",
            numbers={"mean_score": score, "mean_label": label, "bias": bias, "bias_sd": off},
        )


def _label_schema(reference: Reference, newest: Sequence[Mapping[str, Any]]) -> Iterator[Finding]:
    """A new class at once; a vanished one when two labelled partitions in a row are without: a dry week has no rain."""
    last = newest[-1]
    usual = reference.class_rates
    if reference.label_rate is not None:
        usual = {"0": 1 - reference.label_rate, "1": reference.label_rate}
    evidence, numbers = [], {}
    for name, count in (last.get("unknown_labels") or {}).items():
        evidence.append(f"{count} labels {name} in {last['partition']}, a class that the model does not know")
        numbers[f"labels {name}"] = float(count)
    rows, found = sum(one["rows"] for one in newest), [_class_rates(one) for one in newest]
    for name, share in usual.items():
        is_gone = len(newest) == 2 and all(rates.get(name) == 0 for rates in found)
        if is_gone and (1 - share) ** rows < VANISHED:
            where = f"{newest[0]['partition']} and {last['partition']}"
            evidence.append(f"no label {name} in {where}, {share:.0%} in training")
            numbers[f"training share of {name}"] = share
    if evidence:
        yield Finding(kind="label schema change", evidence=", ".join(evidence), numbers=numbers)


def _class_rates(realised: Mapping[str, Any]) -> Mapping[str, float]:
    rate = realised["positive_rate"]
    return realised.get("class_rates") or ({} if rate is None else {"0": 1 - rate, "1": rate})


def _label_shift(policy: Policy, reference: Reference, realised: Mapping[str, Any]) -> Iterator[Finding]:
    rate = realised["positive_rate"]
    if rates := realised.get("class_rates"):
        shifts = {name: rates[name] - usual for name, usual in reference.class_rates.items() if name in rates}
        most = max(shifts, key=lambda name: abs(shifts[name]), default=None)
        if most is not None and abs(shifts[most]) > policy.max_label_rate_shift:
            usual = reference.class_rates[most]
            share, before = apart([rates[most], usual])
            yield Finding(
                kind="label shift",
                evidence=f"share of {most} {share} in {realised['partition']}, {before} in training",
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
            evidence=f"positive rate {share} in {realised['partition']}, {before} in training",
            numbers={"positive_rate": rate, "training_positive_rate": reference.label_rate},
        )


def label_spread(reference: Reference) -> float | None:
    """Standard deviation of the labels that the model learnt from; of several classes, of whether the one it decides
    for is the right one, by its own scores."""
    if reference.label_std is not None:
        return reference.label_std
    rate = reference.mean_score if reference.label_rate is None else reference.label_rate
    return None if rate is None or not 0 <= rate <= 1 else float(rate * (1 - rate)) ** 0.5


def _prediction_drift(policy: Policy, reference: Reference, detected: Mapping[str, Any]) -> Iterator[Finding]:
    """What is unlikely by chance may still be nothing that anybody could act on: scores that are off by next to nothing
    beside how widely labels spread."""
    score, limit = detected["prediction"], policy.max_prediction_psi
    psi, mean, usual = (score[name] for name in ("psi", "mean", "reference_mean"))
    if mean is None or usual is None:
        return
    numbers = {"psi": psi, "mean_score": mean, "test_mean_score": usual}
    now, before = apart([mean, usual])
    told = f"mean score {now} instead of {before}"
    if limit is not None:
        if psi > limit and detected["rows"] >= policy.min_labels:  # few rows alone make it large
            yield Finding(kind="prediction drift", evidence=f"{told} (PSI {psi:.2f})", numbers=numbers)
    elif beyond := _beyond(score, "step"):
        moved = score.get(f"{POOLED}moved" if beyond["is_pooled"] else "moved")
        spread = label_spread(reference)
        if moved is not None and spread is not None and moved < LEAST_MOVE * spread:
            return
        numbers |= {"step": beyond["distance"], "step_level": beyond["level"]}
        yield Finding(kind="prediction drift", evidence=f"{told}, moved by {_told(beyond)} at once", numbers=numbers)


def _feature_shift(policy: Policy, detected: Mapping[str, Any]) -> Iterator[Finding]:
    columns: dict[str, Mapping[str, Any]] = dict(detected["columns"])
    if (limit := policy.max_column_psi) is not None:
        is_enough = detected["rows"] >= policy.min_labels  # few rows alone make it large
        moved = {name: found["psi"] for name, found in columns.items() if found["psi"] > limit and is_enough}
        told = {name: f"{psi:.2f} of {name}" for name, psi in moved.items()}
        yield from _shift("covariate shift", "PSI ", moved, told, sorted(moved, key=lambda name: -moved[name]))
        columns = {}
    steps = {name: beyond for name, found in columns.items() if (beyond := _beyond(found, "step"))}
    if policy.max_prediction_psi is None:
        columns[SCORE] = detected["prediction"]
    fars = {
        name: beyond
        for name, found in columns.items()
        if not _beyond(found, "step") and (beyond := _beyond(found, "far"))
    }
    for kind, start, beyond_of in (
        ("covariate shift", "unlike the partitions before: ", steps),
        ("feature change", "away from training in usual steps: ", fars),
    ):
        told = {name: f"{name} by {_told(beyond)}" for name, beyond in beyond_of.items()}
        moved = {name: beyond["times"] for name, beyond in beyond_of.items()}
        yield from _shift(kind, start, moved, told, sorted(beyond_of, key=lambda name: _rank(beyond_of[name])))


def _rank(beyond: Mapping[str, Any]) -> tuple[bool, float]:
    """A column that moved by itself comes before those that only left the others' company. Of these the one that is
    furthest off is the likeliest to have moved, whatever is usual of it: the others' residuals follow from its own."""
    is_relation = beyond["unit"] == UNITS["relation"]
    return is_relation, -beyond["distance"] if is_relation else -beyond["times"]


def _shift(
    kind: Any, start: str, moved: dict[str, float], told: Mapping[str, str], ranked: Sequence[str]
) -> Iterator[Finding]:
    if moved:
        more = f" and {len(ranked) - 3} more" if len(ranked) > 3 else ""
        evidence = start + ", ".join(told[name] for name in ranked[:3]) + more
        yield Finding(kind=kind, evidence=evidence, numbers=moved, features=tuple(ranked))


def _unique(names: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))


def _beyond(found: Mapping[str, Any], which: Literal["far", "step"]) -> dict[str, Any] | None:
    """The distance that lies the most times its level off, if any does; how it goes with others comes last."""
    beyond = [
        {"distance": one[which], "level": level, "times": one[which] / level, **_measured(name)}
        for name, one in found["levels"].items()
        if (level := one[f"{which}_level"]) is not None and one[which] is not None and one[which] > level
    ]
    return max(beyond, key=lambda one: (one["unit"] != UNITS["relation"], one["times"]), default=None)


def _measured(name: str) -> dict[str, Any]:
    """Unit of a distance by its name in `levels`, and whether it is of the partition and its neighbours together."""
    return {"unit": UNITS[name.removeprefix(POOLED)], "is_pooled": name.startswith(POOLED)}


def _told(beyond: Mapping[str, Any]) -> str:
    pooled = ", with the partitions before it" if beyond["is_pooled"] else ""
    return f"{beyond['distance']:.2f} {beyond['unit']} (usual: up to {beyond['level']:.2f}{pooled})"
