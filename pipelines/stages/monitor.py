"""`<problem>.monitor`: profile -> detect -> diagnose -> decide -> act, for one scored partition; report beside it."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipelines import sql, store
from pipelines.dataset.known import labels_as_known
from pipelines.dataset.label import label_number, mature
from pipelines.errors import DataError, NothingToDo
from pipelines.monitoring.profile import Reference
from pipelines.problem import Problem, load_problem
from pipelines.release import ledger
from pipelines.release.versions import reference_uri, version_problem


def profile(problem: str, partition: str) -> dict[str, Any]:
    """Profile the partition's features and scores in one pass, on the bins of the model that scored it.

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
    profiles = profile_rows(batches, _reference(config, version))
    store.write_table(config, "profiles", to_rows(config, partition, version, profiles), [partition])
    return {"partition": partition, "version": version, "rows": predictions.num_rows}


def detect(problem: str, profiled: dict[str, Any]) -> dict[str, Any]:
    """How far the partition lies from the reference, and how good the newest labelled partitions turned out.

    Result: what `profile` gave, "detected", and "realised": performance per labelled partition, oldest
    first, each with the version that scored it.
    """
    from pipelines.evaluation.scored import scored
    from pipelines.monitoring.detect import detect as measure_drift
    from pipelines.monitoring.detect import performance
    from pipelines.monitoring.profile import from_rows

    config = load_problem(problem)
    partition = profiled["partition"]
    rows = store.dataset(config, "profiles").to_table(filter=pc.field("partition") == partition)
    detected = measure_drift(_reference(config, profiled["version"]), from_rows(rows))
    labelled_keys = mature(config, partition, store.partition_keys(config, "predictions"))
    predictions, labels = store.dataset(config, "predictions"), store.dataset(config, "labels")
    realised = []
    for labelled in labelled_keys[-config.monitoring.policy.of_last :]:
        predicted = predictions.to_table(filter=pc.field("partition") == labelled)
        version = predicted["model_version"][0].as_py()
        its, threshold = version_problem(config, version), _reference(config, version).threshold
        truth = _truth(its, predicted, labels, labelled, partition)
        if truth.num_rows:
            found = performance(scored(its, truth["label"].to_numpy(), _scores(its, truth), threshold=threshold))
            realised.append({"partition": labelled, "version": version, **found})
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
    from pipelines.monitoring.diagnose import Diagnosis

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


def _truth(its: Problem, predicted: pa.Table, labels: Any, labelled: str, partition: str) -> pa.Table:
    """score, probabilities and label of `labelled`'s rows, labels as known at the end of `partition`.

    `its` is the config that the model was trained with: a label is a number, the place of its class there. A class
    that the model does not know is left out: no metric could take it.
    """
    key, parts, label = sql.quote(its.key), its.partitions, label_number(its, "known.label")
    time, start, end = pc.field("event_time"), pc.scalar(parts.start(labelled)), pc.scalar(parts.end(labelled))
    return sql.query(
        f"""WITH known AS ({labels_as_known(its)})
            SELECT p.score, p.probabilities, {label} AS label FROM predicted AS p JOIN known USING ({key})
            WHERE {label} IS NOT NULL ORDER BY p.event_time, p.{key}""",
        {
            "predicted": predicted,
            "labels": labels.filter((time >= start) & (time < end)),
        },
        {"as_of": parts.end(partition)},
    )


def _scores(config: Problem, rows: pa.Table) -> NDArray[Any]:
    """Scores as metrics take them: (n,), or of several classes (n, k)."""
    if config.task != "multiclass":
        return np.asarray(rows["score"].to_numpy())
    return np.asarray(pc.list_flatten(rows["probabilities"].combine_chunks())).reshape(rows.num_rows, -1)


def _reference(config: Problem, version: str) -> Reference:
    return Reference.model_validate(store.read_json(reference_uri(config, version))["reference"])
