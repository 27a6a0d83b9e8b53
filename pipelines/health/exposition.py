"""How problems stand in Prometheus's text format: for who has a Prometheus, or a collector that scrapes like one."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from pipelines.health.document import Health
from pipelines.health.in_flight import InFlight
from pipelines.health.rows import beyond_gate, newest_realised

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

FAMILIES = {
    "evergreen_store_up": "Whether the object store answered; 0: all else is of an earlier look",
    "evergreen_health_derived_timestamp_seconds": "When it was looked up how the problem stands",
    "evergreen_table_end_timestamp_seconds": "End of the newest partition of a table; deliveries have none",
    "evergreen_source_newest_timestamp_seconds": "Newest time of a source's rows, as of the newest partition read",
    "evergreen_source_arrived_timestamp_seconds": "When a source's newest file was written, or message sent",
    "evergreen_source_behind": "Whether a source lags by more than is usual for it, where that is known",
    "evergreen_next_partition_due_timestamp_seconds": "When the next partition is to be ingested",
    "evergreen_partitions_missed": "Whether partitions were not ingested though their time has come, or not scored",
    "evergreen_metric_realised": "The headline metric of the newest labelled partition",
    "evergreen_metric_gate": "What the gate asks of that metric",
    "evergreen_metric_beyond_gate": "Whether the newest labelled partition is worse than the gate asks for",
    "evergreen_last_verdict": "Always 1: what monitoring said last, and what was done about it",
    "evergreen_last_verdict_timestamp_seconds": "When it said that",
    "evergreen_champion_info": "Always 1: the version that serves, and how it came to",
    "evergreen_champion_since_timestamp_seconds": "Since when it serves",
    "evergreen_champion_age_partitions": "Partitions that were ingested since it was trained",
    "evergreen_quarantine_rows": "Rows in quarantine",
    "evergreen_quarantine_share": "Rows in quarantine, of all rows that came",
    "evergreen_quarantine_partitions": "Partitions in quarantine",
    "evergreen_gate_failures": "Trainings in a row, the newest, whose model did not pass its gate",
    "evergreen_release_under_way": "Whether a version is on its way to serve",
    "evergreen_release_asks": "Whether that release waits for an approval",
    "evergreen_questions_open": "What people are asked in Airflow: approvals, labels",
    "evergreen_dag_runs": "Runs of DAGs that go on, and DAGs with runs in line",
    "evergreen_dags_failed": "DAGs whose newest run has failed, but at the gate",
    "evergreen_dags_paused": "DAGs that nothing starts",
    "evergreen_task_cpu_seconds": "CPU of the newest try of a stage that ended well, with child processes",
    "evergreen_task_wall_seconds": "How long that try took",
    "evergreen_task_peak_memory_bytes": "The most memory that it held, with what it shares with others",
    "evergreen_task_ended_timestamp_seconds": "When it ended",
    "evergreen_task_tries": "Tries within 31 days, by how they ended",
    "evergreen_partition_cost": "What a partition costs on average of the newest, by the project's prices",
}
"""Gauges, and what each says."""


class Sample(NamedTuple):
    """A value of a family."""

    family: str
    labels: dict[str, str]
    value: float


def exposition(
    healths: Mapping[str, Health | None], in_flight: Mapping[str, InFlight] | None = None, *, is_store_up: bool = True
) -> str:
    """What there is to say of problems, by name, in Prometheus's text format.

    Args:
        healths: None: nothing is known of a problem yet.
        in_flight: what goes on in Airflow; None: nobody has asked it.
        is_store_up: whether the store has answered.
    """
    samples = [Sample("evergreen_store_up", {}, float(is_store_up))]
    for problem, health in sorted(healths.items()):
        samples += _of_health(health) if health else ()
        samples += _of_airflow(problem, in_flight.get(problem, InFlight())) if in_flight is not None else ()
    by_family: dict[str, list[Sample]] = {}
    for sample in samples:
        by_family.setdefault(sample.family, []).append(sample)
    return "".join(_family(family, by_family[family]) for family in FAMILIES if family in by_family)


def _of_health(health: Health) -> Iterator[Sample]:
    def sample(name: str, value: float, **labels: str) -> Sample:
        return Sample(f"evergreen_{name}", {"problem": health.problem, **labels}, value)

    yield sample("health_derived_timestamp_seconds", health.derived.timestamp())
    for table in health.tables:
        if table.until:
            yield sample("table_end_timestamp_seconds", table.until.timestamp(), table=table.name)
    for source in health.sources:
        if source.newest:
            yield sample("source_newest_timestamp_seconds", source.newest.timestamp(), source=source.name)
        if source.arrived:
            yield sample("source_arrived_timestamp_seconds", source.arrived.timestamp(), source=source.name)
        if source.allowed_s is not None:
            yield sample("source_behind", source.is_behind, source=source.name)
    if health.next_due and not health.lies_in_past:
        yield sample("next_partition_due_timestamp_seconds", health.next_due.timestamp())
    yield sample("partitions_missed", bool(health.missed))
    if (newest := newest_realised(health)) and newest.realised is not None:
        yield sample("metric_realised", newest.realised, metric=health.metric)
    if health.gate is not None:
        yield sample("metric_gate", health.gate, metric=health.metric)
        yield sample("metric_beyond_gate", beyond_gate(health) is not None, metric=health.metric)
    if judged := health.judged:
        yield sample("last_verdict", 1, verdict=judged.verdict, action=judged.action)
        yield sample("last_verdict_timestamp_seconds", judged.decided.timestamp())
    if champion := health.champion:
        yield sample("champion_info", 1, version=champion.version, how=champion.how)
        yield sample("champion_since_timestamp_seconds", champion.since.timestamp())
        if champion.age is not None:
            yield sample("champion_age_partitions", champion.age)
    yield sample("quarantine_rows", health.quarantined_rows)
    if came := health.quarantined_rows + health.event_rows:
        yield sample("quarantine_share", health.quarantined_rows / came)
    yield sample("quarantine_partitions", len(health.held))
    yield sample("gate_failures", health.gate_failures)
    yield sample("release_under_way", health.release is not None)
    yield sample("release_asks", health.release is not None and health.release.asked is not None)
    for used in health.stages:
        for outcome, tries in sorted(used.outcomes.items()):
            yield sample("task_tries", tries, stage=used.stage, outcome=outcome)
        if used.ended:
            yield sample("task_cpu_seconds", used.cpu_s, stage=used.stage)
            yield sample("task_wall_seconds", used.wall_s, stage=used.stage)
            yield sample("task_peak_memory_bytes", used.peak_bytes, stage=used.stage)
            yield sample("task_ended_timestamp_seconds", used.ended.timestamp(), stage=used.stage)
    if health.cost:
        yield sample("partition_cost", health.cost.per_partition, currency=health.cost.unit)


def _of_airflow(problem: str, going_on: InFlight) -> Iterator[Sample]:
    def sample(name: str, value: float, **labels: str) -> Sample:
        return Sample(f"evergreen_{name}", {"problem": problem, **labels}, value)

    yield sample("questions_open", len(going_on.questions))
    yield sample("dag_runs", len(going_on.running), state="running")
    yield sample("dag_runs", len(going_on.waiting), state="queued")
    yield sample("dags_failed", len(going_on.failed))
    yield sample("dags_paused", len(going_on.paused))


def _family(name: str, samples: Iterable[Sample]) -> str:
    lines = [f"# HELP {name} {_escaped(FAMILIES[name], quotes=False)}", f"# TYPE {name} gauge"]
    lines += [f"{name}{_labels(sample.labels)} {number(sample.value)}" for sample in samples]
    return "\n".join([*lines, ""])


def _labels(labels: Mapping[str, str]) -> str:
    r"""
    >>> print(_labels({"problem": 'a "b"', "action": "c"}))
    {problem="a \"b\"",action="c"}
    """
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items()) + "}"


def _escaped(text: str, *, quotes: bool = True) -> str:
    escaped = text.replace("\\", r"\\").replace("\n", r"\n")
    return escaped.replace('"', r"\"") if quotes else escaped


def number(value: float) -> str:
    """A value as Prometheus reads it, to the last bit.

    >>> number(0.1), number(3), number(True), number(float("nan")), number(float("-inf"))
    ('0.1', '3', '1', 'NaN', '-Inf')
    """
    if isinstance(value, int):
        return str(int(value))
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return repr(value)
