"""`<problem>.monitor`, for one scored partition: profile, detect, estimate, diagnose, explain, decide, act, report."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipelines import quarantine, sql, store
from pipelines.artifacts import table_schema
from pipelines.dataset.label import mature
from pipelines.errors import DataError, NothingToDo
from pipelines.paths import manifest_uri, reference_uri
from pipelines.problem import Problem, load_problem
from pipelines.release.versions import version_problem
from pipelines.stages import past
from pipelines.stages.decide import act, decide
from pipelines.stages.estimate import estimate
from pipelines.stages.explain import explain
from pipelines.stages.waiting import handed_on, judgeable

__all__ = ["act", "decide", "detect", "diagnose", "estimate", "explain", "profile", "report"]


def profile(problem: str, partition: str) -> dict[str, Any]:
    """Profile the partition's features and scores in one pass, on the bins of the model that scored it.

    The scores also by the slices that the problem declares (evaluation.slices.by). A partition that was scored empty
    has no profile. Result: {"partition", "version", "rows", "late": partitions too many of whose labels still have time
    to come in}.
    """
    from pipelines.profiles.profile import profile as profile_rows
    from pipelines.profiles.profile import to_rows

    config = load_problem(problem)
    config.partitions.parse(partition)
    late = sorted(judgeable(config, partition).late)
    predictions = store.dataset(config, "predictions").to_table(filter=pc.field("partition") == partition)
    if not predictions.num_rows:
        version = _scored_empty(config, partition)
        store.write_table(config, "profiles", table_schema(config, "profiles").empty_table(), [partition])
        return {"partition": partition, "version": version, "rows": 0, "late": late}
    version = predictions["model_version"][0].as_py()
    key = sql.quote(config.key)
    batches = sql.stream(
        f"SELECT f.*, p.score FROM f JOIN p USING ({key})",
        {
            "f": store.dataset(version_problem(config, version), "features").filter(pc.field("partition") == partition),
            "p": predictions,
        },
    )
    profiles, slices = profile_rows(batches, past.reference_of(config, version), config.evaluation.slices.by)
    store.write_table(config, "profiles", to_rows(config, partition, version, profiles, slices), [partition])
    return {"partition": partition, "version": version, "rows": predictions.num_rows, "late": late}


def detect(problem: str, profiled: dict[str, Any]) -> dict[str, Any]:
    """How far the partition lies from the reference, and how good the newest labelled partitions turned out.

    What is usual is told by the reference's partitions and by those that the same version scored since. Partitions in
    quarantine tell neither that nor how good the model is: a fault that stays is found in each of its partitions.
    Partitions with too few rows are pooled with their neighbours before them.
    Result: what `profile` gave, "detected", "realised": performance per labelled partition, or pool of them, oldest
    first, each with the version that scored it; and "waiting": earlier partitions too many of whose labels are still on
    their way for them to tell anything.
    """
    from pipelines.features.schema import feature_units
    from pipelines.monitoring.detect.detect import detect as measure_drift
    from pipelines.stages.labelled import newest_realised

    config = load_problem(problem)
    if profiled.get("rows") == 0:
        return {**profiled, "detected": {"rows": 0, "columns": {}, "prediction": {}, "same_as": None}, "realised": [],
                "waiting": []}  # fmt: skip
    partition, policy = profiled["partition"], config.monitoring.policy
    labels_in = handed_on(config, profiled)
    before, held = past.past(profiled["version"], labels_in), quarantine.held(config) - {partition}
    # One that a new version learnt from is no repetition of itself.
    others = {key: part for key, part in before.reference.partitions.items() if key != partition}
    before = replace(before, reference=before.reference.model_copy(update={"partitions": others}))
    profiles = {key: part for key, part in before.profiles().items() if key not in others and key not in held}
    found = profiles.pop(partition)
    # A unit that was declared after the version was made counts at once.
    units = feature_units(before.its) | feature_units(config)
    detected = measure_drift(
        before.reference,
        found,
        profiles,
        policy.false_alarm_rate,
        policy.trailing_partitions,
        policy.min_labels,
        units,
    )
    scored = [key for key in store.partition_keys(config, "predictions") if key not in held]
    late = labels_in.late.intersection(mature(config, partition, scored))
    realised = newest_realised(config, partition, [key for key in scored if key not in late])
    return {**profiled, "detected": detected, "realised": realised, "waiting": sorted(late - {partition})}


def diagnose(problem: str, detected: dict[str, Any] | None, estimated: dict[str, Any] | None = None) -> dict[str, Any]:
    """Name the kinds of shift. Only what the very version that scored this partition did counts against it.

    `estimated`: what the stage `estimate` gave, None where it had nothing to say or has failed. Result: what `detect`
    gave, "estimated" and "diagnosis".

    Raises:
        NothingToDo: there is nothing to diagnose, since `detect` gave nothing.
    """
    from pipelines.monitoring.diagnose.diagnose import diagnose as name_shifts
    from pipelines.monitoring.diagnose.finding import Diagnosis

    if detected is None:
        raise NothingToDo(
            "detect gave nothing: it failed, or was skipped",
            where=f"problem {problem}",
            cure="if it failed, mend what it says, then clear it",
        )
    config = load_problem(problem)
    if detected.get("rows") == 0:
        unjudged = {"inputs": "the partition has no rows"}
        nothing = Diagnosis(findings=(), labelled=(), bad=(), unjudged=unjudged, is_empty=True)
        return {**detected, "diagnosis": nothing.model_dump(mode="json")}
    its_own = [one for one in detected["realised"] if one["version"] == detected["version"]]
    reference = past.reference_of(config, detected["version"])
    diagnosis = name_shifts(
        config.monitoring.policy, reference, detected["detected"], its_own, estimated, detected["waiting"]
    )
    told = {name: (estimated or {}).get(name) for name in ("label_shift", "concept", "feedback")}
    return {**detected, **told, "diagnosis": diagnosis.model_dump(mode="json")}


def report(problem: str, decided: dict[str, Any]) -> dict[str, Any]:
    """The page about the partition; if wanted Evidently's drift report on a bounded sample too, for those who know it.

    Result: {"partition", "page": URI, "report": URI or None}.
    """
    from pipelines.dataset.draw import sample
    from pipelines.monitoring.page.evidently import evidently_report
    from pipelines.stages.explain import monitoring_page

    config = load_problem(problem)
    partition, version = decided["partition"], decided["version"]
    told = {"partition": partition, "page": monitoring_page(problem, decided), "report": None}
    rows, seed = config.monitoring.report_rows, config.training.seed
    if rows is None or decided.get("rows") == 0:
        return told
    its = version_problem(config, version)
    until = store.read_json(reference_uri(config, version))["trained_until"]
    current, seen = (sample(_thinned(its, side, rows), rows, seed)
                     for side in (pc.field("partition") == partition, pc.field("partition") <= until))  # fmt: skip
    html = evidently_report(current, seen, its)
    return told | {"report": store.write_bytes(store.store_uri(problem, "reports", partition, "drift.html"), html)}


def _scored_empty(config: Problem, partition: str) -> str:
    """The version that scored a partition without rows.

    Raises:
        DataError: it was not scored at all.
    """
    uri = manifest_uri(config, partition)
    manifest = store.find_json(uri)
    if manifest is None or manifest["rows"] != 0:
        raise DataError(
            f"partition {partition} has no predictions",
            where=f"problem {config.name}",
            cure=f"run {config.name}.score for it first",
        )
    return str(manifest["model_version"])


def _thinned(its: Problem, wanted: pc.Expression, rows: int) -> pa.Table:
    """Features of some rows, no more than twice as many as `rows`, chosen by a hash of the key while they are read."""
    features, key = store.dataset(its, "features").filter(wanted), sql.quote(its.key)
    step = max(features.count_rows() // rows, 1)
    columns = ", ".join(map(sql.quote, its.feature_names))
    return sql.query(f"SELECT {columns} FROM f WHERE hash({key}) % {step} = 0 ORDER BY {key}", {"f": features})
