"""profile: a partition's features and scores in one pass."""

from __future__ import annotations

from typing import Any

import pyarrow.compute as pc

from pipelines import sql, store
from pipelines.artifacts import table_schema
from pipelines.dataset.waiting import judgeable
from pipelines.errors import DataError
from pipelines.handoffs.config import pin
from pipelines.handoffs.monitoring import Profiled
from pipelines.paths import manifest_uri
from pipelines.problem import Problem, load_problem
from pipelines.release.assign import champions_predictions
from pipelines.release.versions import version_problem
from pipelines.stages.monitor import past


def profile(problem_name: str, partition: str) -> Profiled:
    """Profile the partition's features and scores in one pass, on the bins of the model that scored it.

    The scores also by the slices that the problem declares (evaluation.slices.by). A partition that was scored empty
    has no profile. Of one that a release has shared out it is the champion's rows, as in all of monitoring.
    """
    from pipelines.profiles.profile import profile as profile_rows
    from pipelines.profiles.profile import to_rows

    problem = load_problem(problem_name)
    problem.partitions.parse(partition)
    late = sorted(judgeable(problem, partition).late)
    predictions = champions_predictions(problem).to_table(filter=pc.field("partition") == partition)
    if not predictions.num_rows:
        version = _scored_empty(problem, partition)
        store.write_table(problem, "profiles", table_schema(problem, "profiles").empty_table(), [partition])
        return Profiled(partition=partition, version=version, rows=0, late=late, config=pin(problem))
    version = predictions["model_version"][0].as_py()
    key = sql.quote(problem.key)
    batches = sql.stream(
        f"SELECT f.*, p.score FROM f JOIN p USING ({key})",
        {
            "f": store.dataset(version_problem(problem, version), "features").filter(
                pc.field("partition") == partition
            ),
            "p": predictions,
        },
    )
    profiles, slices = profile_rows(batches, past.reference_of(problem, version), problem.evaluation.slices.by)
    store.write_table(problem, "profiles", to_rows(problem, partition, version, profiles, slices), [partition])
    rows = predictions.num_rows
    return Profiled(partition=partition, version=version, rows=rows, late=late, config=pin(problem))


def _scored_empty(problem: Problem, partition: str) -> str:
    """The version that scored a partition of which it serves no rows.

    Raises:
        DataError: it was not scored at all.
    """
    uri = manifest_uri(problem, partition)
    manifest = store.find_json(uri)
    if manifest is None or _served_by_champion(manifest):
        raise DataError(
            f"partition {partition} has no predictions",
            where=f"problem {problem.name}",
            cure=f"run {problem.name}.score for it first",
        )
    return str(manifest["model_version"])


def _served_by_champion(manifest: dict[str, Any]) -> int:
    """Rows; of a small partition that a release has shared out the challenger may serve all there are."""
    versions: dict[str, int] = manifest.get("versions", {manifest["model_version"]: manifest["rows"]})
    return versions.get(manifest["model_version"], 0)
