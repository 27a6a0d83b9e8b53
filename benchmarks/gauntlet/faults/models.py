"""Faults of a challenger: what it learns from, or how it scores. The real stages train, log and judge it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from benchmarks.gauntlet.faults.fault import Fault, Site, column

if TYPE_CHECKING:
    from pipelines.training.model import Model

Rows = Callable[[pa.Table, np.random.Generator], pa.Table]


def _learns(change: Rows) -> Callable[[Site], None]:
    """Its fit is given other rows."""

    def harm(site: Site) -> None:
        from pipelines.training import fit as module

        honest = module.fit
        random = site.random

        def harmed(problem: Any, name: str, train: pa.Table, validation: pa.Table, **more: Any) -> Any:
            return honest(problem, name, change(train, random), validation, **more)

        module.fit = harmed

    return harm


def _scores(slope: float, intercept: float = 0.0) -> Callable[[Site], None]:
    """Its scores come out as another logit."""

    def change(model: Model) -> None:
        from pipelines.training.calibrate import Calibrator, Platt

        platt = Platt()
        platt.slope_, platt.intercept_ = slope, intercept
        model.calibration = Calibrator([platt])

    return _fitted(change)


def _cubed(model: Model) -> None:
    from pipelines.training.calibrate import Calibrator, Isotonic

    isotonic = Isotonic()
    isotonic.scores_ = np.linspace(0, 1, 501)
    isotonic.rates_ = isotonic.scores_**3
    model.calibration = Calibrator([isotonic])


def _fitted(change: Callable[[Model], None]) -> Callable[[Site], None]:
    def harm(site: Site) -> None:
        from pipelines.training import fit as module

        honest = module.fit

        def harmed(*given: Any, **more: Any) -> Any:
            model = honest(*given, **more)
            change(model)
            return model

        module.fit = harmed

    return harm


def _some(share: float) -> Rows:
    return lambda rows, random: rows.filter(pa.array(random.random(rows.num_rows) < share))


def _oldest(partitions: int) -> Rows:
    def change(rows: pa.Table, random: np.random.Generator) -> pa.Table:
        keys = sorted(set(rows["partition"].to_pylist()))[:partitions]
        return rows.filter(pc.is_in(rows["partition"], value_set=pa.array(keys, pa.string())))

    return change


def _largest(rows: pa.Table) -> np.ndarray:
    counted = pc.value_counts(rows["carrier"])
    largest = counted.field("values")[int(np.argmax(counted.field("counts").to_numpy()))]
    return np.asarray(pc.equal(rows["carrier"], largest).to_numpy())


def _flipped(rows: pa.Table, which: np.ndarray) -> pa.Table:
    labels = rows["label"].to_numpy()
    return column(rows, "label", np.where(which, 1 - labels, labels))


def _scrambled(rows: pa.Table, random: np.random.Generator) -> pa.Table:
    """The rows of the largest airline get each other's labels."""
    labels, chosen = rows["label"].to_numpy().copy(), np.flatnonzero(_largest(rows))
    labels[chosen] = labels[random.permutation(chosen)]
    return column(rows, "label", labels)


def _shuffled(*names: str) -> Rows:
    """Columns that belong to other rows."""

    def change(rows: pa.Table, random: np.random.Generator) -> pa.Table:
        order = pa.array(random.permutation(rows.num_rows))
        for name in names:
            rows = rows.set_column(rows.schema.get_field_index(name), name, rows[name].take(order))
        return rows

    return change


def _on_the_test(site: Site) -> None:
    """The challenger learns from the rows that it is measured on as well."""
    from benchmarks.gauntlet.world import PROBLEM
    from pipelines.dataset import training_sets
    from pipelines.handoffs.training import Checked
    from pipelines.problem import load_problem

    config = load_problem(PROBLEM)
    test = training_sets.split(config, Checked.model_validate(site.pins["check"]), "test")
    _learns(lambda rows, _: pa.concat_tables([rows, test.select(rows.schema.names)]))(site)


def _champion_on_the_test(site: Site) -> None:
    """The run of the champion says that it has learnt from data up to the newest test week."""
    from benchmarks.gauntlet.world import PROBLEM
    from pipelines import tracking
    from pipelines.problem import load_problem

    champion = tracking.champion(load_problem(PROBLEM))
    assert champion is not None
    tracking.annotate(champion.run_id, tags={"trained_until": site.pins["check"]["partition"]})


def _itself(site: Site) -> None:
    from benchmarks.gauntlet.world import PROBLEM
    from pipelines import tracking
    from pipelines.problem import load_problem

    champion = tracking.champion(load_problem(PROBLEM))
    assert champion is not None
    site.pin(train={**site.pins["train"], "run_id": str(champion.run_id)})


FAULTS = [
    Fault("scores inverted", "scores", "checked", _scores(-1.0), is_critical=True),
    Fault("scores cubed", "scores", "checked", _fitted(_cubed)),
    Fault("scores a unit of logit too high", "scores", "checked", _scores(1.0, 1.0)),
    Fault("scores a unit of logit too low", "scores", "checked", _scores(1.0, -1.0)),
    Fault("scores squeezed", "scores", "checked", _scores(0.2)),
    Fault("scores stretched", "scores", "checked", _scores(4.0)),
    Fault("scores constant", "scores", "checked", _scores(0.0, -1.2)),
    Fault("learnt from 2 % of the rows", "challenger", "checked", _learns(_some(0.02))),
    Fault("learnt from the oldest week alone", "challenger", "checked", _learns(_oldest(1))),
    Fault(
        "labels of the largest airline flipped",
        "challenger",
        "checked",
        _learns(lambda rows, _: _flipped(rows, _largest(rows))),
    ),
    Fault(
        "15 % of the training labels flipped",
        "challenger",
        "checked",
        _learns(lambda rows, random: _flipped(rows, random.random(rows.num_rows) < 0.15)),
    ),
    Fault("labels of the largest airline shuffled", "challenger", "checked", _learns(_scrambled)),
    Fault(
        "training weather of other days",
        "challenger",
        "checked",
        _learns(_shuffled("temp", "dewp", "humid", "wind_speed", "precip", "visib", "pressure")),
    ),
    Fault(
        "training hours of other flights",
        "challenger",
        "checked",
        _learns(_shuffled("sched_dep_hour", "sched_arr_hour")),
    ),
    Fault("learnt from the test rows", "challenger", "checked", _on_the_test),
    Fault("champion learnt from the test rows", "champion", "trained", _champion_on_the_test),
    Fault("champion compared with itself", "champion", "trained", _itself),
]
