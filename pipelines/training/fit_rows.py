"""What a preparation learns from: its settings feature by feature, and the rows that count."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from pipelines.config import (
    NOUNS,
    ColumnPreparation,
    Discretise,
    Encoding,
    Missing,
    Preprocessing,
    TextEncoding,
    VectorKind,
    did_you_mean,
)
from pipelines.dataset.reservoir import reservoir
from pipelines.errors import ConfigError, DataError, SchemaError
from pipelines.training import numeric

SAMPLE_ROWS = 200_000  # of a dataset on disk, for the statistics of its numbers
WHERE = "preprocessing in problem.yaml"


FeatureKind = Literal["number", "category", VectorKind]
KIND_NAMES: dict[FeatureKind, str] = {
    "number": "a number",
    "category": "a category",
    "text": NOUNS["text"],
    "embedding": NOUNS["embedding"],
}
SETTINGS: dict[FeatureKind, tuple[str, ...]] = {
    "number": ("missing", "scaling", "discretise"),
    "category": ("encoding", "min_frequency", "min_share"),
    "text": ("text",),
    "embedding": ("scaling",),
}
"""What can be said of one feature of each kind."""


@dataclass(frozen=True)
class Own:
    """How one feature is prepared: those of the settings count that go with its kind."""

    kind: FeatureKind
    missing: Missing
    scaling: str
    discretise: Discretise | None
    encoding: Encoding
    min_frequency: int
    min_share: float
    text: TextEncoding

    @property
    def is_category(self) -> bool:
        return self.kind == "category"

    @property
    def drops_rows(self) -> bool:
        return self.kind == "number" and self.missing.method == "drop"


def own_settings(
    settings: Preprocessing, features: list[str], categorical: list[str], vectors: Mapping[str, VectorKind]
) -> dict[str, Own]:
    """Each feature's settings: those of `columns` before those of all.

    Raises:
        ConfigError: `columns` names no feature, or gives one a setting that is not for its kind.
    """
    kinds: dict[str, FeatureKind] = {name: "category" if name in categorical else "number" for name in features}
    kinds |= vectors
    for name, column in settings.columns.items():
        if name not in features:
            raise ConfigError(
                f"columns: {name!r} is no feature{did_you_mean(name, features)}",
                where=WHERE,
                cure=f"known features: {', '.join(features)}",
            )
        for setting in ColumnPreparation.model_fields:
            if getattr(column, setting) is not None and setting not in SETTINGS[kinds[name]]:
                raise ConfigError(
                    f"columns.{name}.{setting} has no effect: {name} is {KIND_NAMES[kinds[name]]}",
                    where=WHERE,
                    cure="take the setting out",
                )
    chosen = {name: settings.columns.get(name, ColumnPreparation()) for name in features}
    return {
        name: Own(
            kind=kinds[name],
            missing=preparation.missing or settings.missing,
            scaling=preparation.scaling or settings.scaling,
            discretise=preparation.discretise or settings.discretise,
            encoding=preparation.encoding or settings.encoding,
            min_frequency=preparation.min_frequency or settings.min_frequency,
            min_share=preparation.min_share or settings.min_share or 0.0,
            text=preparation.text or settings.text or TextEncoding(),
        )
        for name, preparation in chosen.items()
    }


def complete(table: pa.Table, names: Iterable[str]) -> np.ndarray:
    """bool, shape (rows,): whether none of these numbers is missing or infinite.

    Raises:
        SchemaError: a column holds no numbers.
    """
    is_complete = np.ones(table.num_rows, dtype=bool)
    for name in names:
        is_complete &= ~np.isnan(numbers(table, name))
    return is_complete


def numbers(table: pa.Table, name: str) -> np.ndarray:
    """See `numeric.read`; raises SchemaError where the column holds something else."""
    try:
        return numeric.read(table[name])
    except pa.ArrowException as error:
        raise wrong_type(name, table[name], "numbers") from error


def usable(table: pa.Table, weight: np.ndarray, owns: Mapping[str, Own]) -> np.ndarray:
    """bool, shape (rows,): rows with a weight and with all numbers that must not be missing.

    A column without any value is dropped itself, and drops no row.

    Raises:
        DataError: there is none.
    """
    has_weight = weight > 0
    strict = _strict(table.filter(pa.array(has_weight)), owns)
    is_used = has_weight & complete(table, strict)
    _require_some(is_used, strict)
    return np.asarray(is_used)


def sampled(
    dataset: ds.Dataset, owns: Mapping[str, Own], seed: int
) -> tuple[pa.Table, np.ndarray, Iterable[pa.RecordBatch]]:
    """At most 200,000 rows of a dataset, drawn by the seed, their weights, and the categories of all rows, in batches.

    Raises:
        ConfigError: a category is encoded by the mean of the label.
        DataError: there is no row to learn from.
    """
    if asking := [name for name, own in owns.items() if own.is_category and own.encoding == "target"]:
        raise ConfigError(
            f"{', '.join(asking)}: a mean of the label needs the training rows in memory, and they are too many",
            where=WHERE,
            cure="take another encoding, or raise training.memory_limit_mb",
        )
    has_weight = "weight" in dataset.schema.names
    wanted = pc.field("weight") > 0 if has_weight else pc.scalar(True)
    schema = pa.schema([dataset.schema.field(name) for name in [*owns, *["weight"] * has_weight]])
    batches = dataset.to_batches(columns=schema.names, filter=wanted)
    none = pa.RecordBatch.from_pylist([], schema)  # so that a dataset without rows has columns
    sample = reservoir(itertools.chain([none], batches), SAMPLE_ROWS, seed)
    strict = _strict(sample, owns)
    is_used = complete(sample, strict)
    _require_some(is_used, strict)
    sample = sample.filter(pa.array(is_used))
    for name in strict:
        wanted &= pc.is_finite(pc.field(name))
    categories = [name for name, own in owns.items() if own.is_category]
    weight = sample["weight"].to_numpy() if has_weight else np.ones(sample.num_rows)
    return sample, weight, dataset.to_batches(columns=categories, filter=wanted)


def _strict(table: pa.Table, owns: Mapping[str, Own]) -> list[str]:
    return [name for name, own in owns.items() if own.drops_rows and complete(table, [name]).any()]


def _require_some(is_used: np.ndarray, strict: list[str]) -> None:
    if not is_used.any():
        values = f" and a value of each of {', '.join(strict)}" if strict else ""
        raise DataError(
            f"none of {len(is_used):,} training rows has a weight{values}",
            where=f"missing, {WHERE}" if strict else "training set",
            cure="take another method than drop" if strict else "look at how the training set is sampled and weighted",
        )


def wrong_type(name: str, column: pa.ChunkedArray, wanted: str) -> SchemaError:
    return SchemaError(
        f"feature {name}: wanted {wanted}, found {column.type}",
        where="model input",
        cure="give it the type that it is declared with in problem.yaml",
    )
