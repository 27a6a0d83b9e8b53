"""Great Expectations alone: the rules that the default problem declares, on the newest week's rows."""

from __future__ import annotations

from pathlib import Path

import great_expectations as gx
import pandas as pd
from great_expectations import expectations as gxe

FILLED = ["carrier", "origin", "dest", "distance", "sched_dep_hour", "sched_arr_hour", "weekday"]
RANGES = {
    "distance": (50, 6000),
    "sched_dep_hour": (0, 24),
    "sched_arr_hour": (0, 24),
    "weekday": (1, 7),
    "plane_age": (0, 100),
    "seats": (1, 1000),
    "temp": (-40, 130),
    "dewp": (-60, 100),
    "humid": (0, 100),
    "wind_speed": (0, 150),
    "precip": (0, 10),
    "visib": (0, 20),
    "pressure": (870, 1090),
    "day_precip": (0, 40),
    "day_visib": (0, 20),
    "day_wind": (0, 150),
}


def work(inputs: Path) -> str:
    rows = pd.read_parquet(inputs / "events.parquet")
    newest = rows[rows["partition"] == rows["partition"].max()]
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    asset = context.data_sources.add_pandas("rows").add_dataframe_asset("week")
    batch = asset.add_batch_definition_whole_dataframe("all").get_batch({"dataframe": newest})
    suite = gx.ExpectationSuite(name="week")
    suite.add_expectation(gxe.ExpectColumnValuesToBeUnique(column="flight_id"))
    suite.add_expectation(gxe.ExpectColumnValuesToBeInSet(column="origin", value_set=["EWR", "JFK", "LGA"]))
    for column in FILLED:
        suite.add_expectation(gxe.ExpectColumnValuesToNotBeNull(column=column))
    for column, (low, high) in RANGES.items():
        suite.add_expectation(gxe.ExpectColumnValuesToBeBetween(column=column, min_value=low, max_value=high))
    result = batch.validate(suite)
    return f"{result.statistics['successful_expectations']} of {len(result.results)} rules held"
