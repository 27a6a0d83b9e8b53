"""The object store as it runs: races, appends, kills, and a bucket made again. Swift is installed once and kept."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import boto3
import psutil
import pyarrow as pa
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from deltalake import CommitProperties, DeltaTable, write_deltalake

from pipelines.embedded import Embedded, object_store
from pipelines.embedded.processes.home import load_secrets, prepare
from pipelines.embedded.processes.ports import reserved_ports
from pipelines.embedded.processes.supervisor import Supervisor, marked
from pipelines.errors import ConfigError
from tests.object_store import HOME, installed

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


class Store:
    """An object store of its own in `home`, and what a client needs to use it."""

    def __init__(self, home: Path) -> None:
        self.home = home
        prepare(home)
        (home / "object_store" / "venv").symlink_to(installed())
        self.secrets = load_secrets(home)
        self.reserved = ExitStack()
        self.choose_ports()

    def choose_ports(self) -> None:
        self.reserved.close()
        self.ports = self.reserved.enter_context(reserved_ports(self.home))

    def start(self) -> None:
        self.supervisor = Supervisor(self.home)
        object_store.start(self.supervisor, self.home, self.ports["store"], self.secrets, lambda _: None)

    def stop(self) -> None:
        self.supervisor.stop()

    def kill(self) -> None:
        """As a machine that loses its power, as far as a process can tell."""
        for process in marked(self.home):
            process.kill()
        self.supervisor.stop()

    @property
    def environment(self) -> dict[str, str]:
        return object_store.client_environment(self.ports["store"], self.secrets)

    def client(self) -> Any:
        known = self.environment
        return boto3.client(
            "s3",
            endpoint_url=known["AWS_ENDPOINT_URL"],
            aws_access_key_id=known["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=known["AWS_SECRET_ACCESS_KEY"],
            region_name=known["AWS_REGION"],
            config=Config(
                signature_version="s3v4",
                s3={"addressing_style": "path"},
                max_pool_connections=16,
                retries={"total_max_attempts": 1},
                proxies={},
            ),
        )


@pytest.fixture
def home() -> Iterator[Path]:
    """Beside the installed software, whose file system keeps extended attributes."""
    HOME.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="store-", dir=HOME))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def store(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        monkeypatch.setenv("EVERGREEN_STORE_PORT", str(listener.getsockname()[1]))
    store = Store(home)
    store.start()
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.delenv("EVERGREEN_STORE_URI", raising=False)
    for name, value in store.environment.items():
        monkeypatch.setenv(name, value)
    with store.reserved:
        yield store
    store.stop()
    assert marked(home) == []


def status_of(error: ClientError) -> int:
    return int(error.response["ResponseMetadata"]["HTTPStatusCode"])


def wait(until: Callable[[], Any], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < end, f"not in {seconds} s"
        time.sleep(0.01)


def test_each_race_of_conditional_writers_has_one_winner(store: Store) -> None:
    client = store.client()

    def write(key: str, writer: int) -> int | None:
        try:
            client.put_object(Bucket="evergreen", Key=key, Body=str(writer).encode(), IfNoneMatch="*")
        except ClientError as error:
            assert status_of(error) in (409, 412)
            return None
        return writer

    with ThreadPoolExecutor(8) as pool:
        for race in range(30):
            key = f"log/{race:020}.json"
            winners = [won for won in pool.map(write, [key] * 8, range(8)) if won is not None]
            assert len(winners) == 1
            assert client.get_object(Bucket="evergreen", Key=key)["Body"].read() == str(winners[0]).encode()


def test_appends_of_eight_threads_to_one_table_are_all_in(store: Store) -> None:
    uri = "s3://evergreen/table"
    options = {"aws_conditional_put": "etag"}
    patience = CommitProperties(max_commit_retries=1000)  # by default a writer gives up when 15 others came first
    write_deltalake(uri, pa.table({"writer": [-1], "number": [-1]}), storage_options=options)

    # Two each are enough: without create_once two thirds are lost of four. A commit costs more the more came before.
    def append(writer: int) -> None:
        for number in range(2):
            rows = pa.table({"writer": [writer], "number": [number]})
            table = DeltaTable(uri, storage_options=options)
            write_deltalake(table, rows, mode="append", commit_properties=patience)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(append, range(8)))
    table = DeltaTable(uri, storage_options=options)
    rows = table.to_pyarrow_table().to_pylist()
    wanted = {(-1, -1)} | {(writer, number) for writer in range(8) for number in range(2)}
    assert sorted((row["writer"], row["number"]) for row in rows) == sorted(wanted)
    assert table.version() == 16


def test_killed_three_times_it_keeps_what_it_acknowledged(store: Store) -> None:
    acknowledged: dict[str, bytes] = {}
    for life in range(3):
        client, stopping = store.client(), threading.Event()

        def write(writer: int, life: int = life, client: Any = client, stopping: Any = stopping) -> None:
            for number in range(10_000):
                key, body = f"{life}/{writer}/{number}", os.urandom(2_000 * (1 + number % 50))
                try:
                    client.put_object(Bucket="evergreen", Key=key, Body=body)
                except (ClientError, BotoCoreError):
                    return
                acknowledged[key] = body
                if stopping.is_set():
                    return

        with ThreadPoolExecutor(4) as pool:
            writing = [pool.submit(write, writer) for writer in range(4)]
            before = len(acknowledged)
            wait(lambda before=before: len(acknowledged) >= before + 40)  # type: ignore[misc]
            store.kill()
            stopping.set()
            for future in writing:
                future.result()
        store.start()
    client = store.client()
    pages = client.get_paginator("list_objects_v2").paginate(Bucket="evergreen")
    listed = {entry["Key"]: entry["Size"] for page in pages for entry in page.get("Contents", [])}
    for key, body in acknowledged.items():
        assert listed[key] == len(body)
        assert client.get_object(Bucket="evergreen", Key=key)["Body"].read() == body


def test_a_bucket_that_is_deleted_and_made_again_is_told_of_as_it_is(store: Store) -> None:
    client = store.client()
    watching = threading.Event()

    def watch() -> None:
        """Others ask all the time: what they are told must not be remembered past the bucket's end."""
        own = store.client()
        while not watching.is_set():
            for ask in (own.head_bucket, own.list_objects_v2):
                try:
                    ask(Bucket="again")
                except ClientError as error:
                    assert status_of(error) in (404, 409)

    with ThreadPoolExecutor(3) as pool:
        watchers = [pool.submit(watch) for _ in range(3)]
        try:
            for round_number in range(15):
                client.create_bucket(Bucket="again")
                client.put_object(Bucket="again", Key="key", Body=str(round_number).encode())
                assert client.get_object(Bucket="again", Key="key")["Body"].read() == str(round_number).encode()
                assert [entry["Key"] for entry in client.list_objects_v2(Bucket="again")["Contents"]] == ["key"]
                client.delete_object(Bucket="again", Key="key")
                client.delete_bucket(Bucket="again")
                for refused in (client.put_object, client.get_object):
                    with pytest.raises(ClientError) as error:
                        refused(Bucket="again", Key="key")
                    assert error.value.response["Error"]["Code"] == "NoSuchBucket"
        finally:
            watching.set()
    for watcher in watchers:
        watcher.result()


def test_large_and_odd_objects_come_back_as_they_were(store: Store) -> None:
    client = store.client()
    large = os.urandom(13 * 2**20 + 7)
    bodies = {
        "empty": b"",
        "small": b"x",
        "a b+c%20d/ü/\u65e5": b"name",
        "one chunk": os.urandom(2**20),
        "large": large,
    }
    for key, body in bodies.items():
        client.put_object(Bucket="evergreen", Key=key, Body=body, Metadata={"note": "kept"})
    for key, body in bodies.items():
        answer = client.get_object(Bucket="evergreen", Key=key)
        assert answer["Body"].read() == body
        assert answer["Metadata"] == {"note": "kept"}
    part = client.get_object(Bucket="evergreen", Key="large", Range="bytes=1048570-1048600")
    assert part["Body"].read() == large[1048570:1048601]
    tail = client.get_object(Bucket="evergreen", Key="large", Range="bytes=-5")
    assert tail["Body"].read() == large[-5:]
    two = client.get_object(Bucket="evergreen", Key="large", Range="bytes=0-9,2000000-2000009")
    assert two["ContentType"].startswith("multipart/byteranges")
    several = two["Body"].read()
    assert large[:10] in several
    assert large[2_000_000:2_000_010] in several
    client.copy_object(Bucket="evergreen", Key="copy", CopySource={"Bucket": "evergreen", "Key": "large"})
    assert client.get_object(Bucket="evergreen", Key="copy")["Body"].read() == large
    upload = client.create_multipart_upload(Bucket="evergreen", Key="parts")["UploadId"]
    parts = []
    for number, (start, stop) in enumerate([(0, 6 * 2**20), (6 * 2**20, len(large))], start=1):
        given = {"Bucket": "evergreen", "Key": "parts", "UploadId": upload, "PartNumber": number}
        parts.append({"PartNumber": number, "ETag": client.upload_part(**given, Body=large[start:stop])["ETag"]})
    client.complete_multipart_upload(Bucket="evergreen", Key="parts", UploadId=upload, MultipartUpload={"Parts": parts})
    assert client.get_object(Bucket="evergreen", Key="parts")["Body"].read() == large
    client.delete_objects(Bucket="evergreen", Delete={"Objects": [{"Key": key} for key in [*bodies, "copy", "parts"]]})
    assert "Contents" not in client.list_objects_v2(Bucket="evergreen")


def test_it_is_one_process_that_opens_one_port(store: Store) -> None:
    (process,) = marked(store.home)
    listening = [c.laddr for c in process.net_connections("all") if c.status == psutil.CONN_LISTEN]
    assert listening == [("127.0.0.1", store.ports["store"])]
    assert not [c for c in process.net_connections("unix") if c.laddr]


def test_without_a_login_nothing_is_given_or_taken(store: Store) -> None:
    port = store.ports["store"]
    own = (
        "/v1/AUTH_evergreen",
        "/v1/AUTH_evergreen/evergreen/x",
        "/evergreen/x",
        "/sdb1/0/AUTH_evergreen",
        "/recon/mem",
    )
    for method in ("GET", "HEAD", "PUT", "POST", "DELETE"):
        for path in (*own, "/info", "/", "/endpoints/v1/a/b/c"):
            for host in (f"127.0.0.1:{port}", "evil.example"):
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
                connection.request(method, path, b"", {"Host": host})
                status = connection.getresponse().status
                connection.close()
                assert status in (400, 401, 403, 404, 405, 412), f"{method} {path} of {host}: {status}"


def test_connections_inside_the_process_keep_their_promises() -> None:
    script = Path(__file__).with_name("connections_in_process.py")
    environment = {"PYTHONPATH": str(object_store.SCRIPTS)}
    command = [str(installed() / "bin" / "python"), str(script)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.split()) == 11


def test_an_upload_that_breaks_off_leaves_the_object_as_it_was(store: Store) -> None:
    client = store.client()
    client.put_object(Bucket="evergreen", Key="key", Body=b"before")
    device = str(store.home / "object_store" / "devices" / "d1" / "objects")
    (process,) = marked(store.home)

    def half_written() -> list[str]:
        """Files without a name yet, which the kernel removes when they are closed."""
        opened = []
        for link in Path(f"/proc/{process.pid}/fd").iterdir():
            with suppress(FileNotFoundError):  # closed since
                opened.append(str(link.readlink()))
        return [path for path in opened if path.startswith(device) and path.endswith("(deleted)")]

    url = client.generate_presigned_url("put_object", Params={"Bucket": "evergreen", "Key": "key"})
    for encoding, sent in (
        ("Content-Length: 9000000", b"x" * 5_000_000),
        ("Content-Length: 9000000", b""),
        ("Transfer-Encoding: chunked", b"3\r\nabc\r\n"),
    ):
        with socket.create_connection(("127.0.0.1", store.ports["store"])) as connection:
            path = url.split(str(store.ports["store"]), 1)[1]
            head = f"PUT {path} HTTP/1.1\r\nHost: 127.0.0.1:{store.ports['store']}\r\n{encoding}\r\n\r\n"
            connection.sendall(head.encode() + sent)
            wait(half_written)
        wait(lambda: not half_written())
    assert client.get_object(Bucket="evergreen", Key="key")["Body"].read() == b"before"
    large = os.urandom(9_000_000)
    client.put_object(Bucket="evergreen", Key="key", Body=large)
    client.get_object(Bucket="evergreen", Key="key")["Body"].close()
    assert client.get_object(Bucket="evergreen", Key="key")["Body"].read() == large


def test_a_listing_that_an_unclean_end_left_behind_is_brought_up_to_date(store: Store) -> None:
    store.stop()
    code = """
import sys
from swift.common import utils
from swift.obj.diskfile import DiskFileManager
from swift.common.storage_policy import POLICIES
etc, devices = sys.argv[1:]
utils.set_swift_dir(etc)
utils.validate_configuration()
now = utils.Timestamp.now()
headers = {"x-size": "3", "x-content-type": "text/plain", "x-timestamp": now.internal, "x-etag": "e" * 32}
headers |= {"user-agent": "test", "x-trans-id": "t", "x-backend-storage-policy-index": "0"}
data = {"op": "PUT", "account": "AUTH_evergreen", "container": "evergreen", "obj": "pending", "headers": headers}
manager = DiskFileManager({"devices": devices, "mount_check": "false"}, utils.get_logger({}))
manager.pickle_async_update("d1", "AUTH_evergreen", "evergreen", "pending", data, now, POLICIES[0])
"""
    folder = store.home / "object_store"
    command = [str(installed() / "bin" / "python"), "-c", code, str(folder / "etc"), str(folder / "devices")]
    subprocess.run(command, check=True)
    pending = [path for path in (folder / "devices" / "d1").glob("async_pending*/*/*") if path.is_file()]
    assert len(pending) == 1
    store.start()
    assert [entry["Key"] for entry in store.client().list_objects_v2(Bucket="evergreen")["Contents"]] == ["pending"]
    assert not pending[0].exists()


def test_a_store_of_four_processes_goes_on_as_one(store: Store) -> None:
    """Earlier each server had a port of its own, which the rings name and ports.json remembers."""
    store.client().put_object(Bucket="evergreen", Key="key", Body=b"kept")
    store.stop()
    etc = store.home / "object_store" / "etc"
    before = {"account": 9001, "container": 9002, "object": 9003}
    code = "import sys, rings; rings.write_ring(sys.argv[1], int(sys.argv[2]))"
    for kind, port in before.items():
        command = [str(installed() / "bin" / "python"), "-c", code, str(etc / f"{kind}.ring.gz"), str(port)]
        subprocess.run(command, check=True, env={"PYTHONPATH": str(object_store.SCRIPTS)})
    (etc / "rings").write_text(" ".join(map(str, before.values())))
    remembered = {**store.ports, **{f"store_{kind}": port for kind, port in before.items()}}
    (store.home / "ports.json").write_text(json.dumps(remembered))
    store.choose_ports()
    assert store.ports.keys() == {"airflow", "mlflow", "store"}
    store.start()
    assert store.client().get_object(Bucket="evergreen", Key="key")["Body"].read() == b"kept"
    assert [entry["Key"] for entry in store.client().list_objects_v2(Bucket="evergreen")["Contents"]] == ["key"]


def packed_and_unpacked(*options: str) -> str:
    return f'mkdir "$1" && tar {" ".join(options)} -cC "$0" . | tar {" ".join(options)} -xC "$1"'


@pytest.mark.parametrize("command", ['cp -r "$0" "$1"', packed_and_unpacked()])
def test_a_copy_without_attributes_is_refused_before_anything_is_touched(store: Store, command: str) -> None:
    store.client().put_object(Bucket="evergreen", Key="key", Body=b"kept")
    store.stop()
    copy = store.home.with_name(f"{store.home.name}-copy")
    subprocess.run(["sh", "-c", command, str(store.home), str(copy)], check=True)
    try:
        before = {path: path.lstat().st_ctime_ns for path in (copy, *copy.rglob("*"))}
        services = Embedded(copy)
        with pytest.raises(ConfigError, match="1 of 1 looked at have no user") as refusal:
            services.start(print)
        assert refusal.value.where.startswith(str(copy))
        assert {path: path.lstat().st_ctime_ns for path in (copy, *copy.rglob("*"))} == before
    finally:
        shutil.rmtree(copy)


@pytest.mark.parametrize("command", ['cp -a "$0" "$1"', packed_and_unpacked("--xattrs", "--xattrs-include='user.*'")])
def test_a_copy_with_attributes_serves_the_same_objects(store: Store, command: str) -> None:
    store.client().put_object(Bucket="evergreen", Key="key", Body=b"kept")
    store.stop()
    original = store.home.rename(store.home.with_name(f"{store.home.name}-original"))
    subprocess.run(["sh", "-c", command, str(original), str(store.home)], check=True)
    shutil.rmtree(original)
    object_store.refuse_without_attributes(store.home)
    store.start()
    assert store.client().get_object(Bucket="evergreen", Key="key")["Body"].read() == b"kept"
