"""The features of a wide training set are computed in shares, each a task of its own."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from benchmarks import wide
from pipelines import store
from pipelines.dataset import shares as shares_module
from pipelines.dataset import training_sets
from pipelines.dataset.assemble import assembled
from pipelines.features.featurize import featurize
from pipelines.handoffs.training import FeaturizedShare, Labelled, Share
from pipelines.problem import Problem, load_problem
from pipelines.stages import stage

pytestmark = pytest.mark.slow

A_DAY = 20


@pytest.fixture
def labelled(tmp_path: Path, store_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Labelled:
    """Days of a few rows, of which a training has labelled those that it may learn from."""
    monkeypatch.setenv("EVERGREEN_PROBLEMS", str(tmp_path / "problems"))
    wide.lay_out(tmp_path, wide.PARTITIONS * A_DAY, memory_limit_mb=4096)
    monkeypatch.setattr(shares_module, "SHARE_ROWS", 8 * A_DAY)
    made: Labelled = stage("train.label")(wide.NAME)
    return made


def featurized(shares: list[Share]) -> list[FeaturizedShare]:
    return [stage("train.featurize")(wide.NAME, share) for share in shares]


def features(problem: Problem, version: int | None = None) -> pa.Table:
    return store.dataset(problem, "features", version).to_table().sort_by("id")


def test_shares_have_the_features_that_one_task_gives(labelled: Labelled, monkeypatch: pytest.MonkeyPatch) -> None:
    problem, shares = load_problem(wide.NAME), stage("train.sample")(wide.NAME, labelled)
    assert [len(share.partitions) for share in shares] == [8, 8, 8]
    monkeypatch.setattr(shares_module, "SHARE_ROWS", 10**6)
    (whole,) = stage("train.sample")(wide.NAME, labelled)
    assert {share.training_set for share in shares} == {whole.training_set}, "how it is parted makes no other set"

    checked = stage("train.check")(wide.NAME, featurized(shares))
    (at_once,) = featurized([whole])
    assert features(problem, at_once.features_version).equals(features(problem, checked.features_version))


def test_shares_that_end_at_once_are_all_in_the_version_that_is_pinned(labelled: Labelled) -> None:
    shares: list[Share] = stage("train.sample")(wide.NAME, labelled)
    with ThreadPoolExecutor(len(shares)) as pool:
        done = list(pool.map(lambda share: stage("train.featurize")(wide.NAME, share), shares))
    checked = stage("train.check")(wide.NAME, done)
    assert checked.features_version == max(share.features_version for share in done)
    assert features(load_problem(wide.NAME), checked.features_version).num_rows == labelled.rows


def test_a_retry_of_a_share_does_that_share_alone(labelled: Labelled) -> None:
    problem, shares = load_problem(wide.NAME), stage("train.sample")(wide.NAME, labelled)
    done = featurized(shares)

    def files() -> dict[str, Any]:
        return {key: store.partition_files(problem, "features", key) for share in shares for key in share.partitions}

    before = files()
    done[1] = stage("train.featurize")(wide.NAME, shares[1])
    changed = [key for key, names in files().items() if names != before[key]]
    assert changed == shares[1].partitions
    checked = stage("train.check")(wide.NAME, done)
    assert checked.features_version == done[1].features_version


def test_what_others_have_written_of_a_share_meanwhile_is_computed_again(labelled: Labelled) -> None:
    problem, shares = load_problem(wide.NAME), stage("train.sample")(wide.NAME, labelled)
    first, second, third = shares
    done = featurized([first, second])
    there, key = features(problem), first.partitions[0]
    of_key = there.filter(pc.equal(there["partition"], key))
    store.write_table(problem, "features", of_key.slice(0, 1), [key])
    done += featurized([third])
    pins = training_sets.training_set(problem, done[0])
    checked = stage("train.check")(wide.NAME, done)
    assert checked.features_version > done[-1].features_version
    assert features(problem, checked.features_version).num_rows == labelled.rows
    assert sum(checked.splits.values()) == pins.num_rows


def test_a_refit_computes_features_a_share_after_the_other_and_gets_the_same(
    labelled: Labelled, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem, at_once = load_problem(wide.NAME), []

    def counted(problem: Problem, targets: Any, events: Any, labels: Any) -> Iterator[pa.RecordBatch]:
        at_once.append(targets.count_rows())
        return featurize(problem, targets, events, labels)

    monkeypatch.setattr("pipelines.features.featurize.featurize", counted)
    split = dict.fromkeys(store.partition_rows(problem, "events"), "train")
    events, labels = (store.dataset(problem, name) for name in ("events", "labels"))
    parted = assembled(problem, events, labels, datetime.fromisoformat(labelled.as_of), split)["train"]
    assert at_once == [8 * A_DAY] * 3
    monkeypatch.setattr(shares_module, "SHARE_ROWS", 10**6)
    whole = assembled(problem, events, labels, datetime.fromisoformat(labelled.as_of), split)["train"]
    assert at_once[3:] == [wide.PARTITIONS * A_DAY]
    assert parted.equals(whole)
