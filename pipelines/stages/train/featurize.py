"""featurize: the features of every event in a share of the training set."""

from __future__ import annotations

from pipelines.dataset import training_sets
from pipelines.handoffs.config import problem_of
from pipelines.handoffs.training import FeaturizedShare, Share


def featurize(problem_name: str, share: Share) -> FeaturizedShare:
    """Compute the features of every event in the share's partitions, from these and what their windows reach of the
    past; they replace what the table has of these partitions, and of no others."""
    problem = problem_of(problem_name, share)
    keys = share.partitions or training_sets.partitions(problem, share)
    version = training_sets.write_features(problem, share, keys)
    handed_on = share.model_dump(exclude={"features_version"})
    return FeaturizedShare(**handed_on, feature_set=problem.feature_set, features_version=version)
