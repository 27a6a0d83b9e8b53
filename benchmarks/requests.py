"""Requests to the object store: how many a week of the default problem makes, by stage, by table and by kind.

    python -m benchmarks.requests [weeks before the counted one]

History in one bulk run, a trained champion, some weeks, then one week that is counted: ingest, score, monitor, without
Airflow, each stage as a task of its own. A proxy on loopback stands between the stages and the store, and counts what
passes. The store is the one that the environment names (EVERGREEN_STORE_URI, AWS_ENDPOINT_URL), else the embedded one,
started alone in EVERGREEN_HOME; its bucket should be empty. MLflow is a SQLite file.
"""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import tempfile
import time
from bisect import bisect
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

from benchmarks.arguments import one_number

if TYPE_CHECKING:
    from pipelines.health.document import Health
    from pipelines.problem import Problem

PROBLEM = "flight_delay"
HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding"}


class Request(NamedTuple):
    """One request that the store has answered."""

    stage: str
    """the one that was entered last when it came"""
    method: str
    path: str
    """key with its bucket, as people read it; of a listing its prefix"""
    is_listing: bool
    range: str
    status: int
    seconds: float

    @property
    def kind(self) -> str:
        """What it did: `GET`, `HEAD`, `PUT`, `DELETE`, `LIST` or `POST`."""
        return "LIST" if self.is_listing else self.method

    @property
    def place(self) -> str:
        """What it was about: a table's log or its rows, or else the first folder below the problem's."""
        parts = self.path.split("/")[2:]
        if "_delta_log" in parts:
            return f"{parts[0]}: log"
        name = parts[0] if parts else ""
        return f"{name}: rows" if self.path.endswith(".parquet") and "=" in self.path else name


class Requests:
    """What passes the proxy at `endpoint`, from whatever process it comes."""

    def __init__(self, endpoint: str, log: Path) -> None:
        self.endpoint = endpoint
        self._log = log
        self._stages: list[tuple[float, str]] = []

    def enter(self, stage: str) -> None:
        """Requests from now on are of this stage."""
        self._stages.append((time.monotonic(), stage))

    def seen(self) -> list[Request]:
        """All requests that have been answered so far, in the order of their answers."""
        starts = [start for start, _ in self._stages]
        found = []
        for line in self._log.read_text().splitlines():
            at, *about = json.loads(line)
            place = bisect(starts, at)
            found.append(Request(self._stages[place - 1][1] if place else "", *about))
        return found


def table(requests: Sequence[Request]) -> str:
    """Counts by stage, by place and by kind, the largest first."""
    distinct = len({(one.kind, one.path, one.range) for one in requests})
    lines = [f"{len(requests):,} requests, {distinct:,} distinct"]
    for title, names in (
        ("stage", [one.stage for one in requests]),
        ("place", [one.place for one in requests]),
        ("kind", [one.kind for one in requests]),
    ):
        told = ", ".join(f"{name or 'none'} {count:,}" for name, count in Counter(names).most_common())
        lines.append(f"  by {title}: {told}")
    return "\n".join(lines)


@contextmanager
def counted(endpoint: str) -> Iterator[Requests]:
    """A proxy before the S3 server at `endpoint` that passes everything on as it comes, signatures included.

    Clients are to use the `endpoint` of what is given, such as by AWS_ENDPOINT_URL. The proxy is a process of its own:
    a client in C++ may wait for an answer while it keeps all of Python waiting.
    """
    with tempfile.TemporaryDirectory(prefix="evergreen-requests-") as folder:
        log = Path(folder, "requests.jsonl")
        log.touch()
        command = [sys.executable, "-m", "benchmarks.requests", "proxy", endpoint, str(log)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as proxy:
            assert proxy.stdout is not None
            port = proxy.stdout.readline().strip()
            try:
                yield Requests(f"http://127.0.0.1:{port}", log)
            finally:
                proxy.terminate()


def serve(endpoint: str, log: Path) -> None:
    """Be the proxy: its port is printed, what passes is written down, a line each."""
    with log.open("a", buffering=1) as lines:

        class Counting(_Passing):
            upstream = urlsplit(endpoint)
            counts = lines

        server = ThreadingHTTPServer(("127.0.0.1", 0), Counting)
        server.daemon_threads = True
        print(server.server_port, flush=True)
        server.serve_forever()


class _Passing(BaseHTTPRequestHandler):
    """One connection of a client, with one of its own to the store."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    upstream: Any
    counts: Any

    def setup(self) -> None:
        super().setup()
        secure = self.upstream.scheme == "https"
        make = http.client.HTTPSConnection if secure else http.client.HTTPConnection
        self.store = make(self.upstream.netloc, timeout=300)

    def finish(self) -> None:
        super().finish()
        self.store.close()

    def log_message(self, *_: Any) -> None:
        """Nothing: what passes is counted."""

    def handle_expect_100(self) -> bool:
        super().handle_expect_100()
        self.wfile.flush()  # the client waits for it
        return True

    def _pass(self) -> None:
        start = time.monotonic()
        body = self._body()
        headers = {name: value for name, value in self.headers.items() if name.lower() not in HOP_BY_HOP | {"expect"}}
        headers["Content-Length"] = str(len(body))
        self.store.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in headers.items():
            self.store.putheader(name, value)
        self.store.endheaders(body)
        answer = self.store.getresponse()
        content = answer.read()
        self._count(answer.status, time.monotonic() - start)  # before whoever has the answer asks how many they were
        self.send_response_only(answer.status, answer.reason)
        length = answer.getheader("Content-Length") if self.command == "HEAD" else str(len(content))
        for name, value in answer.getheaders():
            if name.lower() not in HOP_BY_HOP | {"content-length"}:
                self.send_header(name, value)
        self.send_header("Content-Length", length or "0")
        self.end_headers()
        self.wfile.write(content)
        self.wfile.flush()

    def _body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        chunks = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def _count(self, status: int, seconds: float) -> None:
        address = urlsplit(self.path)
        query = parse_qs(address.query)
        is_listing = self.command == "GET" and "list-type" in query
        path = unquote(address.path).lstrip("/")
        if is_listing:
            path = f"{path.strip('/')}/{query.get('prefix', [''])[0]}"
        about = (self.command, path, is_listing, self.headers.get("Range", ""), status, seconds)
        self.counts.write(json.dumps([time.monotonic() - seconds, *about]) + "\n")

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _pass  # noqa: N815 - names that http.server calls


@contextmanager
def embedded_store() -> Iterator[dict[str, str]]:
    """The embedded object store alone, in EVERGREEN_HOME: the variables that its clients need."""
    from pipelines.embedded import object_store
    from pipelines.embedded.processes.home import default_home, load_secrets, only_supervisor, prepare
    from pipelines.embedded.processes.ports import reserved_ports
    from pipelines.embedded.processes.supervisor import Supervisor

    home = default_home()
    prepare(home)
    with only_supervisor(home), reserved_ports(home) as ports:
        supervisor, secrets = Supervisor(home), load_secrets(home)
        try:
            object_store.start(supervisor, home, ports["store"], secrets, print)
            yield object_store.client_environment(ports["store"], secrets)
        finally:
            supervisor.stop()


@contextmanager
def noting_stages(requests: Requests) -> Iterator[None]:
    """Each stage that `pipelines.local_run` runs is entered, and what is written down of the problem after it: that is
    `health`."""
    from pipelines import local_run
    from pipelines.health import kept

    run, keep = local_run.logged, kept.keep

    def noted(name: str, *handed_on: Any, **options: Any) -> Any:
        requests.enter(name)
        return run(name, *handed_on, **options)

    def noted_health(problem: Problem) -> Health:
        requests.enter("health")
        return keep(problem)

    local_run.logged, kept.keep = noted, noted_health
    try:
        yield
    finally:
        local_run.logged, kept.keep = run, keep


def count_week(before: int) -> list[Request]:
    """Requests of one week of the default problem, `before` weeks after its history."""
    from pipelines import local_run
    from pipelines.problem import load_problem

    config = load_problem(PROBLEM)
    assert config.replay is not None
    until = config.partitions.last_of(config.replay.history_until)

    with counted(os.environ["AWS_ENDPOINT_URL"]) as requests, noting_stages(requests):
        os.environ["AWS_ENDPOINT_URL"] = requests.endpoint
        local_run.ingest(PROBLEM, config.partitions.first_key, until)
        local_run.train(PROBLEM, until)
        for number in range(1, before + 2):
            key = config.partitions.shift(until, number)
            earlier, cpu, wall = len(requests.seen()), time.process_time(), time.monotonic()
            local_run.ingest(PROBLEM, key, key)
            local_run.score(PROBLEM, key)
            _monitor(key)
            week = requests.seen()[earlier:]
            cpu, wall = time.process_time() - cpu, time.monotonic() - wall
            print(f"{key}: {len(week):,} requests, {cpu:.1f} CPU s of the stages, {wall:.1f} s", flush=True)
    return week


def _monitor(key: str) -> None:
    from pipelines import local_run
    from pipelines.errors import NothingToDo

    with suppress(NothingToDo):  # no training is wanted
        local_run.monitor(PROBLEM, key)


def main(before: int) -> None:
    with tempfile.TemporaryDirectory(prefix="evergreen-requests-") as name:
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{Path(name)}/mlflow.db"
        if os.environ.get("AWS_ENDPOINT_URL") and os.environ.get("EVERGREEN_STORE_URI", "").startswith("s3://"):
            print(table(count_week(before)))
            return
        with embedded_store() as variables:
            os.environ.update(variables)
            print(table(count_week(before)))


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["proxy", upstream, lines]:
            serve(upstream, Path(lines))
        case _:
            main(one_number(__doc__, "weeks", 3))
