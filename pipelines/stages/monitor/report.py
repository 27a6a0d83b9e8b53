"""report: the page about a partition, and Evidently's for those who know it."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipelines import sql, store
from pipelines.handoffs.config import pinned_problem
from pipelines.paths import reference_uri
from pipelines.problem import Problem
from pipelines.release.versions import version_problem
from pipelines.stages.monitor.explain import shown_performance
from pipelines.stages.monitor.past import past
from pipelines.stages.waiting import handed_on


def report(problem_name: str, decided: dict[str, Any]) -> dict[str, Any]:
    """The page about the partition; if wanted Evidently's drift report on a bounded sample too, for those who know it.

    Result: {"partition", "page": URI, "report": URI or None}.
    """
    from pipelines.dataset.draw import sample
    from pipelines.monitoring.page.evidently import evidently_report

    problem = pinned_problem(problem_name, decided.get("config"))
    partition, version = decided["partition"], decided["version"]
    told = {"partition": partition, "page": monitoring_page(problem_name, decided), "report": None}
    rows, seed = problem.monitoring.report_rows, problem.training.seed
    if rows is None or decided.get("rows") == 0:
        return told
    trained_problem = version_problem(problem, version)
    until = store.read_json(reference_uri(problem, version))["trained_until"]
    current, seen = (
        sample(_thinned(trained_problem, side, rows), rows, seed)
        for side in (pc.field("partition") == partition, pc.field("partition") <= until)
    )
    html = evidently_report(current, seen, trained_problem)
    return told | {"report": store.write_bytes(store.store_uri(problem_name, "reports", partition, "drift.html"), html)}


def _thinned(trained_problem: Problem, wanted: pc.Expression, rows: int) -> pa.Table:
    """Features of some rows, no more than twice as many as `rows`, chosen by a hash of the key while they are read."""
    features, key = store.dataset(trained_problem, "features").filter(wanted), sql.quote(trained_problem.key)
    step = max(features.count_rows() // rows, 1)
    columns = ", ".join(map(sql.quote, trained_problem.feature_names))
    return sql.query(f"SELECT {columns} FROM f WHERE hash({key}) % {step} = 0 ORDER BY {key}", {"f": features})


def monitoring_page(problem_name: str, decided: dict[str, Any]) -> str:
    """Write the page about a partition, from what `decide` gave; gives its URI. It works with less, too: what `detect`,
    `diagnose` or `explain` gave."""
    from pipelines.features.schema import feature_units
    from pipelines.monitoring.explain.root_cause import Explained, nothing_to_explain
    from pipelines.monitoring.page.evidence import Seen
    from pipelines.monitoring.page.page import page

    problem = pinned_problem(problem_name, decided.get("config"))
    partition, version = decided["partition"], decided["version"]
    labels_in = handed_on(problem, decided)
    what_was = past(version, labels_in)
    explained = Explained.model_validate(decided.get("explained") or nothing_to_explain().model_dump())
    if not explained.performance:
        told = [
            shown_performance({"is_held_out": False, **one})
            for one in decided.get("realised") or []
            if one["version"] == version
        ]
        explained = explained.model_copy(update={"performance": tuple(told)})
    profiles = what_was.profiles()
    # What is drawn is what the profiles are of.
    wanted = (pc.field("model_version") == version) & sql.is_among("partition", [*profiles])
    seen = Seen(
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
    return store.write_bytes(uri, page(seen, decided, explained))
