"""What a training and a fall-back keep has the keys that its type declares, and no others."""

from __future__ import annotations

from typing import Any, get_type_hints

import pytest
from pydantic import ValidationError

from pipelines import ledger, store, tracking
from pipelines.documents.dataset import DatasetFacts, Feature
from pipelines.documents.evaluation import Evaluation, GateVerdict
from pipelines.documents.lineage import Lineage, VersionLineage
from pipelines.documents.version import VersionReference
from pipelines.paths import facts_uri, version_uri
from pipelines.problem import load_problem
from pipelines.release import switch
from tests.declared_keys import assert_declared

pytestmark = pytest.mark.slow

SAID_BY_THE_GATE = {"serves", "judged"}


def test_what_a_training_keeps_is_what_its_types_declare(loop: str) -> None:
    config = load_problem(loop)
    run_id = tracking.serving(config).run_id
    evaluation = tracking.run_file(run_id, "evaluation.json")
    assert_declared(Evaluation, evaluation)
    assert set(evaluation) == set(get_type_hints(Evaluation)) - SAID_BY_THE_GATE
    (gated,) = ledger.decisions(config, "gate")
    assert_declared(Evaluation, gated["evidence"]["evaluation"])
    assert_declared(GateVerdict, tracking.run_file(run_id, "gate.json"))
    assert_declared(VersionReference, tracking.run_file(run_id, "reference.json"))
    assert_declared(Lineage, tracking.run_file(run_id, "lineage.json"))
    kept_with_the_version = store.read_json(version_uri(config, "1", "lineage.json"))
    assert_declared(VersionLineage, kept_with_the_version)
    facts = store.read_json(facts_uri(config, kept_with_the_version["training_set"]))
    assert_declared(DatasetFacts, {name: facts[name] for name in get_type_hints(DatasetFacts)})
    schema = store.read_json(store.store_uri(config.name, "feature_sets", f"{config.feature_set}.json"))
    assert_declared(list[Feature], schema)
    assert [feature["name"] for feature in facts["features"]] == [feature["name"] for feature in schema]


def test_what_a_fall_back_keeps_is_what_its_types_declare(loop: str) -> None:
    config = load_problem(loop)
    switch.fall_back(config, "2013-02-11", "nothing else is left")
    lineage = store.read_json(version_uri(config, "2", "lineage.json"))
    assert_declared(VersionLineage, lineage)
    assert (lineage["how"], lineage["replaces"]) == ("fallback", "1")
    assert_declared(Evaluation, tracking.run_file(lineage["run_id"], "evaluation.json"))


@pytest.mark.parametrize("change", [{"candiate": "xgboost"}, {"rows": "many"}, {"metrics": {"auc": 0.7}}])
def test_a_key_that_nobody_declared_and_a_value_of_another_kind_are_seen(change: dict[str, Any]) -> None:
    report = {"run_id": "a", "rows": 3, "metrics": {"auc": {"value": 0.7, "low": None, "high": None}}}
    assert_declared(Evaluation, {"challenger": report})
    with pytest.raises(ValidationError):
        assert_declared(Evaluation, {"challenger": report | change})
