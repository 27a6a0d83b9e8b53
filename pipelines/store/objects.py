"""Objects on an S3 server, each read and written whole: one request each, and none to ask whether it is there.

What the server refuses is raised as an OSError: FileNotFoundError, FileExistsError, or one with the server's words.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from pipelines.errors import TransientError
from pipelines.store import traffic

if TYPE_CHECKING:
    from pathlib import Path

    from botocore.exceptions import ClientError
    from pyarrow.fs import FileSystem

CONNECTIONS = 16  # at most, at once
DELETED_AT_ONCE = 1000  # S3's own limit
READ_TRIES = 5  # the client repeats what got no answer, not what broke off within one


class Listed(NamedTuple):
    """An object as a listing tells of it."""

    key: str
    """in its bucket"""
    size: int
    """bytes"""
    etag: str
    """another one whenever the content is"""
    modified: float
    """when it was written, in Unix seconds by the store's clock"""


def read(uri: str) -> bytes:
    """Raises FileNotFoundError when nothing is there."""
    from botocore.exceptions import HTTPClientError, IncompleteReadError

    bucket, key = _parts(uri)
    with _as_os_errors():
        for left in reversed(range(READ_TRIES)):
            body = _client().get_object(Bucket=bucket, Key=key)["Body"]
            try:
                content: bytes = body.read()
            except (HTTPClientError, IncompleteReadError):
                if not left:
                    raise
            else:
                traffic.count(bytes_read=len(content))
                return content
    raise AssertionError("unreachable")


def is_there(uri: str) -> bool:
    bucket, key = _parts(uri)
    try:
        with _as_os_errors():
            _client().head_object(Bucket=bucket, Key=key)
    except FileNotFoundError:
        return False
    return True


def write(uri: str, content: bytes, is_new: bool = False) -> str:
    """Whole or not at all; gives the new object's ETag. `is_new`: raises FileExistsError when something is there."""
    bucket, key = _parts(uri)
    condition = {"IfNoneMatch": "*"} if is_new else {}
    with _as_os_errors():
        etag = str(_client().put_object(Bucket=bucket, Key=key, Body=content, **condition)["ETag"])
    traffic.count(bytes_written=len(content))
    return etag


def upload(path: Path, uri: str) -> None:
    """A file of any size, in several requests if it is large, CONNECTIONS at once."""
    from boto3.s3.transfer import TransferConfig

    bucket, key = _parts(uri)
    with _as_os_errors():
        _client().upload_file(str(path), bucket, key, Config=TransferConfig(max_concurrency=CONNECTIONS))
    traffic.count(bytes_written=path.stat().st_size)


def delete(uri: str) -> None:
    """Nothing there is fine."""
    bucket, key = _parts(uri)
    with _as_os_errors():
        _client().delete_object(Bucket=bucket, Key=key)


def delete_all(bucket: str, keys: Sequence[str]) -> None:
    with _as_os_errors():
        for start in range(0, len(keys), DELETED_AT_ONCE):
            some = [{"Key": key} for key in keys[start : start + DELETED_AT_ONCE]]
            answer = _client().delete_objects(Bucket=bucket, Delete={"Objects": some, "Quiet": True})
            for failed in answer.get("Errors", []):
                raise OSError(f"{failed['Key']} was not deleted: {failed.get('Code')} {failed.get('Message')}")


def listing(uri: str, after: str = "", most: int = 1000) -> Iterator[Listed]:
    """Objects whose URI starts so, by key; `after`: only those whose rest of the key comes later. `most`: in a page."""
    bucket, prefix = _parts(uri)
    asked: dict[str, Any] = {"Bucket": bucket, "Prefix": prefix, "MaxKeys": most}
    if after:
        asked["StartAfter"] = prefix + after
    while True:
        with _as_os_errors():
            page = _client().list_objects_v2(**asked)
        for entry in page.get("Contents", []):
            yield Listed(entry["Key"], entry["Size"], entry["ETag"], entry["LastModified"].timestamp())
        if not page.get("IsTruncated"):
            return
        asked["ContinuationToken"] = page["NextContinuationToken"]


def folders(uri: str) -> list[str]:
    """What follows a folder's own key, up to the next slash: each name once, sorted."""
    bucket, prefix = _parts(uri)
    with _as_os_errors():
        pages = _client().get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix, Delimiter="/")
        found = [entry["Prefix"] for page in pages for entry in page.get("CommonPrefixes", ())]
    return sorted(name.removeprefix(prefix).rstrip("/") for name in found)


def bucket_of(uri: str) -> str:
    return _parts(uri)[0]


def file_system() -> FileSystem:
    """Arrow's client, for objects that are too large to be kept whole."""
    return _file_system(os.getpid(), *_settings())


def _parts(uri: str) -> tuple[str, str]:
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    return bucket, key


def _settings() -> tuple[str, ...]:
    """What a client is made by: another one where the environment says another thing, such as in tests."""
    names = ("AWS_ENDPOINT_URL", "AWS_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
    return tuple(os.environ.get(name, "") for name in names)


def _client() -> Any:
    return _client_of(os.getpid(), *_settings())


@cache
def _client_of(process: int, endpoint: str, region: str, *keys: str) -> Any:
    """One for each process: a connection is not to be shared with a process that forked."""
    import boto3
    from botocore.config import Config

    config = Config(
        signature_version="s3v4",
        s3={"addressing_style": "path" if endpoint else "auto"},
        connect_timeout=10,
        max_pool_connections=CONNECTIONS,
        retries={"mode": "standard", "max_attempts": 5},
        # Checksums beside the signature's: not every server knows them.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    session = boto3.Session()  # the one that boto3 has is not to be used by two threads at once
    client = session.client("s3", endpoint_url=endpoint or None, region_name=region or "us-east-1", config=config)
    client.meta.events.register("before-send.s3", _count_request)
    return client


def _count_request(**_: Any) -> None:
    """Called by the client for each request that it sends, repeated ones too."""
    traffic.count(requests=1)


@cache
def _file_system(process: int, endpoint: str, region: str, *keys: str) -> FileSystem:
    from pyarrow.fs import S3FileSystem

    scheme, _, address = endpoint.rpartition("://")
    return S3FileSystem(
        endpoint_override=address or None,
        scheme=scheme or "https",
        region=region or "us-east-1",
        connect_timeout=10,
        allow_delayed_open=True,  # what turns out small is one request
    )


@contextmanager
def _as_os_errors() -> Iterator[None]:
    from boto3.exceptions import S3UploadFailedError
    from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError, IncompleteReadError

    try:
        yield
    except S3UploadFailedError as error:  # of a file in several requests: one of them was refused
        raise _os_error(error.__context__) if isinstance(error.__context__, ClientError) else OSError(error) from error
    except ClientError as error:
        raise _os_error(error) from error
    except (HTTPClientError, IncompleteReadError) as error:
        raise ConnectionError(f"connection to the store broke off: {error}") from error
    except BotoCoreError as error:
        raise OSError(str(error)) from error


def _os_error(error: ClientError) -> OSError | TransientError:
    code, status = error.response["Error"].get("Code"), error.response["ResponseMetadata"].get("HTTPStatusCode")
    if status == 404 and code != "NoSuchBucket":
        return FileNotFoundError(str(error))
    if status == 412:
        return FileExistsError(str(error))
    if status == 409:
        return TransientError("two writers of one object met", where=str(error), cure="try again")
    return OSError(f"{error} (HTTP status {status})")
