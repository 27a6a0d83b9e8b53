"""Where things lie: addresses in the store, and what a client needs to reach them."""

from __future__ import annotations

import os

from pipelines.artifacts import TableName
from pipelines.errors import ConfigError
from pipelines.problem import Problem


def store_uri(*parts: str) -> str:
    """URI of something in the store; raises ConfigError when no store is configured."""
    root = os.environ.get("EVERGREEN_STORE_URI", "").rstrip("/")
    if not root.startswith(("s3://", "file:///")):
        raise ConfigError(
            f"EVERGREEN_STORE_URI is {root!r}" if root else "EVERGREEN_STORE_URI is not set",
            where="environment",
            cure="set it to s3://bucket/prefix or file:///folder, or start the embedded store with `evergreen up`",
        )
    return "/".join([root, *parts])


def table_uri(problem: Problem, name: TableName) -> str:
    """`features` keeps one table per feature set version, since their columns differ."""
    return store_uri(problem.name, name, *([problem.feature_set] if name == "features" else []))


def is_far(uri: str) -> bool:
    """Whether it lies on an S3 server, where one waits for each request."""
    return uri.startswith("s3://")


def storage_options() -> dict[str, str]:
    """What Delta needs beside the AWS_* variables that it reads by itself."""
    endpoint = os.environ.get("AWS_ENDPOINT_URL", "")
    if not is_far(store_uri()):
        return {}
    options = {"aws_conditional_put": "etag"}
    if endpoint:
        options["AWS_ENDPOINT_URL"] = endpoint
    if endpoint.startswith("http://"):
        options["AWS_ALLOW_HTTP"] = "true"
    return options
