"""`<problem>.monitor`: profile -> detect -> diagnose -> decide -> act, for one scored partition; report beside it."""

from __future__ import annotations

import hashlib
from typing import Any

import pyarrow.compute as pc

from pipelines import sql, store
from pipelines.dataset.label import mature
from pipelines.errors import DataError, NothingToDo
from pipelines.monitoring.profile import Reference
from pipelines.problem import Problem, load_problem
from pipelines.release import ledger
from pipelines.release.versions import reference_uri, version_problem
from pipelines.stages.estimate import estimate

__all__ = ["act", "decide", "detect", "diagnose", "estimate", "profile", "report"]


def profile(problem: str, partition: str) -> dict[str, Any]:
    """Profile the partition's features and scores in one pass, on the bins of the model that scored it.

    The scores also by the slices that the problem declares (evaluation.slices.by).
    Result: {"partition", "version", "rows"}.
    """
    from pipelines.monitoring.profile import profile as profile_rows
    from pipelines.monitoring.profile import to_rows

    config = load_problem(problem)
    config.partitions.parse(partition)
    predictions = store.dataset(config, "predictions").to_table(filter=pc.field("partition") == partition)
    if not predictions.num_rows:
        raise DataError(
            f"partition {partition} has no predictions",
            where=f"problem {problem}",
            cure=f"run {problem}.score for it first",
        )
    version = predictions["model_version"][0].as_py()
    key = sql.quote(config.key)
    batches = sql.stream(
        f"SELECT f.*, p.score FROM f JOIN p USING ({key}) WHERE f.partition = $partition",
        {"f": store.dataset(version_problem(config, version), "features"), "p": predictions},
        {"partition": partition},
    )
    profiles, slices = profile_rows(batches, _reference(config, version), config.evaluation.slices.by)
    store.write_table(config, "profiles", to_rows(config, partition, version, profiles, slices), [partition])
    return {"partition": partition, "version": version, "rows": predictions.num_rows}


def detect(problem: str, profiled: dict[str, Any]) -> dict[str, Any]:
    """How far the partition lies from the reference, and how good the newest labelled partitions turned out.

    What is usual is told by the reference's partitions and by those that the same version scored since.
    Result: what `profile` gave, "detected", and "realised": performance per labelled partition, oldest
    first, each with the version that scored it.
    """
    from pipelines.monitoring.detect import detect as measure_drift
    from pipelines.monitoring.detect import performance
    from pipelines.monitoring.truth import realised as turned_out

    config = load_problem(problem)
    partition, policy = profiled["partition"], config.monitoring.policy
    reference = _reference(config, profiled["version"])
    profiles = _profiles(config, profiled["version"], reference, partition)
    found = profiles.pop(partition)
    detected = measure_drift(reference, found, profiles, policy.false_alarm_rate, policy.trailing_partitions)
    labelled_keys = mature(config, partition, store.partition_keys(config, "predictions"))
    predictions, labels = store.dataset(config, "predictions"), store.dataset(config, "labels")
    realised = []
    for labelled in labelled_keys[-policy.of_last :]:
        scored = predictions.filter(pc.field("partition") == labelled)
        version = scored.head(1, columns=["model_version"])["model_version"][0].as_py()
        its, threshold = version_problem(config, version), _reference(config, version).threshold
        truth, unknown = turned_out(
            its, predictions, labels, labelled, version, threshold, config.partitions.end(partition)
        )
        if len(truth.labels):
            told = {"partition": labelled, "version": version, "unknown_labels": unknown}
            realised.append(told | performance(truth))
    return {**profiled, "detected": detected, "realised": realised}


def report(problem: str, profiled: dict[str, Any]) -> dict[str, Any]:
    """Evidently's drift report on a bounded sample of the partition and of the newest training rows.

    Result: {"partition", "report": URI of the HTML}.
    """
    from pipelines.monitoring.report import evidently_report, sample

    config = load_problem(problem)
    partition, version = profiled["partition"], profiled["version"]
    its = version_problem(config, version)
    features = store.dataset(its, "features")
    current = features.to_table(columns=its.feature_names, filter=pc.field("partition") == partition)
    until = store.read_json(reference_uri(config, version))["trained_until"]
    seen = features.to_table(columns=its.feature_names, filter=pc.field("partition") <= until)
    size, seed = config.monitoring.report_rows, config.training.seed
    html = evidently_report(sample(current, size, seed), sample(seen, size, seed), its)
    return {
        "partition": partition,
        "report": store.write_bytes(store.store_uri(config.name, "reports", partition, "drift.html"), html),
    }


def diagnose(problem: str, detected: dict[str, Any]) -> dict[str, Any]:
    """Name the kinds of shift. Only what the very version that scored this partition did counts against it.

    Result: what `detect` gave, and "diagnosis".
    """
    from pipelines.monitoring.diagnose import diagnose as name_shifts

    config = load_problem(problem)
    its_own = [one for one in detected["realised"] if one["version"] == detected["version"]]
    diagnosis = name_shifts(
        config.monitoring.policy, _reference(config, detected["version"]), detected["detected"], its_own
    )
    return {**detected, "diagnosis": diagnosis.model_dump(mode="json")}


def decide(problem: str, diagnosed: dict[str, Any]) -> dict[str, Any]:
    """Turn the diagnosis into an action. Result: what `diagnose` gave, and {"verdict", "action", "reason"}."""
    from pipelines.monitoring.decide import decide as apply_policy
    from pipelines.monitoring.finding import Diagnosis

    config = load_problem(problem)
    partition = diagnosed["partition"]
    requests = [row["partition"] for row in ledger.decisions(config, "monitoring")
                if row["action"] == "retrain" and row["partition"] < partition]  # fmt: skip
    since = len(config.partitions.between(max(requests), partition)) - 1 if requests else None
    decision = apply_policy(config.monitoring.policy, Diagnosis.model_validate(diagnosed["diagnosis"]), since)
    return {**diagnosed, **decision.model_dump(mode="json")}


def act(problem: str, decided: dict[str, Any]) -> dict[str, Any]:
    """Write the decision to the ledger and, when it says so, ask for a retraining.

    Result: {"partition", "action", "verdict", "reason"}: the request, which starts the train DAG.

    Raises:
        NothingToDo: no retraining is wanted, or the one for this partition has been carried out.
    """
    config = load_problem(problem)
    outcome = {name: decided[name] for name in ("partition", "action", "verdict", "reason")}
    evidence = {name: decided[name] for name in ("version", "detected", "realised", "diagnosis")}
    digest = hashlib.sha256(repr(sorted(outcome.items())).encode()).hexdigest()[:8]
    ledger.record(
        config,
        decision=f"monitoring:{decided['partition']}:{decided['version']}:{digest}",
        kind="monitoring",
        **outcome,
        model_version=decided["version"],
        evidence=evidence,
    )
    where = f"problem {problem}, partition {decided['partition']}"
    if decided["action"] != "retrain":
        raise NothingToDo(f"{decided['verdict']}: {decided['reason']}", where=where, cure="no retraining is wanted")
    if ledger.has_gate(config, decided["partition"]):
        raise NothingToDo(
            "a model has been trained for this partition already",
            where=where,
            cure=f"trigger {problem}.train by hand for another one",
        )
    return outcome


def _profiles(config: Problem, version: str, reference: Reference, partition: str) -> dict[str, dict[str, Any]]:
    """Profiles by partition and column, up to `partition`, of those that the version scored and was not made from."""
    from pipelines.monitoring.profile import KEPT_PARTITIONS, from_rows

    keys = [key for key in store.partition_keys(config, "profiles") if key <= partition][-KEPT_PARTITIONS:]
    keys = [key for key in keys if key == partition or key not in reference.partitions]
    wanted = (pc.field("model_version") == version) & pc.field("partition").isin(keys) & (pc.field("slice") == "")
    rows = store.dataset(config, "profiles").to_table(filter=wanted)
    parts = {key: from_rows(rows.filter(pc.field("partition") == key)) for key in keys}
    return {key: part for key, part in parts.items() if part}


def _reference(config: Problem, version: str) -> Reference:
    return Reference.model_validate(store.read_json(reference_uri(config, version))["reference"])
