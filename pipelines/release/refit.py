"""refit: what a refit learns from and what it makes of that, for the stage and for who makes a version again."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.dataset as ds

from pipelines import sql
from pipelines.dataset.assemble import assembled, assembled_on_disk
from pipelines.dataset.label import all_mature
from pipelines.documents.lineage import Lineage
from pipelines.errors import DataError
from pipelines.problem import Problem
from pipelines.training.refit import refitted, updated_again

if TYPE_CHECKING:
    from pipelines.training.checkpoint import Checkpoint
    from pipelines.training.model import Model


def refit_rows(
    problem: Problem,
    recorded: Lineage,
    events: ds.Dataset,
    labels: ds.Dataset,
    after: str | None,
    folder: str,
) -> pa.Table | ds.Dataset:
    """All rows that may be learnt from at the end of a training's partition: those that it learnt from, held out, and
    left between the two. In memory, or in a file of `folder` where the training read its rows from disk.

    Args:
        recorded: the lineage of the model that was tested.
        events, labels: the tables at the versions that it was made of.
        after: the newest partition that the model which is updated has learnt from; None: it is trained from scratch.

    Raises:
        DataError: there is no such row, or one class only.
    """
    partitions = sql.query("SELECT DISTINCT partition FROM events", {"events": events})["partition"].to_pylist()
    passed_over = {*recorded.get("held", ()), *recorded.get("waiting", ())}
    split = all_mature(problem, recorded["partition"], sorted(partitions), recorded.get("window_from"), passed_over)
    split = {key: name for key, name in split.items() if after is None or key > after}
    if not split:
        raise DataError(
            f"no partition after {after} has its labels at the end of {recorded['partition']}",
            where=f"problem {problem.name}, training.refit",
            cure="wait for the labels of the next partition, or set training.refit: false",
        )
    as_of = datetime.fromisoformat(recorded["as_of"])
    if not recorded["is_streamed"]:
        return assembled(problem, events, labels, as_of, split)["train"]
    return assembled_on_disk(problem, events, labels, as_of, split, Path(folder))


def refit_model(
    problem: Problem,
    recorded: Lineage,
    tested: Model,
    rows: pa.Table | ds.Dataset,
    bases: tuple[Model, Model] | None,
    checkpoint: Checkpoint | None = None,
) -> Model:
    """The tested model's recipe on `rows`.

    `bases`: where it was made by an update, the model that was updated and the one that served beside it, which is
    updated here in the same way; None: it was trained from scratch.

    Raises:
        ConfigError, DataError: as a fit.
    """
    name, how = recorded["candidate"], recorded["how"]
    if bases is None:
        return refitted(problem, name, tested, rows, recorded["parameters"], checkpoint)
    assert isinstance(rows, pa.Table), "an update has its rows in memory"
    return updated_again(problem, name, how, tested, *bases, rows)
