"""The small problem, and the services that it runs on: a real object store and a real MLflow, behind a proxy."""

from __future__ import annotations

import csv
import os
import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from math import exp
from pathlib import Path
from typing import Any

import yaml

from benchmarks.chaos.proxy import Proxy
from pipelines.embedded import object_store, tracking
from pipelines.embedded.processes.home import load_secrets, only_supervisor, prepare
from pipelines.embedded.processes.ports import HOST, reserved_ports
from pipelines.embedded.processes.supervisor import Supervisor, end, marked

ROOT = Path(__file__).parents[2]
START = datetime(2024, 1, 1, 6, tzinfo=UTC)
DAYS, A_DAY = 24, 150
HISTORY = ("2024-01-01", "2024-01-08")
NEW = ("2024-01-09", "2024-01-10", "2024-01-11", "2024-01-12")
UNREADABLE, BROKEN = 40, 41  # each so many-th pot has a heat that is no number; breaks a rule

PROBLEM = """
description: Will this pot crack?
owner: pottery
key: pot
partitions: {every: day, first: 2024-01-01, last: 2024-01-24}
sources:
  pots:
    path: pots.csv
    columns: {pot: string, fired_at: timestamp, potter: string, heat: float, size: float, cracked: integer}
columns:
  potter: {type: string, available: cutoff}
  heat: {type: float, available: cutoff, min: -20, max: 20}
  size: {type: float, available: cutoff}
validation: {shape: null, expectation_rows: 50, max_quarantined_share: 0.2}
dataset: {split: {validation_partitions: 1, test_partitions: 2}}
features:
  columns: [heat, size]
  history: {potter_rate_3d: {by: [potter], function: mean, window_days: 3}}
labels:
  use: [natural]
  weak: {functions: {hot: {sql: CASE WHEN heat > 1 THEN 1 END}, cold: {sql: CASE WHEN heat < -1 THEN 0 END}}}
training:
  refit: true
  baselines: [prior]
  threads: 1
  candidates:
    prior: {model: prior}
    xgboost: {model: xgboost, parameters: {n_estimators: 20, max_depth: 2, learning_rate: 0.3}}
evaluation: {bootstrap: {resamples: 50}}
gate: # whatever learns at all passes: the way from there on is what is tried
  limits: {auc: {min: 0.4}}
  gain_over_baselines: {auc: -0.5, log_loss: -9}
  gain_over_champion: {auc: -0.6, log_loss: -9}
  max_champion_fall: null
  max_forgotten: 1
  max_prediction_shift: null
  min_rows: 30
monitoring: {report_rows: null}
scoring: {shard_rows: 100}
release:
  path: [shadow, canary, full]
  margin: 0.2
  shadow: {partitions: 1, max_partitions: 9}
  canary: {shares: [0.5], partitions: 1, max_partitions: 9, max_decision_gap: 1.0}
replay: {history_until: 2024-01-08, until: 2024-01-12}
"""
IN_FILE = "path: pots.csv"
EVENTS = "SELECT pot, fired_at AS event_time, potter, heat, size FROM pots"
LABELS = "SELECT pot, fired_at AS event_time, fired_at + INTERVAL 1 HOUR AS known_time, cracked AS label FROM pots"


def write_problem(problems: Path, name: str, source: str = IN_FILE) -> None:
    """The problem with its source, in a folder of its own below `problems`; `source`: where problem.yaml says the rows
    are."""
    folder = problems / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "problem.yaml").write_text(PROBLEM.replace(IN_FILE, source))
    (folder / "events.sql").write_text(EVENTS)
    (folder / "labels.sql").write_text(LABELS)
    draws = random.Random(5)  # noqa: S311 - rows, not secrets
    with (folder / "pots.csv").open("w") as file:
        rows = csv.writer(file)
        rows.writerow(["pot", "fired_at", "potter", "heat", "size", "cracked"])
        for number in range(DAYS * A_DAY):
            heat, size = draws.gauss(0, 1), draws.gauss(0, 1)
            is_cracked = draws.random() < 1 / (1 + exp(0.5 - 1.2 * heat - size))
            moment = START + timedelta(days=number // A_DAY, minutes=number % A_DAY)
            shown = "very" if number % UNREADABLE == 7 else 99 if number % BROKEN == 8 else round(heat, 4)
            potter = f"potter {draws.randrange(20)}"
            rows.writerow([f"p{number}", moment.isoformat(), potter, shown, round(size, 4), int(is_cracked)])


def learn(problems: Path, name: str, trees: int) -> None:
    """Have the next training grow so many trees."""
    path = problems / name / "problem.yaml"
    raw: dict[str, Any] = yaml.safe_load(path.read_text())
    raw["training"]["candidates"]["xgboost"]["parameters"]["n_estimators"] = trees
    path.write_text(yaml.safe_dump(raw, sort_keys=False))


@contextmanager
def services(home: Path) -> Iterator[Proxy]:
    """Object store and MLflow, and the proxy before both, which this process's environment names until they end."""
    prepare(home)
    before = dict(os.environ)
    with ExitStack() as stack:
        stack.callback(os.environ.update, before)
        stack.callback(os.environ.clear)
        stack.enter_context(only_supervisor(home))
        end(marked(home))  # of a run that was killed
        supervisor, secrets = Supervisor(home), load_secrets(home)
        ports = stack.enter_context(reserved_ports(home))
        stack.callback(supervisor.stop)
        object_store.start(supervisor, home, ports["store"], secrets, print)
        store = object_store.client_environment(ports["store"], secrets)
        variables = {**os.environ, **store}
        supervisor.start(tracking.service(home, ports["mlflow"], "s3://mlflow", secrets, variables))
        proxy = stack.enter_context(Proxy(ports["store"], ports["mlflow"]))
        os.environ |= {**store, **tracking.client_environment(ports["mlflow"], secrets)}
        os.environ |= {
            "AWS_ENDPOINT_URL": f"http://{HOST}:{proxy.ports['store']}",
            "MLFLOW_TRACKING_URI": f"http://{HOST}:{proxy.ports['mlflow']}",
            "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",  # half of the pauses: outages are short here, too
        }
        yield proxy
