from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.requests import Request, Requests


@pytest.fixture
def far(s3_server: Requests, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[Request]]:
    """An empty store on S3, and a machine that has read nothing of it; gives the requests since it was last asked."""
    for name, value in {
        "EVERGREEN_STORE_URI": f"s3://bucket/{tmp_path.name}",
        "AWS_ENDPOINT_URL": s3_server.endpoint,
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "b",
        "AWS_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    told = len(s3_server.seen())

    def since() -> list[Request]:
        nonlocal told
        requests = s3_server.seen()[told:]
        told += len(requests)
        return requests

    return since


@pytest.fixture(params=["near", "far"])
def place(request: pytest.FixtureRequest) -> str:
    """A test that takes this runs on a store in a folder, and on one on S3."""
    request.getfixturevalue({"near": "store_folder", "far": "far"}[request.param])
    return str(request.param)
