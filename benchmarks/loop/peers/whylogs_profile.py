"""whylogs: a profile of the newest week's features, which merges with others."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import whylogs


def work(inputs: Path) -> str:
    rows = pd.read_parquet(inputs / "features.parquet")
    newest = rows[rows["partition"] == rows["partition"].max()].drop(columns=["partition", "event_time", "flight_id"])
    view = whylogs.log(pandas=newest).profile().view()
    return f"{len(view.to_pandas())} columns profiled"
