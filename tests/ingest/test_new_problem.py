"""A new problem over a CSV, a folder of Parquet, an Avro file and a PostgreSQL table: problem.yaml and SQL, no code."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import fastavro
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as csv
import pyarrow.parquet as pq
import pytest

from pipelines import local_run, store
from pipelines.problem import load_problem
from pipelines.stages import stage
from tests.handed_on import featurized
from tests.ingest.conftest import Postgres

START = datetime(2024, 1, 1, 8, tzinfo=UTC)
DAYS, A_DAY = 40, 60

PROBLEM = """
description: Will this order come back?
owner: shop
key: order_id
partitions: {every: day, first: 2024-01-01}
sources:
  orders:
    path: data/orders.csv
    columns: {order_id: string, placed_at: timestamp, customer_id: integer, product: string, paid: float}
  customers: {path: data/customers, format: parquet}
  products: {path: data/products.avro, columns: {product: string, weight: float}}
  refunds: {database: "postgresql://kitchen:${KETTLE_PASSWORD}@127.0.0.1:PORT/postgres", table: refunds,
            time_column: refunded_at, lookback_days: 10}
columns:
  paid: {type: float, unit: euro, available: cutoff, min: 0}
  kilos: {type: float, unit: kg, available: cutoff}
  country: {type: string, available: cutoff, allowed: [DE, FR, IT]}
  customer_id: {type: integer, available: cutoff}
labels: {description: it was sent back within three days, delay_days: 1, maturity_days: 4, after_maturity: negative}
dataset:
  split: {validation_partitions: 3, test_partitions: 3}
  sampling: {method: random, fraction: 0.9}
features:
  columns: [paid, kilos, country]
  history: {returned_14d: {by: [customer_id], function: count, window_days: 14}}
  datetime: {placed_hour: {part: hour, cyclical: true}}
training:
  baselines: [prior]
  candidates: {prior: {model: prior}, logistic: {model: logistic}}
gate: {limits: {auc: {min: 0.5}}, gain_over_baselines: {auc: 0.0}, gain_over_champion: {auc: 0.0}}
"""
EVENTS = """
SELECT o.order_id, o.placed_at AS event_time, o.paid, p.weight AS kilos, c.country, o.customer_id
FROM orders AS o LEFT JOIN customers AS c USING (customer_id) LEFT JOIN products AS p USING (product)
"""
LABELS = """
SELECT o.order_id, o.placed_at AS event_time, r.refunded_at AS known_time, CAST(1 AS TINYINT) AS label
FROM orders AS o JOIN refunds AS r USING (order_id)
WHERE r.refunded_at < o.placed_at + INTERVAL 3 DAY
"""


@pytest.fixture
def shop(tmp_path: Path, postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> str:
    """A problem's folder, its files and its table."""
    monkeypatch.setenv("EVERGREEN_PROBLEMS", str(tmp_path / "problems"))
    monkeypatch.setenv("EVERGREEN_STORE_URI", (tmp_path / "store").as_uri())
    folder = tmp_path / "problems" / "shop"
    data = folder / "data"
    (data / "customers").mkdir(parents=True)
    (folder / "problem.yaml").write_text(PROBLEM.replace("PORT", str(postgres.port)))
    (folder / "events.sql").write_text(EVENTS)
    (folder / "labels.sql").write_text(LABELS)

    random, count = np.random.default_rng(1), DAYS * A_DAY
    placed = [START + timedelta(days=n // A_DAY, minutes=n % A_DAY) for n in range(count)]
    products = random.integers(0, 20, count)
    csv.write_csv(
        pa.table(
            {
                "order_id": [f"o{n}" for n in range(count)],
                "placed_at": pa.array(placed, pa.timestamp("s", "UTC")),
                "customer_id": random.integers(0, 50, count),
                "product": [f"p{n}" for n in products],
                "paid": random.gamma(2, 20, count).round(2),
            }
        ),
        data / "orders.csv",
    )
    for part in range(2):
        ids = list(range(part * 25, part * 25 + 25))
        pq.write_table(
            pa.table({"customer_id": ids, "country": [("DE", "FR", "IT")[n % 3] for n in ids]}),
            data / "customers" / f"{part}.parquet",
        )
    schema = {
        "type": "record",
        "name": "product",
        "fields": [{"name": "product", "type": "string"}, {"name": "weight", "type": ["null", "double"]}],
    }
    with (data / "products.avro").open("wb") as stream:
        fastavro.writer(stream, schema, [{"product": f"p{n}", "weight": n / 4 if n else None} for n in range(20)])

    back = np.flatnonzero(random.random(count) < 0.1 + products / 50)
    rows = ", ".join(f"('o{n}', '{placed[n] + timedelta(hours=30)}')" for n in back)
    postgres.execute(
        "DROP TABLE IF EXISTS refunds",
        "CREATE TABLE refunds (order_id text, refunded_at timestamptz)",
        f"INSERT INTO refunds VALUES {rows}",
    )
    return "shop"


@pytest.mark.slow
def test_a_new_problem_is_ingested_and_gives_a_training_set(shop: str) -> None:
    config = load_problem(shop)
    last = config.partitions.shift("2024-01-01", DAYS - 1)
    history = local_run.ingest(shop, "2024-01-01", config.partitions.shift(last, -1))
    assert (history.events, history.quarantined) == ((DAYS - 1) * A_DAY, 0)
    assert local_run.ingest(shop, last, last).events == A_DAY

    checked = stage("train.check")(shop, featurized(shop, stage("train.label")(shop, last)))
    rows = store.dataset(config, "training_sets").to_table()
    assert set(rows["split"].to_pylist()) == {"train", "validation", "test"}
    assert set(rows["source"].to_pylist()) == {"natural", "none"}, "by four days, what was not sent back is negative"
    features = store.dataset(config, "features").to_table()
    assert features.schema.names[3:] == config.feature_names
    assert pc.max(features["returned_14d"]).as_py() > 0
    assert features["kilos"].null_count > 0
    sheet = store.read_bytes(checked.datasheet.replace(".html", ".md")).decode()
    for part in ("Will this order come back?", "orders", "data/products.avro", "orders.placed_at", "random"):
        assert part in sheet
    assert "kettle@" not in sheet, "no password"
