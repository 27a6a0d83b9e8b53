"""Feast's point-in-time join: the newest week's flights with the five rates as they were, from a Parquet store.

The rates come ready made, a value for each key and day: Feast joins them. Evergreen's stage also computes them, from
labels that were known by then.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig
from feast.types import Float64
from feast.value_type import ValueType

RATES = {
    "carrier_late_rate_28d": ["carrier"],
    "dest_late_rate_28d": ["dest"],
    "origin_late_rate_28d": ["origin"],
    "hour_late_rate_28d": ["sched_dep_hour"],
    "carrier_origin_late_rate_28d": ["carrier", "origin"],
}


def work(inputs: Path) -> str:
    rows = pd.read_parquet(inputs / "features.parquet")
    rows["sched_dep_hour"] = rows["sched_dep_hour"].astype(str)
    with TemporaryDirectory() as name:
        folder = Path(name)
        store = FeatureStore(
            config=RepoConfig(
                project="flights",
                provider="local",
                registry=str(folder / "registry.db"),
                entity_key_serialization_version=3,
            )
        )
        by = sorted({column for columns in RATES.values() for column in columns})
        entities = {column: Entity(name=column, value_type=ValueType.STRING) for column in by}
        views = []
        for rate, columns in RATES.items():
            path = folder / f"{rate}.parquet"
            daily = rows.assign(event_time=rows["event_time"].dt.floor("D"))
            daily[["event_time", *columns, rate]].drop_duplicates(["event_time", *columns]).to_parquet(path)
            source = FileSource(name=rate, path=str(path), timestamp_field="event_time")
            views.append(
                FeatureView(
                    name=f"{rate}_view",
                    entities=[entities[column] for column in columns],
                    ttl=timedelta(days=7),
                    schema=[Field(name=rate, dtype=Float64)],
                    source=source,
                )
            )
        store.apply([*entities.values(), *views])
        newest = rows.loc[rows["partition"] == rows["partition"].max(), ["flight_id", "event_time", *by]]
        names = [f"{rate}_view:{rate}" for rate in RATES]
        events = newest.rename(columns={"event_time": "event_timestamp"})
        joined = store.get_historical_features(entity_df=events, features=names).to_df()
    return f"{len(joined):,} of {len(newest):,} rows came back: one for each carrier and time"
