"""profile: a partition's features and scores in one pass."""

from __future__ import annotations

from typing import Any

import pyarrow.compute as pc

from pipelines import sql, store
from pipelines.artifacts import table_schema
from pipelines.errors import DataError
from pipelines.handoffs.config import pin
from pipelines.paths import manifest_uri
from pipelines.problem import Problem, load_problem
from pipelines.release.versions import version_problem
from pipelines.stages.monitor import past
from pipelines.stages.waiting import judgeable


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
        return {"partition": partition, "version": version, "rows": 0, "late": late, "config": pin(config)}
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
    return {
        "partition": partition,
        "version": version,
        "rows": predictions.num_rows,
        "late": late,
        "config": pin(config),
    }


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
