"""What the store makes of a server's refusals, and of connections that break off."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipelines import store
from pipelines.errors import AccessError, ConfigError, DataError, ServiceUnavailable, TransientError
from pipelines.problem import Problem
from pipelines.store import objects
from pipelines.store.explained import explained
from tests.store.kettles import statements
from tests.store.s3_server import Handler, Server

ToyProblem = Callable[..., Problem]
DAY = "2024-01-01"


class Faulty(Handler):
    """Answers as `faults` say, (method, part of the path): (status, code); without a status the body breaks off."""

    server: FaultyServer

    def parse_request(self) -> bool:
        is_right = super().parse_request()
        for number, (method, place, status, code) in enumerate(self.server.faults):
            if is_right and method == self.command and place in self.path:
                del self.server.faults[number]
                self._body()
                if status:
                    self._refuse(status, code)
                else:
                    self.send_response(200)
                    self.send_header("Content-Length", "100")
                    self.end_headers()
                    self.wfile.write(b"half")
                    self.close_connection = True
                return False
        return is_right


class FaultyServer(Server):
    def __init__(self) -> None:
        super().__init__()
        self.RequestHandlerClass = Faulty  # type: ignore[assignment]
        self.faults: list[tuple[str, str, int, str]] = []


@pytest.fixture
def server(far: object, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyServer]:
    with FaultyServer() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
        yield server
        server.shutdown()


@pytest.mark.parametrize("again", [1, 3])
def test_an_answer_that_breaks_off_is_asked_for_again(server: FaultyServer, again: int) -> None:
    store.write_bytes("s3://bucket/a", b"whole")
    server.faults = [("GET", "bucket/a", 0, "")] * again
    assert store.read_bytes("s3://bucket/a") == b"whole"
    assert server.faults == []


def test_a_connection_that_breaks_off_each_time_is_told_as_a_server_that_does_not_answer(server: FaultyServer) -> None:
    server.faults = [("GET", "bucket/a", 0, "")] * 20
    with pytest.raises(ServiceUnavailable, match="does not answer"):
        store.read_bytes("s3://bucket/a")


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (403, "AccessDenied", AccessError),
        (400, "ExpiredToken", AccessError),
        (404, "NoSuchBucket", ConfigError),
        (507, "InsufficientStorage", DataError),
        (409, "ConditionalRequestConflict", TransientError),
    ],
)
def test_a_refusal_is_told_by_its_kind(
    server: FaultyServer, tmp_path: Path, status: int, code: str, kind: type[Exception]
) -> None:
    """Whether a file is written by one request or by several."""
    file = tmp_path / "file"
    file.write_bytes(bytes(9 * 2**20))
    server.faults = [("PUT", "bucket/a", status, code)]
    with pytest.raises(kind, match=r"bucket/a|ConditionalRequestConflict"), explained("s3://bucket/a"):
        objects.write("s3://bucket/a", b"")
    server.faults = [("PUT", "partNumber=2", status, code)]
    with pytest.raises(kind, match=r"bucket/a|ConditionalRequestConflict"), explained("s3://bucket/a"):
        objects.upload(file, "s3://bucket/a")


def test_clocks_that_are_apart_are_no_wrong_credentials(server: FaultyServer) -> None:
    server.faults = [("PUT", "bucket/a", 403, "RequestTimeTooSkewed")]
    with pytest.raises(AccessError, match=r"clock.*\n.*\n.*date -u"):
        store.write_bytes("s3://bucket/a", b"")


def test_a_large_file_of_which_a_part_is_refused_leaves_nothing(server: FaultyServer, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(bytes(20 * 2**20))
    server.faults = [("PUT", "partNumber=2", 403, "AccessDenied")]
    with pytest.raises(AccessError), explained("s3://bucket/a"):
        objects.upload(file, "s3://bucket/a")
    assert server.uploads == {}
    assert server.objects == {}
    objects.upload(file, "s3://bucket/a")
    assert objects.read("s3://bucket/a") == file.read_bytes()


def test_a_server_that_says_that_two_writers_met_is_asked_again(server: FaultyServer, toy: ToyProblem) -> None:
    server.faults = [("PUT", f"_delta_log/{0:020}", 409, "ConditionalRequestConflict")] * 2
    assert store.write_table(toy(), "labels", statements(DAY, 2), [DAY]) == 0
    assert store.dataset(toy(), "labels").count_rows() == 2


def test_a_slow_server_is_waited_for(server: FaultyServer) -> None:
    server.faults = [("PUT", "bucket/a", 503, "SlowDown")] * 2
    store.write_bytes("s3://bucket/a", b"1")
    assert store.read_bytes("s3://bucket/a") == b"1"


def test_folders_are_named_without_what_lies_in_them(place: str) -> None:
    assert store.folders(store.store_uri()) == []
    for name in ("kettle/events/a/1.parquet", "kettle/events/b/1.parquet", "pot/labels/1.parquet", "prices.yaml"):
        store.write_bytes(store.store_uri(name), b"rows")
    assert store.folders(store.store_uri()) == ["kettle", "pot"]
    assert store.folders(store.store_uri("kettle")) == ["events"]
