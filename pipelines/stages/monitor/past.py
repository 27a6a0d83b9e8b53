"""What a version did up to a partition, read from the store: profiles, scores that met their labels, rows of both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines import sql, store
from pipelines.asof.as_known import in_the_partition, labels_as_known, labels_of
from pipelines.dataset.label import label_number
from pipelines.dataset.waiting import Judgeable
from pipelines.paths import reference_uri, version_uri
from pipelines.problem import Problem
from pipelines.profiles.profile import KEPT_PARTITIONS, Profiles, Reference, from_rows
from pipelines.release.versions import learnt_by, version_problem

if TYPE_CHECKING:
    import pyarrow.dataset as ds

    from pipelines.metrics.scored import Scored
    from pipelines.monitoring.detect.detection import LabelledPartition
    from pipelines.monitoring.estimate.held_out import HeldOut

MEASURED_ROWS = 20_000  # of each labelled partition, and of each side whose losses are compared, at most
EXPLAINED_ROWS = 4_000  # of each side whose scores are compared


@dataclass(frozen=True)
class Past:
    """What one version did, as it was known at the end of a partition."""

    trained_problem: Problem
    version: str
    labels_in: Judgeable
    reference: Reference

    @property
    def problem(self) -> Problem:
        return self.labels_in.problem

    @property
    def partition(self) -> str:
        return self.labels_in.partition

    def profiles(self) -> dict[str, Profiles]:
        """By partition, oldest first: of those that the version was made from, then of those that it scored."""
        made_from: dict[str, Profiles] = dict(self.reference.partitions)
        keys = [key for key in store.partition_keys(self.problem, "profiles") if key <= self.partition]
        keys = [key for key in keys[-KEPT_PARTITIONS:] if key not in made_from]
        wanted = (pc.field("model_version") == self.version) & sql.is_among("partition", keys)
        rows = store.dataset(self.problem, "profiles").to_table(filter=wanted & (pc.field("slice") == ""))
        scored = {key: from_rows(rows.filter(pc.field("partition") == key)) for key in keys}
        return dict(sorted((made_from | {key: part for key, part in scored.items() if part}).items()))

    def labelled_keys(self) -> list[str]:
        """Partitions that the version scored and has not learnt from, and whose labels are in, oldest first."""
        learnt = learnt_by(self.problem, self.version)
        keys = self.labels_in.among(store.partition_keys(self.problem, "predictions"))
        keys = [key for key in keys if key not in learnt]
        counts = self._counts(self._predictions(keys[-KEPT_PARTITIONS:]))
        return sorted(counts)

    def performance(self) -> list[LabelledPartition]:
        """How good its scores turned out, of the test split's partitions and then of labelled ones, oldest first.

        Of a partition with more than 20,000 rows a sample.
        """
        from pipelines.monitoring.detect.detect import performance

        turned_out = []
        held_out = self.held_out()
        if held_out:
            parts = np.asarray(held_out.rows["partition"].to_pylist())
            turned_out += [
                performance(held_out.scored.take(parts == key)).at(str(key), is_held_out=True)
                for key in np.unique(parts)
            ]
        keys = self.labelled_keys()
        if keys:
            rows, truth = self.labelled(keys, [], {key: {key} for key in keys})
            parts = np.asarray(rows["partition"].to_pylist())
            turned_out += [
                performance(truth.take(parts == key)).at(str(key), is_held_out=False) for key in np.unique(parts)
            ]
        return sorted(turned_out, key=lambda part: part.partition)

    def labelled(
        self, keys: Sequence[str], features: Sequence[str], together: Mapping[str, set[str]]
    ) -> tuple[pa.Table, Scored]:
        """Rows of these partitions that the version scored and that have a label, with the features; and what is
        known of them.

        `together`: for each partition those of its side; of a side a sample of at most 20,000 rows, by hash of the key.
        """
        from pipelines.metrics.scored import scored
        from pipelines.monitoring.estimate.realised import scores_of

        trained_problem, parts = self.trained_problem, self.problem.partitions
        key, label = sql.quote(trained_problem.key), label_number(trained_problem, "known.label")
        predictions = self._predictions(keys)
        time = pc.field("event_time")
        span = (time >= pc.scalar(parts.start(min(keys)))) & (time < pc.scalar(parts.end(max(keys))))
        tables = {"p": predictions, "labels": store.dataset(self.problem, "labels").filter(span)}
        columns, joined = "", ""
        if features:
            tables["f"] = store.dataset(trained_problem, "features").filter(sql.is_among("partition", keys))
            columns = "".join(f", f.{sql.quote(name)}" for name in features)
            joined = f"JOIN f ON f.{key} = chosen.{key} AND f.partition = chosen.partition"
        counts = self._counts(predictions)
        sizes = {one: sum(counts.get(other, 0) for other in together[one]) or 1 for one in keys}
        rows = sql.query(
            f"""WITH known AS MATERIALIZED ({labels_as_known(trained_problem)}),
                of_events AS ({labels_of(trained_problem, "p", in_the_partition(trained_problem))}),
                chosen AS (SELECT * FROM p WHERE {sql.thinned(trained_problem.key, sizes, MEASURED_ROWS)})
                SELECT chosen.partition, chosen.event_time, score, probabilities, {label} AS label{columns}
                FROM chosen JOIN of_events AS known
                    ON known.{key} = chosen.{key} AND known.event_time = chosen.event_time
                {joined} WHERE {label} IS NOT NULL
                ORDER BY chosen.event_time, chosen.{key}""",
            tables,
            {"as_of": parts.end(self.partition)},
        )
        found = scored(
            trained_problem,
            rows["label"].to_numpy(),
            scores_of(trained_problem, rows),
            threshold=self.reference.threshold,
        )
        return rows, found

    def held_out(self) -> HeldOut | None:
        return held_out_of(self.problem, self.trained_problem, self.version)

    def compared(
        self, before: Sequence[str], after: Sequence[str], features: Sequence[str]
    ) -> tuple[pa.Table, Scored, np.ndarray[Any, Any], bool]:
        """Labelled rows of two sides, held-out ones among the earlier; whether each is of the later side; and whether
        held-out ones are there."""
        keys = [*before, *after]
        together = {key: set(before if key in before else after) for key in keys}
        rows, found = self.labelled(keys, features, together)
        is_after = np.isin(np.asarray(rows["partition"].to_pylist(), dtype=str), np.asarray(after, dtype=str))
        held_out = self.held_out()
        names = ["partition", "event_time", *features]
        if held_out is None:
            return rows.select(names), found, is_after, False
        more = held_out.scored
        both = pa.concat_tables([held_out.rows.select(names), rows.select(names)], promote_options="permissive")
        joined = replace(
            found,
            labels=np.concatenate([more.labels, found.labels]),
            scores=np.concatenate([more.scores, found.scores]),
            weights=np.ones(both.num_rows),
        )
        return both, joined, np.concatenate([np.zeros(len(more.labels), bool), is_after]), True

    def explained_rows(self, before: Sequence[str], after: Sequence[str]) -> tuple[pa.Table, np.ndarray[Any, Any]]:
        """A sample of the feature rows of two sides, 4,000 of each, by hash of the key; which are of the later."""
        features = store.dataset(self.trained_problem, "features").filter(sql.is_among("partition", [*before, *after]))
        counts = self._counts(features)
        sizes = {key: sum(counts.get(one, 0) for one in side) or 1 for side in (before, after) for key in side}
        rows = sql.query(
            f"SELECT * FROM f WHERE {sql.thinned(self.trained_problem.key, sizes, EXPLAINED_ROWS)} "
            f"ORDER BY event_time, {sql.quote(self.trained_problem.key)}",
            {"f": features},
        )
        return rows, np.isin(np.asarray(rows["partition"].to_pylist(), dtype=str), np.asarray(after, dtype=str))

    def _predictions(self, keys: Sequence[str]) -> ds.Dataset:
        wanted = sql.is_among("partition", keys) & (pc.field("model_version") == self.version)
        return store.dataset(self.problem, "predictions").filter(wanted)

    def _counts(self, rows: ds.Dataset) -> dict[str, int]:
        found = sql.query("SELECT partition, count(*) AS rows FROM t GROUP BY partition", {"t": rows})
        return dict(zip(found["partition"].to_pylist(), found["rows"].to_pylist(), strict=True))


def reference_of(problem: Problem, version: str) -> Reference:
    """What monitoring holds a version's partitions against."""
    return Reference.model_validate(store.read_json(reference_uri(problem, version))["reference"])


def held_out_of(problem: Problem, trained_problem: Problem, version: str) -> HeldOut | None:
    """The test rows that went with a version; None of one from before there were any."""
    from pipelines.monitoring.estimate.held_out import from_parquet

    uri = version_uri(problem, version, "held_out.parquet")
    content = store.find_bytes(uri)
    return None if content is None else from_parquet(trained_problem, content)


def past(version: str, labels_in: Judgeable) -> Past:
    problem = labels_in.problem
    return Past(version_problem(problem, version), version, labels_in, reference_of(problem, version))
