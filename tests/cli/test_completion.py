"""What the shell offers after <TAB>."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.cli import completion
from tests.cli.test_app import evergreen


def offered(*words: str, **environment: str) -> list[str]:
    """What bash is given for the last of the words that stand on the line."""
    asked = {"_EVERGREEN_COMPLETE": "complete_bash", "COMP_WORDS": " ".join(["evergreen", *words])}
    return evergreen(**asked, COMP_CWORD=str(len(words)), **environment).stdout.split()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["quar"], ["quarantine"]),
        (["status", "fl"], ["flight_delay"]),
        (["check", "fl"], ["flight_delay"]),
        (["run", "m"], ["monitor"]),
        (["run", "train.re"], ["train.refit", "train.register"]),
        (["run", "ingest", "flight_delay", "--first", "2013-02"], [f"2013-02-{day}" for day in ("04", 11, 18, 25)]),
        (["run", "train.train", "flight_delay", "--candidate", "lo"], ["logistic"]),
        (["quarantine", "hold", "flight_delay", "2013-12-3"], ["2013-12-30"]),
        (["reproduce", "fl"], ["flight_delay@"]),
        (["run", "ingest", "no_such_problem", "--first", "2"], []),
        (["roll-back", "nothing"], []),
    ],
)
def test_what_stands_there_is_completed(words: list[str], expected: list[str]) -> None:
    assert offered(*words) == expected


def test_versions_are_completed_where_tables_are_in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for version in ("2", "10"):
        (tmp_path / "flight_delay" / "models" / version).mkdir(parents=True)
    monkeypatch.setenv("EVERGREEN_STORE_URI", tmp_path.as_uri())
    assert completion.versions("flight_delay@") == ["flight_delay@2", "flight_delay@10"]
    assert completion.versions("flight_delay@1") == ["flight_delay@10"]
    monkeypatch.setenv("EVERGREEN_STORE_URI", "s3://bucket/store")
    assert completion.versions("flight_delay@") == []
