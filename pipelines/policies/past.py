"""A problem's past in memory: rows with features and labels, and the models that could have served, each fitted once.

Nothing is registered and no service is asked. What is fitted is kept under staging/policies/ in the store, so that a
second replay fits nothing.
"""

from __future__ import annotations

import hashlib
import io
import json
import time
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property, lru_cache
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from pipelines import sql, store
from pipelines.artifacts import table_schema
from pipelines.asof.as_known import targets
from pipelines.dataset.label import label_number, labelled, mature, pooled, splits
from pipelines.errors import DataError
from pipelines.metrics.bootstrap import blocks_of
from pipelines.metrics.scored import Scored, scored
from pipelines.problem import Problem
from pipelines.training.model import Model

MOST_ROWS = 500_000  # of all partitions together: they are held in memory
KEPT_MODELS = 4  # in memory; others are fitted again where something goes on from them


@dataclass(frozen=True)
class Recipe:
    """How a model is made: from what was known at the end of partition `as_of`.

    how: scratch; continue and recalibrate go on from `base`; baseline is the first of training.baselines. held:
    partitions in quarantine, of which nothing is learnt.
    """

    as_of: str
    how: Literal["scratch", "continue", "recalibrate", "baseline"] = "scratch"
    window_from: str | None = None
    base: Recipe | None = None
    held: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Stands for the recipe in file names, and as a version in readings."""
        whole = f"{self.as_of}-{self.how}"
        more = [self.window_from, self.base.name if self.base else None, self.held]
        return whole + (f"-{hashlib.sha256(repr(more).encode()).hexdigest()[:8]}" if any(more) else "")

    @property
    def learnt(self) -> str:
        """Partition at whose end it last learnt: a calibration teaches it nothing."""
        return self.base.learnt if self.how == "recalibrate" and self.base else self.as_of

    @property
    def began(self) -> str:
        """Partition at whose end it was trained from scratch."""
        return self.base.began if self.base else self.as_of


@dataclass(frozen=True, eq=False)
class Fitted:
    """A model's scores on every row of the past, its threshold, and the CPU seconds that it took to fit."""

    scores: np.ndarray
    threshold: float
    cpu_s: float


class Past:
    """Rows of all ingested partitions, features as they were known at each event's cut-off, labels as known by now.

    Of more than 500,000 rows a part is taken, by a hash of the key. Labels come to a policy's notice only once their
    partition is mature; corrections of labels after that are not played.
    """

    def __init__(self, problem: Problem, candidate: str) -> None:
        self.problem, self.candidate = problem, candidate
        self.partitions = store.partition_keys(problem, "events")
        if not self.partitions:
            raise DataError(
                "no events have been ingested", where=f"problem {problem.name}", cure=f"run {problem.name}.ingest first"
            )
        versions = [store.table_version(problem, name) for name in ("events", "labels")]
        made_of = json.dumps([_settings(problem), candidate, versions, self.partitions])
        self.uri = store.store_uri(
            problem.name, "staging", "policies", hashlib.sha256(made_of.encode()).hexdigest()[:12]
        )
        self.model = lru_cache(KEPT_MODELS)(self._model)
        self.fitted = lru_cache(None)(self._fitted)

    @cached_property
    def rows(self) -> pa.Table:
        """key, partition, event_time, features, label (null: none came), weight; in time's order."""
        uri = f"{self.uri}/rows"
        if not store.exists(f"{uri}.done.json"):
            rows = self._read()
            store.stage(uri, rows, rows.schema)
            store.write_json(f"{uri}.done.json", {"rows": rows.num_rows})
        return store.staged(uri).to_table().combine_chunks()

    @cached_property
    def places(self) -> dict[str, np.ndarray]:
        """Positions of each partition's rows."""
        codes = self.rows["partition"].combine_chunks().dictionary_encode()
        names, indices = codes.dictionary.to_pylist(), codes.indices.to_numpy()
        order = np.argsort(indices, kind="stable")
        ends = np.searchsorted(indices[order], np.arange(len(names) + 1))
        return {name: order[ends[code] : ends[code + 1]] for code, name in enumerate(names)}

    @cached_property
    def is_labelled(self) -> np.ndarray:
        return np.asarray(self.rows["label"].is_valid().to_numpy())

    @cached_property
    def counts(self) -> dict[str, int]:
        """Labelled rows of each partition."""
        return {key: len(self.labelled_at([key])) for key in self.partitions}

    @cached_property
    def blocks(self) -> np.ndarray:
        return blocks_of(self.problem, self.rows)

    def labelled_at(self, keys: list[str]) -> np.ndarray:
        """Positions of the labelled rows of some partitions."""
        found = [self.places[key] for key in keys if key in self.places]
        places = np.sort(np.concatenate(found)) if found else np.zeros(0, np.int64)
        return np.asarray(places[self.is_labelled[places]])

    def take(self, places: np.ndarray) -> pa.Table:
        return self.rows.take(pa.array(places))

    def truth(self, recipe: Recipe, keys: list[str]) -> tuple[Scored, np.ndarray]:
        """What a model gave the labelled rows of some partitions, and their blocks."""
        at, fitted = self.labelled_at(keys), self.fitted(recipe)
        labels, weights = (self.rows[name].take(pa.array(at)).to_numpy() for name in ("label", "weight"))
        return scored(self.problem, labels, fitted.scores[at], weights, fitted.threshold), self.blocks[at]

    def split(self, as_of: str, window_from: str | None = None, held: tuple[str, ...] = ()) -> dict[str, list[str]]:
        """Partitions of each split of a training at the end of `as_of`.

        Raises:
            DataError: too few partitions.
        """
        found: dict[str, list[str]] = {"train": [], "validation": [], "test": []}
        sizes = pooled(self.problem, as_of, self.partitions, self.counts, window_from, held)
        planned = splits(self.problem, as_of, self.partitions, window_from, held, are_cut=False, sizes=sizes)
        for key, name in planned.items():
            found.setdefault(name, []).append(key)
        return found

    def mature(self, partition: str) -> list[str]:
        return mature(self.problem, partition, self.partitions)

    def _read(self) -> pa.Table:
        from pipelines.features.featurize import featurize

        problem, key = self.problem, sql.quote(self.problem.key)
        known = problem.partitions.end(self.partitions[-1]) + timedelta(days=problem.labels.mature_after_days + 1)
        events, labels = store.dataset(problem, "events"), store.dataset(problem, "labels")
        wanted = targets(events, known)
        counted = sql.query("SELECT partition, count(*) AS rows FROM e GROUP BY 1", {"e": wanted}).to_pylist()
        counts = {one["partition"]: one["rows"] for one in counted}
        chosen = sql.query(
            f"SELECT * FROM e WHERE {sql.thinned(problem.key, counts, max(MOST_ROWS // len(counts), 1))}", {"e": wanted}
        )
        schema = table_schema(problem, "features")
        batches = (batch.cast(schema) for batch in featurize(problem, chosen, events, labels))
        features = pa.Table.from_batches(batches, schema=schema)
        # A label counts where a training would take it; the splits are cut later, so here every partition is `train`.
        with_labels = labelled(problem, chosen, events, labels, known, dict.fromkeys(self.partitions, "train"))
        return sql.query(
            f"""SELECT f.*, {label_number(problem, "l.label")} AS label, CAST(1 AS DOUBLE) AS weight
                FROM f LEFT JOIN l USING ({key}, partition) ORDER BY f.event_time, f.{key}""",
            {"f": features, "l": with_labels.select([problem.key, "partition", "label"])},
        )

    def _fitted(self, recipe: Recipe) -> Fitted:
        uri = f"{self.uri}/models/{recipe.name}"
        told = store.find_json(f"{uri}.json")
        if told is None:
            if recipe.base:
                self.model(recipe.base)  # its own fit is not part of what this one takes
            start = time.process_time()
            model = self.model(recipe)
            told = {"cpu_s": time.process_time() - start, "threshold": model.threshold}
            scores = io.BytesIO()
            np.save(scores, np.asarray(model.scores(self.rows), np.float32), allow_pickle=False)
            store.write_bytes(f"{uri}.npy", scores.getvalue())
            store.write_json(f"{uri}.json", told)
        found = np.load(io.BytesIO(store.read_bytes(f"{uri}.npy")), allow_pickle=False).astype(np.float64)
        return Fitted(_whole(self.problem, found), told["threshold"], told["cpu_s"])

    def _model(self, recipe: Recipe) -> Model:
        from pipelines.training.fit import fit
        from pipelines.training.update import continued, recalibrated

        parts = self.split(recipe.as_of, recipe.window_from, recipe.held)
        if recipe.base is None:
            name = self.problem.training.baselines[0] if recipe.how == "baseline" else self.candidate
            return fit(self.problem, name, self._part(parts["train"]), self._part(parts["validation"]))
        if recipe.how == "recalibrate":
            return recalibrated(self.problem, self.model(recipe.base), self._part(self.since(recipe)))
        return continued(
            self.problem,
            self.candidate,
            self.model(recipe.base),
            self._part(self.since(recipe)),
            self._part(parts["validation"]),
        )

    def since(self, recipe: Recipe) -> list[str]:
        """Partitions that a model learns from when it goes on from its base: those that the base did not learn from."""
        parts = self.split(recipe.as_of, recipe.window_from, recipe.held)
        taught = self.taught(recipe.base) if recipe.base else []
        keys = parts["train"] + (parts["validation"] if recipe.how == "recalibrate" else [])
        return [key for key in keys if key not in taught]

    def taught(self, recipe: Recipe) -> list[str]:
        """Partitions that a model has learnt from, but for its calibration."""
        if recipe.how == "recalibrate" and recipe.base:
            return self.taught(recipe.base)
        own = self.split(recipe.as_of, recipe.window_from, recipe.held)["train"]
        return sorted({*own, *self.taught(recipe.base)}) if recipe.base else own

    def chain(self, recipe: Recipe) -> list[list[str]]:
        """Partitions that a model was trained from scratch on, and those of each time that it was continued."""
        if recipe.base is None:
            return [self.taught(recipe)]
        return self.chain(recipe.base) + ([self.since(recipe)] if recipe.how == "continue" else [])

    def _part(self, keys: list[str]) -> pa.Table:
        return self.take(self.labelled_at(keys))


def _settings(problem: Problem) -> dict[str, Any]:
    """What decides over rows, models and readings; a policy does not."""
    return problem.model_dump(
        mode="json",
        include={
            "key",
            "partitions",
            "columns",
            "labels",
            "dataset",
            "features",
            "training",
            "costs",
            "evaluation",
            "gate",
        },
    )


def _whole(problem: Problem, scores: np.ndarray) -> np.ndarray:
    """float32 lost a little of what adds up to 1."""
    if problem.task == "regression":
        return scores
    clipped = np.clip(scores, 0, 1)
    return clipped if clipped.ndim == 1 else np.asarray(clipped / clipped.sum(axis=1, keepdims=True))


def column(rows: pa.Table, name: str, values: np.ndarray) -> pa.Table:
    """The rows with one more column."""
    return rows.append_column(name, pa.array(values, pa.float64()))
