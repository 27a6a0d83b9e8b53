"""What a fault is, and what it may lay hands on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zlib import crc32

import duckdb
import numpy as np
import pyarrow as pa

from benchmarks.gauntlet.world import PROBLEM, Stretch, configure, editing, pins, write_pins

FLIGHT_ID = """format('{:04d}-{:02d}-{:02d}/{}{}/{}/{:04d}', year, month, day, carrier, flight, origin,
    sched_dep_time)"""


@dataclass
class Site:
    """The state that a fault is put into. `weeks` are those that are ingested next."""

    run: Path
    stretch: Stretch
    weeks: tuple[str, str]
    random: np.random.Generator
    bad_keys: list[str] = field(default_factory=list)  # of rows that no model may see

    @contextmanager
    def sources(self) -> Iterator[duckdb.DuckDBPyConnection]:
        with editing(self.run, self.stretch) as database:
            yield database

    def configure(self, change: Callable[[dict[str, Any]], object]) -> None:
        """Change problem.yaml, as if the run had begun with it: what its stages hand on names no pinned config."""
        configure(self.run, change)
        self.pin(
            **{
                name: {**value, "config": None}
                for name, value in self.pins.items()
                if isinstance(value, dict) and "config" in value
            }
        )

    @property
    def folder(self) -> Path:
        return self.run / "problems" / PROBLEM

    @property
    def pins(self) -> dict[str, Any]:
        return pins(self.run)

    def pin(self, **values: Any) -> None:
        write_pins(self.run, self.pins | values)


@dataclass(frozen=True)
class Fault:
    """`state` is where the chain stands when the fault is put in: it goes on from there."""

    name: str
    group: str
    state: str
    harm: Callable[[Site], None]
    is_critical: bool = False

    @property
    def is_core(self) -> bool:
        """Whether it is tried with every seed: the critical ones, and a third of the others, whatever they are."""
        return self.is_critical or crc32(self.name.encode()) % 3 == 0


def in_sources(*statements: str, bad: str | None = None) -> Callable[[Site], None]:
    """SQL over the tables `flights` and `weather`; `bad` selects the keys of rows that are to be set aside."""

    def harm(site: Site) -> None:
        with site.sources() as database:
            for statement in statements:
                database.execute(statement)
            if bad is not None:
                site.bad_keys += [row[0] for row in database.execute(bad).fetchall()]

    return harm


def in_labelled(expression: str) -> Callable[[Site], None]:
    """`expression` becomes the label of the staged rows, of the type that it has."""

    def harm(site: Site) -> None:
        restage(site, f"SELECT * REPLACE (CAST({expression} AS TINYINT) AS label) FROM rows")

    return harm


def restage(site: Site, query: str) -> None:
    """Rows that `label` has staged, replaced by what a query over `rows` gives."""
    from pipelines import sql, store

    labelled = site.pins["label"]
    uri = store.store_uri(PROBLEM, "staging", "train", labelled["training"], "labelled")
    rows = store.staged(uri).to_table()
    store.stage(uri, sql.query(f"SELECT * FROM ({query}) ORDER BY event_time, flight_id", {"rows": rows}), rows.schema)


def refeature(site: Site, query: str) -> None:
    """The features of the training set, replaced by what a query over `rows` gives: features, `split` and `label`."""
    from pipelines import sql, store
    from pipelines.dataset import training_sets
    from pipelines.handoffs.training import FeaturizedShare
    from pipelines.problem import load_problem

    config, (featurized,) = load_problem(PROBLEM), site.pins["featurize"]  # so few rows are one share
    features = store.dataset(config, "features", featurized["features_version"]).to_table()
    members = training_sets.training_set(config, FeaturizedShare.model_validate(featurized)).select(
        [config.key, "partition", "split", "label"]
    )
    joined = f"SELECT f.*, split, label FROM f LEFT JOIN m USING ({config.key}, partition)"
    names = ", ".join(features.schema.names)
    made = sql.query(f"WITH rows AS ({joined}) SELECT {names} FROM ({query})", {"f": features, "m": members})
    keys = sorted(set(made["partition"].to_pylist()))
    version = store.write_table(config, "features", made.cast(features.schema), keys)
    site.pin(featurize=[{**featurized, "features_version": version}])


def chance(share: float, *columns: str) -> str:
    """SQL that is true for a share of the rows, the same ones each time."""
    return f"hash({', '.join(columns)}) % 1000 < {round(share * 1000)}"


def column(rows: pa.Table, name: str, values: Any) -> pa.Table:
    """The rows with other values in a column."""
    place = rows.schema.get_field_index(name)
    return rows.set_column(place, rows.schema.field(name), pa.array(values, rows.schema.field(name).type))
