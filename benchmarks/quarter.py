"""How good is a model that stays: candidates trained on the first quarter, measured on each week of the second.

    python -m benchmarks.quarter

The default problem, its own stages, a store in a temporary folder. All candidates are trained once, on what is known at
the end of March; nothing is trained again. AUC of each week from April to June, and the calibration error (ECE) on the
test split that the gate looks at and on the second quarter. Features are computed as serving computes them.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks.arguments import parser

PROBLEM, HISTORY, QUARTER = "flight_delay", ("2012-12-31", "2013-03-25"), ("2013-04-01", "2013-06-24")
LABELLED_UNTIL = "2013-07-08"  # the last week whose labels are wanted has them by then


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="evergreen-quarter-") as folder:
        os.environ |= {
            "EVERGREEN_STORE_URI": (Path(folder) / "store").as_uri(),
            "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db",
        }
        os.chdir(folder)  # MLflow keeps its files beside its database
        show(measured())


def measured() -> list[dict[str, Any]]:
    """Of each candidate that learns: its name, ECE on the test split, AUC by week and ECE over the second quarter."""
    from pipelines import local_run, sql, store, tracking
    from pipelines.asof.as_known import labels_as_known, targets
    from pipelines.features.featurize import featurize
    from pipelines.metrics.metrics import measure
    from pipelines.metrics.scored import scored
    from pipelines.problem import load_problem
    from pipelines.stages import stage

    config = load_problem(PROBLEM)
    local_run.ingest(PROBLEM, *HISTORY)
    shares = stage("train.sample")(PROBLEM, stage("train.label")(PROBLEM, HISTORY[1]))
    checked = stage("train.check")(PROBLEM, [stage("train.featurize")(PROBLEM, share) for share in shares])
    runs = {name: stage("train.train")(PROBLEM, checked, name) for name in config.training.candidates}
    picked = stage("train.evaluate")(PROBLEM, checked, list(runs.values())).candidate

    local_run.ingest(PROBLEM, QUARTER[0], LABELLED_UNTIL)
    events, labels = store.dataset(config, "events"), store.dataset(config, "labels")
    until, keys = config.partitions.end(LABELLED_UNTIL), config.partitions.between(*QUARTER)
    wanted = targets(events.filter(sql.is_among("partition", keys)), until)
    rows = sql.query(
        f"""SELECT f.*, k.label FROM f JOIN ({labels_as_known(config)}) AS k USING ({config.key}, event_time)
            ORDER BY f.event_time, f.{config.key}""",
        {"f": pa.Table.from_batches(list(featurize(config, wanted, events, labels))), "labels": labels},
        {"as_of": until},
    )
    weeks, y, weight = np.asarray(rows["partition"].to_pylist()), rows["label"].to_numpy(), np.ones(rows.num_rows)
    found = []
    for name, run in runs.items():
        if name in config.training.baselines:
            continue
        report = tracking.run_file(run["run_id"], "evaluation.json")["challenger"]
        model = tracking.load_model(run["run_id"])
        quarter = scored(config, y, model.scores(rows), weight, model.threshold)
        found.append(
            {
                "name": name + (" (picked)" if name == picked else ""),
                "tested": report["calibration"]["ece"],
                "ece": measure(quarter)["ece"],
                "weeks": [measure(quarter.take(weeks == key))["auc"] for key in keys],
            }
        )
    return found


def show(found: list[dict[str, Any]]) -> None:
    print(f"{'candidate':20} {'mean AUC':>9} {'lowest':>7} {'highest':>8} {'ECE, test split':>16} {'ECE, quarter':>13}")
    for one in found:
        weeks = one["weeks"]
        print(
            f"{one['name']:20} {np.mean(weeks):9.3f} {min(weeks):7.3f} {max(weeks):8.3f} {one['tested']:16.3f} "
            f"{one['ece']:13.3f}"
        )


if __name__ == "__main__":
    parser(__doc__).parse_args()
    main()
