"""The proxy strikes at the request that it was told, and in the way that it was told."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from benchmarks.chaos.proxy import Blow, Kind, Proxy

BODY = b"whole"


class Upstream(BaseHTTPRequestHandler):
    """Answers each request, and keeps which it has got."""

    protocol_version = "HTTP/1.1"
    got: list[tuple[str, bytes]] = []  # noqa: RUF012 - of the one server that there is

    def _serve(self) -> None:
        self.got.append((self.command, self.rfile.read(int(self.headers.get("Content-Length") or 0))))
        self.send_response(200)
        self.send_header("Content-Length", str(len(BODY)))
        self.end_headers()
        self.wfile.write(BODY)

    do_GET = do_PUT = _serve  # noqa: N815 - names that http.server calls

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def proxy() -> Iterator[Proxy]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Upstream)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with Proxy(server.server_port, server.server_port) as started:
        yield started
    server.shutdown()
    server.server_close()


def ask(proxy: Proxy, method: str = "PUT", seconds: float = 5.0) -> tuple[int, bytes]:
    connection = HTTPConnection("127.0.0.1", proxy.ports["store"], timeout=seconds)
    try:
        connection.request(method, "/bucket/key", b"content" if method == "PUT" else None)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def arm(proxy: Proxy, kind: Kind, *, at: int = 1, count: int = 1, seconds: float = 0.0) -> None:
    proxy.arm(Blow(service="store", kind=kind, at=at, count=count, seconds=seconds))
    Upstream.got.clear()


def test_what_nothing_befalls_passes_as_it_is(proxy: Proxy) -> None:
    proxy.arm(None)
    Upstream.got.clear()
    assert ask(proxy) == ask(proxy, "GET") == (200, BODY)
    assert Upstream.got == [("PUT", b"content"), ("GET", b"")]
    assert [asked[:2] for asked in proxy.arm(None)] == [("store", "PUT"), ("store", "GET")]


@pytest.mark.parametrize(("kind", "status"), [("unavailable", 503), ("full", 507)])
def test_from_the_second_request_on_two_are_refused(proxy: Proxy, kind: Kind, status: int) -> None:
    arm(proxy, kind, at=2, count=2)
    assert [ask(proxy)[0] for _ in range(4)] == [200, status, status, 200]
    assert len(Upstream.got) == 2 and proxy.has_struck(1)


@pytest.mark.parametrize(("kind", "is_done"), [("lost", True), ("reset", True), ("cut off", False)])
def test_a_connection_breaks_before_or_after_the_service_has_done_it(proxy: Proxy, kind: Kind, is_done: bool) -> None:
    arm(proxy, kind)
    with pytest.raises((HTTPException, ConnectionError)):
        ask(proxy)
    assert (("PUT", b"content") in Upstream.got) == is_done
    assert ask(proxy) == (200, BODY)


@pytest.mark.parametrize(("kind", "is_done"), [("kill before", False), ("kill after", True)])
def test_whoever_asks_is_to_be_killed_while_it_waits(proxy: Proxy, kind: Kind, is_done: bool) -> None:
    arm(proxy, kind)
    assert not proxy.has_struck(0)
    with pytest.raises(TimeoutError):
        ask(proxy, seconds=0.5)
    assert proxy.has_struck(1) and bool(Upstream.got) == is_done


def test_nobody_listens_until_the_outage_is_over(proxy: Proxy) -> None:
    arm(proxy, "refused", seconds=0.3)
    for _ in range(2):
        with pytest.raises((HTTPException, ConnectionError)):
            ask(proxy)
    proxy.arm(None)  # which waits for its end
    assert ask(proxy) == (200, BODY)
