"""Evidently's DataDriftPreset: which features of the newest week are distributed unlike those of the weeks before."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from evidently import Dataset, Report
from evidently.presets import DataDriftPreset


def work(inputs: Path) -> str:
    rows = pd.read_parquet(inputs / "features.parquet")
    is_newest = rows["partition"] == rows["partition"].max()
    rows = rows.drop(columns=["partition", "event_time", "flight_id"])
    report = Report([DataDriftPreset()]).run(
        Dataset.from_pandas(rows[is_newest]), Dataset.from_pandas(rows[~is_newest])
    )
    drifted = report.dict()["metrics"][0]["value"]["count"]
    return f"{drifted:.0f} of {rows.shape[1]} columns drifted"
