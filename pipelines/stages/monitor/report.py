"""report: the page about a partition, and Evidently's for those who know it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from pipelines import sql, store
from pipelines.handoffs.config import problem_of
from pipelines.handoffs.monitoring import Decided, Explained, Reported
from pipelines.monitoring.decide.decide import Decision
from pipelines.monitoring.decide.weighing import Weighing
from pipelines.monitoring.detect.detection import Detection
from pipelines.monitoring.diagnose.finding import Diagnosis
from pipelines.paths import reference_uri
from pipelines.problem import Problem
from pipelines.release.versions import version_problem
from pipelines.stages.monitor import evidence
from pipelines.stages.monitor.explain import shown_performance
from pipelines.stages.monitor.past import past
from pipelines.stages.waiting import handed_on

if TYPE_CHECKING:
    from pipelines.monitoring.page.evidence import Judged


def report(problem_name: str, decided: Decided) -> Reported:
    """The page about the partition; if wanted Evidently's drift report on a bounded sample too."""
    from pipelines.dataset.draw import sample
    from pipelines.monitoring.page.evidently import evidently_report

    problem = problem_of(problem_name, decided)
    partition, version = decided.partition, decided.version
    page = monitoring_page(problem_name, decided)
    rows, seed = problem.monitoring.report_rows, problem.training.seed
    if rows is None or decided.rows == 0:
        return Reported(partition=partition, page=page, report=None)
    trained_problem = version_problem(problem, version)
    until = store.read_json(reference_uri(problem, version))["trained_until"]
    current, learnt = (
        sample(_thinned(trained_problem, side, rows), rows, seed)
        for side in (pc.field("partition") == partition, pc.field("partition") <= until)
    )
    html = evidently_report(current, learnt, trained_problem)
    uri = store.write_bytes(store.store_uri(problem_name, "reports", partition, "drift.html"), html)
    return Reported(partition=partition, page=page, report=uri)


def _thinned(trained_problem: Problem, wanted: pc.Expression, rows: int) -> pa.Table:
    """Features of some rows, no more than twice as many as `rows`, chosen by a hash of the key while they are read."""
    features, key = store.dataset(trained_problem, "features").filter(wanted), sql.quote(trained_problem.key)
    step = max(features.count_rows() // rows, 1)
    columns = ", ".join(map(sql.quote, trained_problem.feature_names))
    return sql.query(f"SELECT {columns} FROM f WHERE hash({key}) % {step} = 0 ORDER BY {key}", {"f": features})


def monitoring_page(problem_name: str, explained: Explained) -> str:
    """Write the page about a partition, with the decision where one was taken; gives its URI."""
    from pipelines.features.schema import feature_units
    from pipelines.monitoring.page.evidence import PageFacts
    from pipelines.monitoring.page.page import page

    problem = problem_of(problem_name, explained)
    partition, version = explained.partition, explained.version
    labels_in = handed_on(problem, explained)
    what_was = past(version, labels_in)
    profiles = what_was.profiles()
    # What is drawn is what the profiles are of.
    wanted = (pc.field("model_version") == version) & sql.is_among("partition", [*profiles])
    facts = PageFacts(
        problem=problem.name,
        every=problem.partitions.every,
        partition=partition,
        version=version,
        reference=what_was.reference,
        profiles=profiles,
        estimates=store.dataset(problem, "estimates").to_table(filter=wanted).sort_by("partition").to_pylist(),
        unlabelled=sorted(set(profiles) - set(labels_in.among(profiles))),
        labels_until=problem.partitions.end(partition).isoformat(),
        units=feature_units(what_was.trained_problem),
    )
    uri = store.store_uri(problem.name, "reports", partition, "monitoring.html")
    return store.write_bytes(uri, page(facts, _judged(explained)))


def _judged(explained: Explained) -> Judged:
    """What the stages before have found and decided, read again."""
    from pipelines.monitoring.explain.root_cause import Explanation, nothing_to_explain
    from pipelines.monitoring.page.evidence import Judged

    detection = evidence.read(Detection, explained.detection)
    explanation = nothing_to_explain()
    if explained.explanation is not None:
        explanation = evidence.read(Explanation, explained.explanation)
    if not explanation.performance:
        own = [part for part in detection.realised if part.version == explained.version]
        shown = tuple(shown_performance(part) for part in own)
        explanation = explanation.model_copy(update={"performance": shown})
    decision = None
    if isinstance(explained, Decided):
        decision = Decision(
            verdict=explained.verdict,
            action=explained.action,
            reason=explained.reason,
            options=evidence.read(Weighing, explained.weighing).options,
        )
    diagnosis = evidence.read(Diagnosis, explained.diagnosis)
    return Judged(detection.detected, diagnosis, explanation, decision)
