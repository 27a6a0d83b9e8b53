"""The tutorial, as a reader goes through it: its files are written, its commands run, and they say what it shows."""

from __future__ import annotations

import logging
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from benchmarks.left_out import draw_nothing, judge_by_duckdb
from pipelines.cli.app import main
from pipelines.problem import ROOT
from tests.docs.blocks import Block, blocks
from tests.docs.test_blocks import check_python, merged
from tests.mlflow_database import mlflow_in

TUTORIAL = ROOT / "docs" / "tutorial.md"
PROBLEM = Path("include/problems/fog/problem.yaml")


class Reader:
    """Somebody in an empty folder, who does what the page says."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._folder, self._monkeypatch, self._capsys = folder, monkeypatch, capsys
        self._printed = ""
        self._codes: list[int] = []
        self.ran: list[str] = []
        monkeypatch.chdir(folder)
        monkeypatch.setenv("EVERGREEN_PROBLEMS", str(folder / "include/problems"))

    def follow(self, block: Block) -> None:
        match block.kind:
            case "python":
                check_python(block)
            case "yaml":
                before = yaml.safe_load(PROBLEM.read_text()) if PROBLEM.exists() else {}
                PROBLEM.write_text(yaml.safe_dump(merged(before, yaml.safe_load(block.text))))
            case "console":
                self._codes, self._printed = [], ""
                for line in block.text.splitlines():
                    self._type(shlex.split(line))
            case "text":
                self._compare(block.text)

    def _type(self, words: list[str]) -> None:
        if words[0] == "export":
            name, _, value = words[1].partition("=")
            store = (self._folder / "store").as_uri()
            self._monkeypatch.setenv(name, mlflow_in(self._folder) if name.startswith("MLFLOW") else store)
            assert value.startswith(("file:///tmp/fog", "sqlite:////tmp/fog"))
        elif words[0] == "evergreen":
            self.ran.append(" ".join(words[1:3]))
            self._monkeypatch.setattr(sys, "argv", words)
            try:
                main()
                self._codes.append(0)
            except SystemExit as ended:
                self._codes.append(int(ended.code or 0))
            output = self._capsys.readouterr()
            self._printed += output.out + output.err
        else:
            assert words == ["make", "up"]

    def _compare(self, shown: str) -> None:
        """Every line that the page shows was printed, with numbers of its own; an error where it shows one."""
        is_wrong = bool(re.search(r"^(error:|wrong )", shown, re.MULTILINE))
        assert self._codes[-1] == int(is_wrong), self._printed
        flat = " ".join(self._printed.split())
        for line in shown.splitlines():
            assert re.search(_pattern(line), flat), f"{line!r} is not in what was printed:\n{self._printed}"


def _pattern(line: str) -> str:
    """A line with any numbers, and with anything for `...`.

    >>> _pattern("gate  0.4 s ...")
    'gate \\\\d[\\\\d,.]* s .*'
    """
    words = (re.sub(r"\d[\d,.]*", "0", word) for word in line.split())
    return " ".join(re.escape(word).replace("0", r"\d[\d,.]*").replace(r"\.\.\.", ".*") for word in words)


@pytest.fixture
def reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Reader]:
    log = logging.getLogger("pipelines")  # a command that shows progress adds a handler to it, and is not alone here
    before = (log.handlers.copy(), log.level, log.propagate)
    judge_by_duckdb(monkeypatch.setattr)  # no reader would see the difference
    draw_nothing(monkeypatch.setattr)
    yield Reader(tmp_path, monkeypatch, capsys)
    log.handlers, log.level, log.propagate = before


@pytest.mark.slow
def test_the_tutorial_does_what_it_says(reader: Reader) -> None:
    for block in blocks(TUTORIAL):
        reader.follow(block)
    assert {"run train", "run score", "run monitor", "status fog", "quarantine partitions"} <= set(reader.ran)
