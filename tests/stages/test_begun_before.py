"""Trainings that began before their stages handed on what they hand on today."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from pipelines import store
from pipelines.evaluation.page.page import page
from pipelines.problem import load_problem
from pipelines.stages import train
from pipelines.stages.label import staging_uri
from tests.conftest import TOY


def test_a_training_that_was_checked_before_it_was_said_what_its_rows_show_goes_on(
    tmp_path: Path, store_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "problems" / "kettle"
    folder.mkdir(parents=True)
    (folder / "problem.yaml").write_text(yaml.safe_dump(TOY))
    monkeypatch.setenv("EVERGREEN_PROBLEMS", str(folder.parent))
    leaks = {"checked": True, "findings": []}
    store.finish(staging_uri(load_problem("kettle"), "1"), {"leaks": leaks})
    checked = train.check("kettle", {"training": "1", "training_set": "2"})
    assert (checked["leaks"], checked["power"]) == (leaks, None)
    assert b"Differences that the rows show" in page({"power": checked["power"]})
