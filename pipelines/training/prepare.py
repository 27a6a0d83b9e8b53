"""Feature rows to the float32 matrix that models take; the same object for training, batches and single rows."""

from __future__ import annotations

from typing import Any, TypedDict

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from sklearn.base import BaseEstimator, TransformerMixin

from pipelines.config import Preprocessing, TextEncoding, VectorKind
from pipelines.errors import DataError, SchemaError
from pipelines.training import categories, embeddings, fit_rows, numeric, texts
from pipelines.training.categories import CategoryPlan
from pipelines.training.embeddings import EmbeddingPlan
from pipelines.training.numeric import NumberPlan
from pipelines.training.texts import TextPlan

WANTED = {"number": "numbers", "text": "texts", "embedding": "lists of numbers"}


class Place(TypedDict):
    """Which columns of the matrix a feature's are: `width` of them, from `at` on; and whether gaps drop a row."""

    feature: str
    at: int
    width: int
    drops_rows: bool


class PlacedCategory(Place, CategoryPlan):
    """A category and its columns."""


class PlacedNumber(Place, NumberPlan):
    """A number and its columns."""


class PlacedText(Place, TextPlan):
    """A text and its columns."""


class PlacedEmbedding(Place, EmbeddingPlan):
    """An embedding and its columns."""


Plan = PlacedCategory | PlacedNumber | PlacedText | PlacedEmbedding
FeaturePlan = CategoryPlan | NumberPlan | TextPlan | EmbeddingPlan


class Preparation(TransformerMixin, BaseEstimator, auto_wrap_output_keys=None):  # type: ignore[misc,call-arg]
    """Arrow table or pandas frame, any column order -> float32 matrix (rows, len(names_)), features in their order.

    `settings` are `Preprocessing.model_dump(mode="json")`. What it knows of the data it learns in `fit`, from rows
    that have a weight. As it is by default (native) a number stays one and a category becomes its rank among those
    of training, sorted; one that training never saw becomes NaN, as does a missing or an infinite value.

    Attributes, plain values alone, so that a file of them runs no code:
        names_, origin_, is_category_: of each column its name, its feature, whether it is a category's native code
        dropped_: features that say nothing, and why
        categories_: of each category (none of a hashed one) {"known": [...], "rare": [...]}
        terms_: of each text the terms that it is known by, one a line (none of a hashed one)
        plans_: of each feature that is left, how it is prepared

    Raises (all methods):
        SchemaError: a column is missing, or is no number. Columns are found by name, so they cannot swap silently.

    >>> rows = pa.table({"n": [1, 2], "c": ["b", "a"]})
    >>> prepare = Preparation(["c", "n"], ["c"], {}, "binary", seed=0).fit(rows)
    >>> prepare.transform(pa.table({"n": [3, None], "c": ["a", "z"]}))
    array([[ 0.,  3.],
           [nan, nan]], dtype=float32)
    >>> prepare.unseen(pa.table({"n": [3, None], "c": ["a", "z"]}))
    {'c': 1}
    """

    vectors: dict[str, VectorKind] | None = None  # of a file from before there were any

    def __init__(
        self,
        features: list[str],
        categorical: list[str],
        settings: dict[str, Any],
        task: str,
        seed: int,
        vectors: dict[str, VectorKind] | None = None,
    ) -> None:
        self.features = features
        self.categorical = categorical
        self.settings = settings
        self.task = task
        self.seed = seed
        self.vectors = vectors

    def fit(self, rows: Any, y: Any = None, weight: Any = None) -> Preparation:
        """Learn from the training rows: a table or frame, or a pyarrow Dataset, which is streamed.

        Of a Dataset, numbers are learnt from 200,000 rows, drawn by the seed, and categories from all; its column
        `weight`, where it has one, is the weight.

        Raises:
            ConfigError: a setting does not go with its feature, or target encoding is asked of a Dataset.
            DataError: no row is left to learn from, or target encoding has no labels.
        """
        settings = Preprocessing.model_validate(self.settings)
        owns = fit_rows.own_settings(settings, self.features, self.categorical, self.vectors or {})
        if isinstance(rows, ds.Dataset):
            self._require(rows.schema.names)
            sample, its_weight, batches = fit_rows.sampled(rows, owns, self.seed)
        else:
            table, given = self._named(rows), _weights(weight, len(rows))
            strict = [name for name, own in owns.items() if own.drops_rows]
            is_used = fit_rows.usable(table.select(strict), given, owns)
            sample, its_weight = table, given
            if not is_used.all():  # a copy of all rows costs as much as learning from them
                sample, its_weight = table.filter(pa.array(is_used)), given[is_used]
            y = None if y is None else np.asarray(y)[is_used]
            batches = sample.to_batches()
        counts = categories.counted(batches, [name for name, own in owns.items() if own.is_category])
        self.dropped_: dict[str, str] = {}
        self.categories_: dict[str, dict[str, list[str]]] = {}
        self.terms_: dict[str, str] = {}
        self.plans_: list[Plan] = []
        self.names_: list[str] = []
        self.origin_: list[str] = []
        self._vocabularies: dict[str, pa.Array] = {}
        for name, own in owns.items():
            plan: FeaturePlan | str
            if own.kind == "text":
                plan = self._fit_text(name, own.text, sample)
            elif own.kind == "embedding":
                plan = embeddings.fit_embedding(sample[name], its_weight, own.scaling)
            elif own.is_category:
                plan = self._fit_category(name, own, settings, sample, counts[name], y, its_weight)
            else:
                values = fit_rows.numbers(sample, name)
                plan = numeric.fit_number(values, its_weight, own.missing, own.scaling, own.discretise, self.seed)
            if isinstance(plan, str):
                self.dropped_[name] = plan
                continue
            if plan["kind"] == "number":
                columns = numeric.number_names(plan, name)
            elif plan["kind"] == "text":
                columns = texts.text_names(plan, name)
            elif plan["kind"] == "embedding":
                columns = embeddings.embedding_names(plan, name)
            else:
                known = self.categories_.get(name, {}).get("known", [])
                columns = categories.category_names(plan, name, known, self.task)
            place = Place(feature=name, at=len(self.names_), width=len(columns), drops_rows=own.drops_rows)
            self.plans_.append(_placed(place, plan))
            self.names_ += columns
            self.origin_ += [name] * len(columns)
        natives = {plan["feature"] for plan in self.plans_ if plan["kind"] == "native"}
        self.is_category_ = [name in natives for name in self.origin_]
        return self

    def fit_transform(self, rows: Any, y: Any = None, weight: Any = None) -> np.ndarray:
        """The matrix of the training rows. Means of the label are cross-fitted: a row's are of other rows' labels."""
        matrix = self.fit(rows, y, weight).transform(rows)
        plans = [plan for plan in self.plans_ if plan["kind"] == "target"]
        if not plans:
            return matrix
        settings, table = Preprocessing.model_validate(self.settings), self._named(rows)
        counting = np.where(self.used(table), _weights(weight, len(table)), 0)
        counting = counting / counting[counting > 0].mean()
        fold = np.random.default_rng(self.seed).permutation(len(table)) % settings.cross_fitting_folds
        for plan in plans:
            positions = categories.codes(plan, table[plan["feature"]], self._vocabulary(plan["feature"]))
            classes = len(categories.means_of(plan)[1]) if self.task == "multiclass" else None
            target = categories.targets(np.asarray(y), classes)
            _columns(matrix, plan)[:] = categories.cross_fitted(
                plan, positions, target, counting, settings.target_smoothing, fold
            )
        return matrix

    def transform(self, rows: Any) -> np.ndarray:
        """float32, shape (rows, len(names_)); a row's does not depend on the others'."""
        table = self._named(rows)
        matrix = np.empty((len(table), len(self.names_)), dtype=np.float32)
        for plan in self.plans_:
            name, out = plan["feature"], _columns(matrix, plan)
            try:
                if plan["kind"] == "number":
                    numeric.write_number(plan, table[name], out)
                elif plan["kind"] == "text":
                    texts.write_text(plan, table[name], self._vocabulary(name), out)
                elif plan["kind"] == "embedding":
                    embeddings.write_embedding(plan, table[name], out)
                else:
                    categories.write_category(plan, table[name], self._vocabulary(name), out)
            except pa.ArrowException as error:
                raise fit_rows.wrong_type(name, table[name], WANTED.get(plan["kind"], "categories")) from error
        return matrix

    def used(self, rows: Any) -> np.ndarray:
        """bool, shape (rows,): False where a number is missing whose setting is to leave such rows out of a fit."""
        return fit_rows.complete(self._named(rows), [plan["feature"] for plan in self.plans_ if plan["drops_rows"]])

    def unseen(self, rows: Any) -> dict[str, int]:
        """Of each category, rows with a value that training did not see. Hashed ones keep no list to tell by."""
        table = self._named(rows)
        counts = {}
        for name in self.categories_:
            values = categories.text(table[name]).drop_null()
            counts[name] = len(values) - pc.sum(pc.is_in(values, value_set=self._vocabulary(name)), min_count=0).as_py()
        return counts

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        return np.asarray(self.names_, dtype=object)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in super().__getstate__().items() if name != "_vocabularies"}

    def _vocabulary(self, name: str) -> pa.Array | None:
        """Its categories, or terms, as Arrow looks them up, made once for all rows to come; none of a hashed one."""
        made = self.__dict__.setdefault("_vocabularies", {})
        if name in made:
            return made[name]
        if name in self.categories_:
            made[name] = pa.array(self.categories_[name]["known"] + self.categories_[name]["rare"], pa.string())
        elif self.__dict__.get("terms_", {}).get(name):
            made[name] = pa.array(self.terms_[name].split("\n"), pa.large_string())
        return made.get(name)

    def _fit_text(self, name: str, encoding: TextEncoding, sample: pa.Table) -> TextPlan | str:
        try:
            fitted = texts.fit_text(sample[name], encoding, self.seed)
        except pa.ArrowException as error:
            raise fit_rows.wrong_type(name, sample[name], "texts") from error
        if isinstance(fitted, str):
            return fitted
        # As one text: a file that lists each of them takes far longer to be read.
        self.terms_[name] = "\n".join(fitted["terms"])
        return fitted["plan"]

    def _fit_category(
        self,
        name: str,
        own: fit_rows.Own,
        settings: Preprocessing,
        sample: pa.Table,
        counts: pa.Table,
        y: np.ndarray | None,
        weight: np.ndarray,
    ) -> CategoryPlan | str:
        encoding = own.encoding
        vocabulary = categories.Vocabulary(counts, own.min_frequency, own.min_share)
        if encoding == "hashing":  # has no list, to cut the tail of
            vocabulary = categories.Vocabulary(counts, 1)
        if encoding != "hashing":
            self.categories_[name] = {"known": vocabulary.known, "rare": vocabulary.rare}
        if vocabulary.reason:
            return vocabulary.reason
        plan = categories.fit_category(vocabulary, encoding, settings.hash_buckets)
        if encoding != "target":
            return plan
        if y is None:
            raise DataError(
                f"{name} is encoded by the mean of the label, and there are no labels",
                where=fit_rows.WHERE,
                cure="give the labels of the rows, or take another encoding",
            )
        positions = categories.codes(plan, sample[name], self._vocabulary(name))
        target = categories.targets(y, int(y.max()) + 1 if self.task == "multiclass" else None)
        return categories.fit_means(plan, positions, target, weight / weight.mean(), settings.target_smoothing)

    def _named(self, rows: Any) -> pa.Table:
        self._require(rows.schema.names if isinstance(rows, pa.Table) else list(rows.columns))
        if isinstance(rows, pa.Table):
            return rows.select(self.features)
        return pa.Table.from_pandas(rows[list(self.features)], preserve_index=False)

    def _require(self, names: list[str]) -> None:
        missing = [name for name in self.features if name not in names]
        if missing:
            raise SchemaError(
                f"feature columns are missing: {', '.join(missing)}",
                where="model input",
                cure=f"give the model {', '.join(self.features)}",
            )


def _placed(place: Place, plan: FeaturePlan) -> Plan:
    if plan["kind"] == "number":
        return {**place, **plan}
    if plan["kind"] == "text":
        return {**place, **plan}
    if plan["kind"] == "embedding":
        return {**place, **plan}
    return {**place, **plan}


def _columns(matrix: np.ndarray, plan: Plan) -> np.ndarray:
    return matrix[:, plan["at"] : plan["at"] + plan["width"]]


def _weights(weight: Any, rows: int) -> np.ndarray:
    return np.ones(rows) if weight is None else np.asarray(weight, dtype=np.float64)
