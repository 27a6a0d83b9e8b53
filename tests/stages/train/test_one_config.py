"""An edit of problem.yaml during a training: the training ends with the config that it began with."""

from __future__ import annotations

import pytest

from pipelines import store, tracking
from pipelines.errors import NothingToDo
from pipelines.problem import load_problem
from pipelines.stages import stage
from tests.handed_on import featurized
from tests.stages.conftest import configure

pytestmark = pytest.mark.slow


def test_an_edit_of_the_features_between_featurize_and_the_fit_changes_nothing(loop: str) -> None:
    before = load_problem(loop)
    labelled = stage("train.label")(loop)
    (share,) = shares = featurized(loop, labelled)
    configure(loop, lambda raw: raw["features"]["columns"].remove("temp"))

    checked = stage("train.check")(loop, shares)
    fitted = stage("train.train")(loop, checked, "xgboost")
    model = tracking.load_model(fitted.run_id)
    assert list(model.features) == before.feature_names
    assert tracking.run_tag(fitted.run_id, "feature_set") == before.feature_set == share.feature_set
    assert tracking.run_tag(fitted.run_id, "config_hash") == before.config_hash
    assert model.fitted_rows == checked.splits["train"], "no row was lost to features of another set"

    baselines = [stage("train.train")(loop, checked, name) for name in before.training.baselines]
    evaluated = stage("train.evaluate")(loop, checked, [*baselines, fitted])
    assert store.read_json(evaluated.evaluation)["train_split"]["rows"] == checked.splits["train"]
    assert evaluated.config == labelled.config

    after = stage("train.label")(loop)
    assert after.config != labelled.config, "the next run begins with the edit"
    assert featurized(loop, after)[0].feature_set != before.feature_set


def test_a_candidate_that_came_with_an_edit_waits_for_the_next_run(loop: str) -> None:
    labelled = stage("train.label")(loop)
    checked = stage("train.check")(loop, featurized(loop, labelled))
    configure(loop, lambda raw: raw["training"]["candidates"].update(forest={"model": "forest"}))
    with pytest.raises(NothingToDo, match="began with has no such candidate"):
        stage("train.train")(loop, checked, "forest")
