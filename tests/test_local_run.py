from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from pipelines import local_run
from pipelines.errors import NothingToDo
from pipelines.handoffs.monitoring import Detected, Estimated, Explained
from pipelines.handoffs.releases import Assessed
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
