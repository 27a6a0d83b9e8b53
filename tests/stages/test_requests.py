"""How often the stages ask an S3 server for anything: `python -m benchmarks.requests` counts a week of the demo."""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest

from benchmarks.requests import Requests, noting_stages, table
from pipelines import local_run
from pipelines.errors import NothingToDo
from pipelines.store import objects
from tests.stages.conftest import in_shards

WEEK = "2013-02-11"

pytestmark = pytest.mark.slow


def test_a_stage_asks_for_nothing_twice(
    loop: str, s3_server: Requests, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_shards(loop)
    here = Path(os.environ["EVERGREEN_STORE_URI"].removeprefix("file://"))
    monkeypatch.setenv("EVERGREEN_STORE_URI", "s3://bucket/loop")
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server.endpoint)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "any")
    for path in here.rglob("*"):
        if path.is_file():
            objects.write(f"s3://bucket/loop/{path.relative_to(here)}", path.read_bytes())
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # a machine that has read nothing yet
    before = len(s3_server.seen())
    with noting_stages(s3_server), suppress(NothingToDo):
        local_run.ingest(loop, WEEK, WEEK)
        local_run.score(loop, WEEK)
        local_run.monitor(loop, WEEK)
    week = s3_server.seen()[before:]
    stages = [one.stage for one in week]
    assert {"ingest.publish", "score.score", "monitor.act"} <= set(stages)
    # There are three shards, and two stages after which the problem stands otherwise: after each the ledger is looked
    # at twice, once more when all is written.
    entered = {stage: {"score.score": 3, "health": 4}.get(stage, 1) for stage in stages}
    asked = Counter((one.stage, one.kind, one.path) for one in week if one.kind in ("GET", "LIST"))
    assert {about: times for about, times in asked.items() if times > entered[about[0]]} == {}
    assert "HEAD" not in {one.kind for one in week}, "what is wanted is asked for, and not whether it is there"
    assert len(week) < 230, table(week)
