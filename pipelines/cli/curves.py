"""Learning curves on the newest training set: not a stage of a DAG, but asked for by hand."""

from __future__ import annotations

import pyarrow as pa

from pipelines.dataset import training_sets
from pipelines.problem import load_problem
from pipelines.stages.train.check import check
from pipelines.stages.train.featurize import featurize
from pipelines.stages.train.label import label
from pipelines.stages.train.sample import sample


def curves(problem: str, candidate: str) -> pa.Table:
    """Learning curves of a candidate, as `learning_curve` gives them: of what is known by now."""
    from pipelines.training.curves import learning_curve

    config = load_problem(problem)
    checked = check(problem, featurize(problem, sample(problem, label(problem))))
    train, validation = (training_sets.split(config, checked, split) for split in ("train", "validation"))
    return learning_curve(config, candidate, train, validation)
