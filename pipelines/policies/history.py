"""A history in memory: rows with features and labels, and the models that could have served, each fitted once.

Nothing is registered and no service is asked. What is fitted is kept under staging/policies/ in the store, so that a
second replay fits nothing.
"""

from __future__ import annotations

import hashlib
import io
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, timedelta
from functools import cached_property, lru_cache
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import JsonValue

from pipelines import sql, store
from pipelines.artifacts import table_schema
from pipelines.asof.as_known import targets
from pipelines.config import How
from pipelines.dataset.label import BY_THEMSELVES, all_mature, label_number, labelled, moments, pooled, splits
from pipelines.dataset.waiting import Judgeable, waiting
from pipelines.errors import ConfigError, DataError
from pipelines.metrics.bootstrap import blocks_of
from pipelines.metrics.metrics import measure
from pipelines.metrics.scored import Scored, scored
from pipelines.monitoring.served import LEARNABLE_ROWS, Lesson
from pipelines.problem import Problem
from pipelines.training.checkpoint import NoCheckpoint
from pipelines.training.model import Model

FORMAT = 5  # of what is kept; another one is not read
MOST_ROWS = 500_000  # of all partitions together: they are held in memory
KEPT_MODELS = 4  # of each kind, in memory; others are fitted again where something goes on from them
PLACE = "_place"  # column: position of a row in the history
KNOWN = "label_known_time"
SOURCE = "label_source"


@dataclass(frozen=True)
class Recipe:
    """How a model is made: from what was known at the end of partition `as_of`.

    how: scratch; continue and recalibrate go on from `base`; baseline is `baseline`, as it is fitted beside what is
    trained at that time. held: partitions in quarantine, of which nothing is learnt. after: last partition before the
    test split of the champion of then.
    """

    as_of: str
    how: How | Literal["baseline"] = "scratch"
    window_from: str | None = None
    base: Recipe | None = None
    held: tuple[str, ...] = ()
    after: str | None = None
    baseline: str | None = None

    @property
    def name(self) -> str:
        """Stands for the recipe in file names, and as a version in readings."""
        whole = f"{self.as_of}-{self.how}"
        more = [self.window_from, self.base.name if self.base else None, self.held, self.after, self.baseline]
        return whole + (f"-{hashlib.sha256(repr(more).encode()).hexdigest()[:8]}" if any(more) else "")


@dataclass(frozen=True)
class Plan:
    """What a training learns from, and is measured on."""

    split: dict[str, str]
    """Of each partition."""

    @property
    def train(self) -> list[str]:
        return self.of("train")

    @property
    def validation(self) -> list[str]:
        return self.of("validation")

    @property
    def test(self) -> list[str]:
        return self.of("test")

    @property
    def keys(self) -> list[str]:
        """Partitions of which the training set has rows."""
        return [*self.train, *self.validation, *self.test]

    def of(self, name: str) -> list[str]:
        return [key for key, split in self.split.items() if split == name]


@dataclass(frozen=True, eq=False)
class Fitted:
    """A model's scores on every row of the history, its threshold, and the CPU seconds that it took to fit."""

    scores: np.ndarray
    threshold: float
    cpu_s: float

    def of(self, rows: pa.Table) -> np.ndarray:
        """Scores of some rows of the history."""
        return np.asarray(self.scores[rows[PLACE].to_numpy()])


class History:
    """Rows of all ingested partitions, features as they were known at each event's cut-off, labels as known by now.

    Of more than 500,000 rows a part is taken, by a hash of the key. A label counts from when it was known on;
    corrections of labels are not played.
    """

    def __init__(self, problem: Problem, candidate: str) -> None:
        self.problem, self.candidate = problem, candidate
        self.partitions = store.partition_keys(problem, "events")
        if not self.partitions:
            raise DataError(
                "no events have been ingested", where=f"problem {problem.name}", cure=f"run {problem.name}.ingest first"
            )
        versions = [store.table_version(problem, name) for name in ("events", "labels")]
        made_of = json.dumps([FORMAT, _settings(problem), candidate, versions, self.partitions])
        self.uri = store.store_uri(
            problem.name, "staging", "policies", hashlib.sha256(made_of.encode()).hexdigest()[:12]
        )
        self.labels_in = lru_cache(None)(self._labels_in)
        self.counts = lru_cache(None)(self._counts)
        self.plan = lru_cache(None)(self._plan)
        self.tested = lru_cache(KEPT_MODELS)(self._tested)
        self.serving = lru_cache(KEPT_MODELS)(self._serving)
        self._scores_of = lru_cache(None)(self._fitted)

    @property
    def no_checkpoint(self) -> NoCheckpoint:
        """A fit comes out as the train DAG's does."""
        return NoCheckpoint(self.problem.training.rounds_between_states)

    @cached_property
    def rows(self) -> pa.Table:
        """key, partition, event_time, features, label (null: none came), when and whence that came, weight, place; in
        time's order."""
        uri = f"{self.uri}/rows"
        if not store.exists(f"{uri}.done.json"):
            rows = self._read()
            store.stage(uri, rows, rows.schema)
            store.write_json(f"{uri}.done.json", {"rows": rows.num_rows})
        rows = store.staged(uri).to_table().combine_chunks()
        return rows.append_column(PLACE, pa.array(np.arange(rows.num_rows)))

    @cached_property
    def places(self) -> dict[str, np.ndarray]:
        """Positions of each partition's rows."""
        codes = self.rows["partition"].combine_chunks().dictionary_encode()
        names, indices = codes.dictionary.to_pylist(), codes.indices.to_numpy()
        order = np.argsort(indices, kind="stable")
        ends = np.searchsorted(indices[order], np.arange(len(names) + 1))
        return {name: order[ends[code] : ends[code + 1]] for code, name in enumerate(names)}

    @cached_property
    def known(self) -> np.ndarray:
        """When each row's label was known; NaT: it has none."""
        times = pc.if_else(self.rows["label"].is_valid(), self.rows[KNOWN], None)
        return np.asarray(times.cast(pa.timestamp("us")).to_numpy())

    @cached_property
    def blocks(self) -> np.ndarray:
        return blocks_of(self.problem, self.rows)

    def labelled_at(self, keys: Sequence[str], as_of: str | None) -> np.ndarray:
        """Positions of the rows of some partitions that have a label at the end of partition `as_of`; None: by now."""
        parts = [self.places[key] for key in keys if key in self.places]
        places = np.sort(np.concatenate(parts)) if parts else np.zeros(0, np.int64)
        since = self.known[places]
        is_known = ~np.isnat(since)
        if as_of is not None:
            end = self.problem.partitions.end(as_of).astimezone(UTC).replace(tzinfo=None)
            is_known &= since < np.datetime64(end, "us")
        return np.asarray(places[is_known])

    def take(self, places: np.ndarray) -> pa.Table:
        return self.rows.take(pa.array(places))

    def labelled_rows(self, keys: Sequence[str], as_of: str) -> pa.Table:
        return self.take(self.labelled_at(keys, as_of))

    def split_rows(self, recipe: Recipe, name: Literal["train", "validation", "test"]) -> pa.Table:
        """Rows of a split of a training, without those that fall into the embargo before the next split."""
        plan = self.plan(recipe)
        at = self.labelled_at(plan.of(name), recipe.as_of)
        rows, limits = self.take(at), moments(self.problem, plan.split)
        limits = limits.filter(pc.equal(limits["split"], name))
        cut, deadline = limits["cut"][0], limits["deadline"][0]
        if cut.is_valid:
            rows = rows.filter(pc.less(rows["event_time"], cut))
        if deadline.is_valid:
            came_late = pc.greater_equal(rows[KNOWN], deadline)
            by_itself = pc.is_in(rows[SOURCE], value_set=pa.array(BY_THEMSELVES, pa.string()))
            rows = rows.filter(pc.invert(pc.and_(came_late, by_itself)))
        return rows

    def learnable_rows(self, keys: Sequence[str], as_of: str) -> pa.Table:
        """The labelled rows of some partitions; of more than 60,000 as many of each, drawn as the monitor draws."""
        rows = self.labelled_rows(keys, as_of)
        counts = {key: count for key, count in self.counts(as_of).items() if key in keys and count}
        most = max(LEARNABLE_ROWS // max(len(counts), 1), 1)
        if max(counts.values(), default=0) <= most:
            return rows
        chosen = sql.thinned(self.problem.key, counts, most)
        return sql.query(f"SELECT * FROM r WHERE {chosen} ORDER BY {PLACE}", {"r": rows})

    def truth(
        self, recipe: Recipe, keys: Sequence[str], as_of: str | None, is_tested: bool = False
    ) -> tuple[Scored, np.ndarray]:
        """What a model gave the rows of some partitions that have a label at the end of partition `as_of`, and their
        blocks; see `labelled_at` and `fitted`."""
        at, fitted = self.labelled_at(keys, as_of), self.fitted(recipe, is_tested)
        labels, weights = (self.rows[name].take(pa.array(at)).to_numpy() for name in ("label", "weight"))
        return scored(self.problem, labels, fitted.scores[at], weights, fitted.threshold), self.blocks[at]

    def mature(self, partition: str) -> list[str]:
        """Partitions whose labels are in at the end of `partition`."""
        return self.labels_in(partition).among(self.partitions)

    def learnt(self, recipe: Recipe) -> frozenset[str]:
        """Partitions that what serves was fitted or calibrated on."""
        return frozenset({*self.taught(recipe), *self.fitted_on(recipe)})

    def taught(self, recipe: Recipe, is_tested: bool = False) -> list[str]:
        """Partitions that a model's estimator has learnt from; `is_tested`: that of the model which the gate measured,
        not of the one that was fitted again and serves."""
        before = self.taught(recipe.base, is_tested) if recipe.base else []
        if recipe.how == "recalibrate":
            return before
        own = {*self.plan(recipe).train} if is_tested else {*self.plan(recipe).train, *self.fitted_on(recipe)}
        return sorted(own.union(before))

    def fitted_on(self, recipe: Recipe) -> list[str]:
        """Partitions that the training of what serves learnt from; where it goes on from a base, the newer ones."""
        plan = self.plan(recipe)
        if not self.is_refitted(recipe):
            return plan.train + (plan.validation if recipe.how == "recalibrate" else [])
        late = self.labels_in(recipe.as_of).late
        keys = all_mature(self.problem, recipe.as_of, self.partitions, recipe.window_from, {*recipe.held, *late})
        after = max(self.taught(recipe.base)) if recipe.base else ""
        return [key for key in keys if key > after]

    def is_refitted(self, recipe: Recipe) -> bool:
        """Whether another model serves than the one that the gate measured."""
        return self.problem.training.refit and recipe.how != "baseline"

    def lessons(self, recipe: Recipe) -> list[Lesson]:
        """Trainings that taught it: from scratch first, then each by which it was continued."""
        before = self.lessons(recipe.base) if recipe.base else []
        if recipe.how == "recalibrate":
            return before
        return [*before, Lesson(recipe.as_of, tuple(self.fitted_on(recipe)))]

    def trained_until(self, recipe: Recipe) -> str:
        """Last partition before its test split."""
        return self.problem.partitions.shift(min(self.plan(recipe).test), -1)

    def baseline(self, recipe: Recipe) -> Recipe | None:
        """The baseline that would serve in the place of a model: the best by training.select_by on its test rows of
        those that were fitted with it; None: there is none that could."""
        from pipelines.release.switch import best_baseline

        if recipe.how == "baseline":
            return None
        test = self.plan(recipe).test
        fitted = self.baselines(recipe)
        metrics = {name: measure(self.truth(baseline, test, recipe.as_of)[0]) for name, baseline in fitted.items()}
        try:
            return fitted[best_baseline(self.problem, metrics)]
        except ConfigError:
            return None

    def baselines(self, recipe: Recipe) -> dict[str, Recipe]:
        """The baselines that are fitted along with a model, by name."""
        begin = self.plan(recipe).train[0] if recipe.base else recipe.window_from
        return {
            name: Recipe(recipe.as_of, "baseline", begin, held=recipe.held, after=recipe.after, baseline=name)
            for name in self.problem.training.baselines
        }

    def fitted(self, recipe: Recipe, is_tested: bool = False) -> Fitted:
        """What serves; `is_tested`: the model that the gate measured, where another one was fitted again and serves."""
        return self._scores_of(recipe, is_tested and self.is_refitted(recipe))

    def _labels_in(self, partition: str) -> Judgeable:
        return Judgeable(self.problem, partition, frozenset(waiting(self.problem, partition, self.partitions)))

    def _counts(self, as_of: str) -> dict[str, int]:
        """Rows of each partition that have a label at the end of partition `as_of`."""
        return {key: len(self.labelled_at([key], as_of)) for key in self.partitions}

    def _plan(self, recipe: Recipe) -> Plan:
        """Raises:
        DataError: too few partitions, or none that is newer than what the base has learnt from.
        ConfigError: a baseline cannot be gone on with.
        """
        problem, held = self.problem, recipe.held
        whole = [key for key in self.partitions if key not in self.labels_in(recipe.as_of).late]
        sizes = pooled(problem, recipe.as_of, whole, self.counts(recipe.as_of), recipe.window_from, held, recipe.after)
        plan = Plan(splits(problem, recipe.as_of, whole, recipe.window_from, held, sizes=sizes))
        if recipe.base is None:
            return plan
        where = f"problem {problem.name}, at the end of {recipe.as_of}"
        if recipe.base.how == "baseline":
            raise ConfigError("a baseline serves, which is not gone on with", where=where, cure="train from scratch")
        until = max(self.taught(recipe.base, is_tested=True))
        new = [key for key in plan.train if key > until]
        if recipe.how == "recalibrate":
            new = new[-problem.training.update.recalibrate_partitions :]
        if not new:
            raise DataError(
                f"the champion has learnt from partitions up to {until}, and of newer ones none may be learnt from yet",
                where=where,
                cure="wait for the labels of the next partitions",
            )
        return Plan(splits(problem, recipe.as_of, whole, min(new), held, sizes=sizes))

    def _read(self) -> pa.Table:
        from pipelines.features.featurize import featurize

        problem, key = self.problem, sql.quote(self.problem.key)
        by_now = problem.partitions.end(self.partitions[-1]) + timedelta(days=problem.labels.mature_after_days + 1)
        events, labels = store.dataset(problem, "events"), store.dataset(problem, "labels")
        wanted = targets(events, by_now)
        counted = sql.query("SELECT partition, count(*) AS rows FROM e GROUP BY 1", {"e": wanted}).to_pylist()
        counts = {row["partition"]: row["rows"] for row in counted}
        chosen = sql.query(
            f"SELECT * FROM e WHERE {sql.thinned(problem.key, counts, max(MOST_ROWS // len(counts), 1))}", {"e": wanted}
        )
        schema = table_schema(problem, "features")
        batches = (batch.cast(schema) for batch in featurize(problem, chosen, events, labels))
        features = pa.Table.from_batches(batches, schema=schema)
        # A label counts where a training would take it; the splits are cut later, so here every partition is `train`.
        with_labels = labelled(problem, chosen, events, labels, by_now, dict.fromkeys(self.partitions, "train"))
        return sql.query(
            f"""SELECT f.*, {label_number(problem, "l.label")} AS label, CAST(1 AS DOUBLE) AS weight,
                    l.{KNOWN}, l.source AS {SOURCE}
                FROM f LEFT JOIN l USING ({key}, partition) ORDER BY f.event_time, f.{key}""",
            {"f": features, "l": with_labels.select([problem.key, "partition", "label", KNOWN, "source"])},
        )

    def _fitted(self, recipe: Recipe, is_tested: bool) -> Fitted:
        uri = f"{self.uri}/models/{recipe.name}{'-tested' if is_tested else ''}"
        model_of = self.tested if is_tested else self.serving
        facts = store.find_json(f"{uri}.json")
        if facts is None:
            if recipe.base:
                model_of(recipe.base)  # its own fit is not part of what this one takes
            start = time.process_time()
            model = model_of(recipe)
            facts = {"cpu_s": time.process_time() - start, "threshold": model.threshold}
            scores = io.BytesIO()
            np.save(scores, np.asarray(model.scores(self.rows), np.float64), allow_pickle=False)
            store.write_bytes(f"{uri}.npy", scores.getvalue())
            store.write_json(f"{uri}.json", facts)
        kept = np.load(io.BytesIO(store.read_bytes(f"{uri}.npy")), allow_pickle=False)
        return Fitted(kept, facts["threshold"], facts["cpu_s"])

    def _tested(self, recipe: Recipe) -> Model:
        """What the gate measures: validation rows stop it, and nothing of its test split is in it."""
        from pipelines.training.fit import fit
        from pipelines.training.update import updated

        train, validation = self.split_rows(recipe, "train"), self.split_rows(recipe, "validation")
        if recipe.base is None:
            name = recipe.baseline or self.candidate
            return fit(self.problem, name, train, validation, checkpoint=self.no_checkpoint)
        return updated(self.problem, self.candidate, recipe.how, self.tested(recipe.base), train, validation)

    def _serving(self, recipe: Recipe) -> Model:
        """What serves: fitted again on all partitions that may be learnt from, unless training.refit is off."""
        from pipelines.training.refit import refitted, updated_again

        tested = self.tested(recipe)
        if not self.is_refitted(recipe):
            return tested
        rows = self.labelled_rows(self.fitted_on(recipe), recipe.as_of)
        if recipe.base is None:
            return refitted(self.problem, self.candidate, tested, rows, {}, self.no_checkpoint)
        bases = self.tested(recipe.base), self.serving(recipe.base)
        return updated_again(self.problem, self.candidate, recipe.how, tested, *bases, rows)


def _settings(problem: Problem) -> dict[str, JsonValue]:
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
