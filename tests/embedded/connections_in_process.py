"""Run by test_object_store_running in the object store's environment: what a connection inside one process promises."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipelines.embedded.object_store.in_process import Answer, App, Connection, environ_of, replace_http
else:
    from in_process import Answer, App, Connection, environ_of, replace_http

from swift.common import bufferedhttp  # type: ignore[import-not-found]
from swift.common.concurrency import Timeout, sleep  # type: ignore[import-not-found]

CHUNKED = {"Transfer-Encoding": "chunked", "Expect": "100-continue"}


def request(app: App, method: str, headers: dict[str, Any]) -> Connection:
    return Connection(app, environ_of(1, method, "/d1/0/a/c/o", headers, ""))


def echo(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    body = environ["wsgi.input"].read()
    start_response("201 Created", [("ETag", "e"), ("Length", str(len(body)))])
    return [b"", body, b"!"]


def frame(chunk: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(chunk), chunk)


def outcome(answer: Answer) -> tuple[int, str, bytes]:
    return answer.status, answer.reason, answer.read()


def a_body_of_known_length() -> None:
    connection = request(echo, "PUT", {"Content-Length": 6})
    connection.send(b"abc")
    connection.send(b"")
    connection.send(b"def")
    answer = connection.getresponse()
    assert outcome(answer) == (201, "Created", b"abcdef!")
    assert (answer.getheader("etag"), answer.getheader("none", 1)) == ("e", 1)
    assert answer.getheaders() == [("ETag", "e"), ("Length", "6")]
    assert outcome(request(echo, "PUT", {}).getresponse()) == (201, "Created", b"!")


def more_than_was_declared_is_refused() -> None:
    connection = request(echo, "PUT", {"Content-Length": 1})
    try:
        connection.send(b"ab")
    except ValueError:
        return
    raise AssertionError


def a_chunked_body_waits_for_the_call() -> None:
    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        environ["wsgi.input"].set_hundred_continue_response_headers([("X-Obj-Metadata-Footer", "yes")])
        return echo(environ, start_response)

    connection = request(app, "PUT", CHUNKED)
    call = connection.getexpect()
    assert (call.status, call.getheaders()) == (100, [("X-Obj-Metadata-Footer", "yes")])
    for chunk in (b"abc\r\n", b"def", b""):
        connection.send(frame(chunk))
    assert outcome(connection.getresponse()) == (201, "Created", b"abc\r\ndef!")


def an_answer_before_the_body_is_read_blocks_nobody() -> None:
    def full(_environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        start_response("507 Insufficient Storage", [])
        return [b"full"]

    connection = request(full, "PUT", CHUNKED)
    assert outcome(connection.getexpect()) == (507, "Insufficient Storage", b"full")
    connection = request(full, "PUT", {"Content-Length": 9})
    for _ in range(9):
        connection.send(b"x")
    assert connection.getresponse().status == 507


def an_app_that_stops_reading_lets_go_of_who_sends() -> None:
    def half(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        environ["wsgi.input"].read(1)
        sleep(0.01)
        start_response("400 Bad Request", [])
        return []

    connection = request(half, "PUT", CHUNKED)
    assert connection.getexpect().status == 100
    for chunk in (b"abc", b"def", b"ghi", b""):
        connection.send(frame(chunk))
    assert connection.getresponse().status == 400


def a_body_that_breaks_off_is_an_error_to_who_reads() -> None:
    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        try:
            environ["wsgi.input"].read()
        except OSError:
            start_response("499 Client Disconnect", [])
            return []
        raise AssertionError

    for sent in (0, 1, 2):
        connection = request(app, "PUT", CHUNKED)
        assert connection.getexpect().status == 100
        for _ in range(sent):
            connection.send(frame(b"abc"))
        connection.close()
        assert connection.getresponse().status == 499


def an_error_reaches_who_asks() -> None:
    def broken(_environ: dict[str, Any], _start_response: Callable[..., Any]) -> list[bytes]:
        raise KeyError("a fault")

    for wait in ("getresponse", "getexpect"):
        try:
            getattr(request(broken, "GET", {}), wait)()
        except KeyError:
            continue
        raise AssertionError


def a_time_out_ends_the_wait_and_not_the_work() -> None:
    done: list[bool] = []

    def slow(_environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        sleep(0.05)
        done.append(True)
        start_response("204 No Content", [])
        return []

    connection = request(slow, "DELETE", {})
    try:
        with Timeout(0.01):
            connection.getresponse()
        raise AssertionError
    except Timeout:
        assert not done
    assert connection.getresponse().status == 204


def closing_an_answer_closes_what_it_reads() -> None:
    closed: list[bool] = []

    class File(list[bytes]):
        def close(self) -> None:
            closed.append(True)

    def app(_environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        start_response("200 OK", [])
        return File([b"abc", b"def"])

    answer = request(app, "GET", {}).getresponse()
    assert answer.read(2) == b"ab"
    answer.nuke_from_orbit()
    assert (closed, answer.read()) == ([True], b"")


def headers_that_http_cannot_carry_are_refused() -> None:
    for value in ("a\r\nX-Other: b", "a\nb", "\u20ac"):
        try:
            environ_of(1, "GET", "/", {"X-Note": value}, "")
        except ValueError:
            continue
        raise AssertionError(value)


def swift_asks_the_app_of_the_port() -> None:
    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        start_response("200 OK", [])
        return [repr([environ[key] for key in ("PATH_INFO", "QUERY_STRING", "HTTP_X_A", "CONTENT_TYPE")]).encode()]

    replace_http({6200: app})
    connection = bufferedhttp.http_connect(
        "127.0.0.1", "6200", "d1", 3, "GET", "/a/c/\u00fc %", {"X-A": 1, "Content-Type": "text/plain"}, "b=c d&e="
    )
    path = "/d1/3/a/c/\u00fc %".encode().decode("latin-1")
    assert connection.getresponse().read().decode() == repr([path, "b=c+d&e=", "1", "text/plain"])


if __name__ == "__main__":
    promises = [value for value in list(globals().values()) if callable(value) and value.__module__ == "__main__"]
    for promise in promises:
        if not promise.__code__.co_argcount:
            with Timeout(5, AssertionError(f"{promise.__name__} hangs")):
                promise()
            print(promise.__name__)
    sys.exit(0)
