"""featurize: the features of every event in the training set."""

from __future__ import annotations

from pipelines.dataset import training_sets
from pipelines.handoffs.config import problem_of
from pipelines.handoffs.training import Featurized, Sampled


def featurize(problem_name: str, sampled: Sampled) -> Featurized:
    """Compute the features of every event in the training set's partitions."""
    problem = problem_of(problem_name, sampled)
    version = training_sets.write_features(problem, sampled, training_sets.partitions(problem, sampled))
    handed_on = sampled.model_dump(exclude={"features_version"})
    return Featurized(**handed_on, feature_set=problem.feature_set, features_version=version)
