"""Learning curves on the newest training set: not a stage of a DAG, but asked for by hand."""

from __future__ import annotations

import pyarrow as pa

from pipelines.cli.progress import Progress
from pipelines.dataset import training_sets
from pipelines.problem import load_problem
from pipelines.stages.train.check import check
from pipelines.stages.train.featurize import featurize
from pipelines.stages.train.label import label
from pipelines.stages.train.sample import sample


def curves(problem_name: str, candidate: str, tell: Progress) -> pa.Table:
    """Learning curves of a candidate, as `learning_curve` gives them: of what is known by now.

    `tell` is told of each step, and of the fits how many there are.
    """
    from pipelines.training.curves import learning_curve

    problem = load_problem(problem_name)
    tell("label")
    labelled = label(problem_name)
    tell("sample")
    shares = sample(problem_name, labelled)
    tell("featurize")
    featurized = [featurize(problem_name, share) for share in shares]
    tell("check")
    checked = check(problem_name, featurized)
    train, validation = (training_sets.split(problem, checked, split) for split in ("train", "validation"))
    return learning_curve(problem, candidate, train, validation, tell=lambda done, of: tell("fits", done, of))
