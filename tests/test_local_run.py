from __future__ import annotations

import sys
from functools import wraps
from pathlib import Path
from typing import Any

import pytest

from pipelines import local_run
from pipelines.cli.outcome import Stages
from pipelines.errors import ConfigError, NothingToDo
from pipelines.handoffs.base import HandOff, to_json
from pipelines.handoffs.monitoring import Detected, Estimated, Explained
from pipelines.handoffs.releases import Assessed
from pipelines.handoffs.scoring import ScoredPartition, ScoredShard, Shard
from pipelines.handoffs.training import Checked, FeaturizedShare, Share, Trained
from pipelines.stages import function_of
from tests.handed_on import example

DETECTED, ESTIMATED, EXPLAINED = (
    example(kind, partition="p").model_dump(mode="json") for kind in (Detected, Estimated, Explained)
)


@pytest.mark.parametrize(
    ("stage", "given", "told"),
    [
        ("monitor.decide", EXPLAINED, {"explained": EXPLAINED}),
        ("monitor.diagnose", DETECTED, {"detected": DETECTED}),
        (
            "monitor.diagnose",
            {"detected": DETECTED, "estimated": ESTIMATED},
            {"detected": DETECTED, "estimated": ESTIMATED},
        ),
        ("score.publish", [{"rows": 1}], {"partition": "2013-04-01", "scored": [{"rows": 1}]}),
    ],
)
def test_a_stage_is_given_what_the_one_before_printed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, stage: str, given: Any, told: dict[str, Any]
) -> None:
    from inspect import signature

    for name in local_run.PLACES:
        monkeypatch.setenv(name, tmp_path.as_uri())
    name = stage.partition(".")[2]
    module, calls = sys.modules[function_of(stage).__module__], []

    takes = signature(getattr(module, name))

    def stand_in(*values: Any) -> None:
        calls.append(dict(zip(list(takes.parameters)[1:], values[1:], strict=False)))

    stand_in.__signature__ = takes  # type: ignore[attr-defined]
    monkeypatch.setattr(module, name, stand_in)
    local_run.run(stage, "flight_delay", {"partition": "2013-04-01"}, given)
    assert calls == [told]


@pytest.mark.parametrize(
    ("first", "then", "handed_on"),
    [
        ("train.featurize", "train.check", [Share, FeaturizedShare, Checked]),
        ("score.score", "score.publish", [Shard, ScoredShard, ScoredPartition]),
    ],
)
@pytest.mark.parametrize("is_list", [True, False])
def test_a_stage_runs_for_each_element_of_a_list_and_the_next_one_takes_them_all(
    monkeypatch: pytest.MonkeyPatch,
    store_folder: Path,
    first: str,
    then: str,
    handed_on: list[type[HandOff]],
    is_list: bool,
) -> None:
    for name in local_run.PLACES:
        monkeypatch.setenv(name, store_folder.as_uri())
    before, *gives = handed_on
    calls: list[list[Any]] = []
    for stage, kind in zip((first, then), gives, strict=True):
        function = function_of(stage)

        @wraps(function)
        def stand_in(_: str, *values: Any, kind: type[HandOff] = kind) -> HandOff:
            calls.append([value for value in values if isinstance(value, list | HandOff)])
            return example(kind)

        monkeypatch.setattr(sys.modules[function.__module__], function.__name__, stand_in)
    elements = [example(before).model_dump(mode="json") for _ in range(2)]
    options = {"partition": "2013-04-01"}
    printed = to_json(local_run.run(first, "flight_delay", options, elements if is_list else elements[0]))
    assert isinstance(printed, list if is_list else dict)
    local_run.run(then, "flight_delay", options, printed)
    assert [type(values[0]) for values in calls] == [before] * (2 if is_list else 1) + [list]
    assert len(calls[-1][0]) == (2 if is_list else 1)


def test_of_an_empty_list_no_stage_runs(monkeypatch: pytest.MonkeyPatch, store_folder: Path) -> None:
    for name in local_run.PLACES:
        monkeypatch.setenv(name, store_folder.as_uri())
    with pytest.raises(ConfigError, match=r"train\.featurize is given an empty list: share"):
        local_run.run("train.featurize", "flight_delay", {}, [])
    with pytest.raises(ConfigError, match="by name: checked, trained"):
        local_run.run("train.evaluate", "flight_delay", {}, [])


@pytest.mark.parametrize(
    ("stage", "result", "command"),
    [
        ("train.sample", Share, "evergreen run train.featurize flight_delay --input FILE, "),
        ("train.check", Checked, "evergreen run train.train flight_delay --candidate CANDIDATE --input FILE, "),
        ("train.train", Trained, 'evergreen run train.evaluate flight_delay --input FILE, with {"checked": '),
        ("score.plan", Shard, "evergreen run score.score flight_delay --input FILE, "),
        ("score.score", ScoredShard, "evergreen run score.publish flight_delay --partition "),
    ],
)
def test_what_comes_next_is_said(stage: str, result: type[HandOff], command: str) -> None:
    stages = Stages(stage, "flight_delay")
    stages.ended(stage, [example(result)] * 2)
    (text,) = [text for title, text in stages.summary(None) if title == "next"]
    assert text.startswith(command)


def test_what_stages_use_is_of_one_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, store_folder: Path) -> None:
    from pipelines.problem import load_problem
    from pipelines.usage.table import tries

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def assess(problem_name: str, partition: str) -> Assessed:
        return example(Assessed, partition=partition)

    def step(problem_name: str, assessed: Assessed) -> None:
        raise NothingToDo("it stays where it is")

    for function in (assess, step):
        monkeypatch.setattr(
            sys.modules[function_of(f"release.{function.__name__}").__module__], function.__name__, function
        )
    for partition in ("2013-04-01", "2013-04-08"):
        with pytest.raises(NothingToDo):
            local_run.release("flight_delay", partition)
    used = tries(load_problem("flight_delay"))
    assert [(attempt.stage, attempt.partition, attempt.outcome) for attempt in used] == [
        ("release.assess", "2013-04-01", "done"),
        ("release.step", "2013-04-01", "skipped"),
        ("release.assess", "2013-04-08", "done"),
        ("release.step", "2013-04-08", "skipped"),
    ]
    assert len({attempt.run for attempt in used}) == 2
