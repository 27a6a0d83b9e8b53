"""What a version did up to a partition, read from the store: profiles, scores that met their labels, rows of both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines import quarantine, sql, store
from pipelines.asof.as_known import in_the_partition, labels_as_known, labels_of, targets
from pipelines.config import Action, Way
from pipelines.dataset.label import label_number, labelled, labelled_counts
from pipelines.dataset.waiting import Judgeable
from pipelines.documents.lineage import VersionLineage
from pipelines.errors import ConfigError
from pipelines.monitoring.served import (
    LEARNABLE_ROWS,
    NO_BASELINE,
    NO_MORE,
    NONE_BEFORE,
    Alternatives,
    Lesson,
    Scores,
    ServedVersion,
)
from pipelines.paths import reference_uri, version_uri
from pipelines.problem import Problem
from pipelines.profiles.profile import KEPT_PARTITIONS, Profiles, Reference, from_rows
from pipelines.release.assign import champions_predictions
from pipelines.release.versions import (
    learnt_by,
    load_version,
    measured_run,
    require_new,
    threshold_of,
    version_lineage,
    version_problem,
)

if TYPE_CHECKING:
    import pyarrow.dataset as ds

    from pipelines.metrics.scored import Scored
    from pipelines.monitoring.detect.detection import LabelledPartition
    from pipelines.monitoring.estimate.held_out import HeldOut
    from pipelines.monitoring.estimate.realised import Realised

MEASURED_ROWS = 20_000  # of each labelled partition, and of each side whose losses are compared, at most
EXPLAINED_ROWS = 4_000  # of each side whose scores are compared


class Past(ServedVersion):
    """What one version did, as the store and the registry tell it."""

    def __init__(self, version: str, labels_in: Judgeable) -> None:
        self.version, self.labels_in = version, labels_in
        self.problem = labels_in.problem

    @cached_property
    def trained_problem(self) -> Problem:
        return version_problem(self.problem, self.version)

    @cached_property
    def reference(self) -> Reference:
        return reference_of(self.problem, self.version)

    @cached_property
    def lineage(self) -> VersionLineage:
        return version_lineage(self.problem, self.version)

    @property
    def candidate(self) -> str:
        return self.lineage["candidate"]

    @property
    def as_of(self) -> str:
        return self.lineage["partition"]

    @property
    def trained_until(self) -> str:
        return self.lineage["trained_until"]

    @cached_property
    def lessons(self) -> list[Lesson]:
        return [
            Lesson(lineage["partition"], tuple(_taught(lineage))) for lineage in taught_by(self.problem, self.lineage)
        ]

    @cached_property
    def learnt(self) -> frozenset[str]:
        return frozenset(learnt_by(self.problem, self.version))

    @cached_property
    def held(self) -> frozenset[str]:
        return frozenset(quarantine.held(self.problem))

    @property
    def ingested(self) -> list[str]:
        return store.partition_keys(self.problem, "events")

    @property
    def featured(self) -> list[str]:
        return store.partition_keys(self.problem, "features")

    @property
    def predicted(self) -> list[str]:
        return store.partition_keys(self.problem, "predictions")

    def labelled_counts(self) -> dict[str, int]:
        events, labels = store.dataset(self.problem, "events"), store.dataset(self.problem, "labels")
        return labelled_counts(self.problem, events, labels, self.problem.partitions.end(self.partition))

    def learnable_rows(self, keys: Sequence[str]) -> pa.Table:
        return learnable_rows(self.problem, self.partition, keys)

    def scorers(self, keys: Sequence[str]) -> list[tuple[ServedVersion, list[str]]]:
        if not keys:
            return []
        scored = champions_predictions(self.problem).filter(sql.is_among("partition", keys))
        query = "SELECT partition, min(model_version) AS version FROM p GROUP BY 1 ORDER BY 1"
        by_partition = sql.query(query, {"p": scored}).to_pylist()
        return [
            (self if version == self.version else Past(version, self.labels_in), [row["partition"] for row in rows])
            for version, rows in groupby(by_partition, key=lambda row: str(row["version"]))
        ]

    def realised(self, keys: Sequence[str]) -> list[Realised]:
        from pipelines.monitoring.estimate.realised import realised

        problem = self.problem
        predictions, labels = champions_predictions(problem), store.dataset(problem, "labels")
        threshold, moment = threshold_of(problem, self.version), problem.partitions.end(self.partition)
        return realised(self.trained_problem, predictions, labels, keys, self.version, threshold, moment)

    def alternatives(self, newest: str) -> Alternatives | str:
        from pipelines import tracking

        problem, trained_problem = self.problem, self.trained_problem
        champion, previous = tracking.serving(problem), tracking.previous(problem)
        if trained_problem.feature_set != problem.feature_set or str(champion.version) != self.version:
            return NO_MORE
        # Of rows that what serves has learnt from, its tested twin says how good it is.
        twin = measured_run(problem, self.version) if newest in self.learnt else None
        others: dict[Way, Scores] = {}
        unmeasured: dict[Way, str] = {}
        if previous is None or previous.version == champion.version:
            unmeasured[Action.ROLL_BACK] = NONE_BEFORE
        elif version_problem(problem, str(previous.version)).feature_set != problem.feature_set:
            unmeasured[Action.ROLL_BACK] = "the version before has other features"
        else:
            others[Action.ROLL_BACK] = load_version(problem, str(previous.version), previous.run_id).scores
        is_fallback = champion.tags.get("kind") == "fallback"
        baseline = None if is_fallback else _baseline(trained_problem, str(champion.run_id))
        if baseline is None:
            unmeasured[Action.FALL_BACK] = NO_BASELINE
        else:
            others[Action.FALL_BACK] = load_version(problem, self.version, baseline).scores
        model = load_version(problem, self.version, twin or champion.run_id)
        return Alternatives(model.scores, others, unmeasured)

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
        keys = [key for key in self.labels_in.among(self.predicted) if key not in self.learnt]
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
            rows, truth = self.measured_rows(keys, [], {key: {key} for key in keys})
            parts = np.asarray(rows["partition"].to_pylist())
            turned_out += [
                performance(truth.take(parts == key)).at(str(key), is_held_out=False) for key in np.unique(parts)
            ]
        return sorted(turned_out, key=lambda part: part.partition)

    def measured_rows(
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
        sizes = {key: sum(counts.get(other, 0) for other in together[key]) or 1 for key in keys}
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
        truth = scored(
            trained_problem,
            rows["label"].to_numpy(),
            scores_of(trained_problem, rows),
            threshold=self.reference.threshold,
        )
        return rows, truth

    def held_out(self) -> HeldOut | None:
        return held_out_of(self.problem, self.trained_problem, self.version)

    def compared(
        self, before: Sequence[str], after: Sequence[str], features: Sequence[str]
    ) -> tuple[pa.Table, Scored, np.ndarray[Any, Any], bool]:
        """Labelled rows of two sides, held-out ones among the earlier; whether each is of the later side; and whether
        held-out ones are there."""
        keys = [*before, *after]
        together = {key: set(before if key in before else after) for key in keys}
        rows, truth = self.measured_rows(keys, features, together)
        is_after = np.isin(np.asarray(rows["partition"].to_pylist(), dtype=str), np.asarray(after, dtype=str))
        held_out = self.held_out()
        names = ["partition", "event_time", *features]
        if held_out is None:
            return rows.select(names), truth, is_after, False
        more = held_out.scored
        both = pa.concat_tables([held_out.rows.select(names), rows.select(names)], promote_options="permissive")
        joined = replace(
            truth,
            labels=np.concatenate([more.labels, truth.labels]),
            scores=np.concatenate([more.scores, truth.scores]),
            weights=np.ones(both.num_rows),
        )
        return both, joined, np.concatenate([np.zeros(len(more.labels), bool), is_after]), True

    def explained_rows(self, before: Sequence[str], after: Sequence[str]) -> tuple[pa.Table, np.ndarray[Any, Any]]:
        """A sample of the feature rows of two sides, 4,000 of each, by hash of the key; which are of the later."""
        features = store.dataset(self.trained_problem, "features").filter(sql.is_among("partition", [*before, *after]))
        counts = self._counts(features)
        sizes = {key: sum(counts.get(other, 0) for other in side) or 1 for side in (before, after) for key in side}
        rows = sql.query(
            f"SELECT * FROM f WHERE {sql.thinned(self.trained_problem.key, sizes, EXPLAINED_ROWS)} "
            f"ORDER BY event_time, {sql.quote(self.trained_problem.key)}",
            {"f": features},
        )
        return rows, np.isin(np.asarray(rows["partition"].to_pylist(), dtype=str), np.asarray(after, dtype=str))

    def _predictions(self, keys: Sequence[str]) -> ds.Dataset:
        wanted = sql.is_among("partition", keys) & (pc.field("model_version") == self.version)
        return champions_predictions(self.problem).filter(wanted)

    def _counts(self, rows: ds.Dataset) -> dict[str, int]:
        counted = sql.query("SELECT partition, count(*) AS rows FROM t GROUP BY partition", {"t": rows})
        return dict(zip(counted["partition"].to_pylist(), counted["rows"].to_pylist(), strict=True))


def reference_of(problem: Problem, version: str) -> Reference:
    """What monitoring holds a version's partitions against."""
    return Reference.model_validate(store.read_json(reference_uri(problem, version))["reference"])


def held_out_of(problem: Problem, trained_problem: Problem, version: str) -> HeldOut | None:
    """The test rows that went with a version; None of one from before there were any."""
    from pipelines.monitoring.estimate.held_out import from_parquet

    uri = version_uri(problem, version, "held_out.parquet")
    content = store.find_bytes(uri)
    return None if content is None else from_parquet(trained_problem, content)


def learnable_rows(problem: Problem, partition: str, keys: Sequence[str], most: int = LEARNABLE_ROWS) -> pa.Table:
    """Rows of some partitions with features, `label` as known at the end of `partition`, and `weight` 1, in time's
    order; a part of each partition, by a hash of the key, where they are more than `most`."""
    key, as_of = sql.quote(problem.key), problem.partitions.end(partition)
    wanted = sql.is_among("partition", keys)
    features = store.dataset(problem, "features").filter(wanted)
    events, labels = store.dataset(problem, "events"), store.dataset(problem, "labels")
    predicted = targets(events.filter(wanted), as_of)
    with_labels = labelled(problem, predicted, events, labels, as_of, dict.fromkeys(keys, "train"))
    with_labels = with_labels.filter(pc.is_valid(with_labels["label"]))
    counted = sql.query("SELECT partition, count(*) AS rows FROM l GROUP BY 1", {"l": with_labels}).to_pylist()
    counts = {row["partition"]: row["rows"] for row in counted}
    if not counts:
        return with_labels.slice(0, 0)
    chosen = sql.thinned(problem.key, counts, max(most // len(counts), 1))
    return sql.query(
        f"""SELECT f.*, {label_number(problem, "l.label")} AS label, CAST(1 AS DOUBLE) AS weight
            FROM f JOIN (SELECT {key}, partition, label FROM l WHERE {chosen}) AS l USING ({key}, partition)
            ORDER BY f.event_time, f.{key}""",
        {"f": features, "l": with_labels},
    )


def taught_by(problem: Problem, lineage: VersionLineage) -> list[VersionLineage]:
    """Lineages of the trainings that taught a version: from scratch first, then each time that it was continued."""
    chain = [] if lineage.get("how") == "recalibrate" else [lineage]
    walked: set[str] = set()
    while lineage.get("how") in ("continue", "recalibrate"):
        lineage = version_lineage(problem, require_new(walked, str(lineage["parent"])))
        chain = chain if lineage.get("how") == "recalibrate" else [lineage, *chain]
    return chain


def _taught(lineage: VersionLineage) -> list[str]:
    """Partitions that the training behind a lineage taught what serves."""
    refit = lineage.get("refit")
    return (refit["rows"] if refit else lineage["splits"]["train"])["partitions"]


def _baseline(trained_problem: Problem, run_id: str) -> str | None:
    """MLflow run of the best baseline of the champion's training; None: none could serve."""
    from pipelines import tracking
    from pipelines.release.switch import baseline_metrics, best_baseline

    evaluation = tracking.run_evaluation(run_id)
    try:
        return evaluation["baselines"][best_baseline(trained_problem, baseline_metrics(evaluation))]["run_id"]
    except ConfigError:
        return None


def past(version: str, labels_in: Judgeable) -> Past:
    return Past(version, labels_in)
