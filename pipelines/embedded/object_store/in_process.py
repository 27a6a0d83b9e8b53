"""Connections of Swift's servers to each other inside one process: a request is a call of the other server's app.

Swift's servers talk HTTP, each on a port of its own that any user of the machine can reach, and know no login. Here
they are four WSGI apps of one process, and what they know of http.client is a `Connection`: no port but the proxy's is
opened, and nothing is written as HTTP to be parsed again. Each request is worked on in a green thread of its own, as a
server would, so that a time-out of the one who asks ends the wait and not the work.

It runs in the object store's own environment.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, urlencode

from swift.common import bufferedhttp  # type: ignore[import-not-found]
from swift.common.concurrency import Empty, Queue, queue, spawn_n  # type: ignore[import-not-found]

if TYPE_CHECKING:
    from pipelines.embedded.object_store.chunks import Chunks
else:
    from chunks import Chunks

Environ = dict[str, Any]
App = Callable[[Environ, Callable[..., Any]], Iterable[bytes]]

NOT_IN_A_HEADER = re.compile(r"[\r\n]|[^\x00-\xff]")


class Body(Chunks):
    """A request's body: the one who asks puts chunks in, the server's app reads them as its `wsgi.input`.

    A chunk waits until the one before it was read.
    """

    def __init__(self, on_first_read: Callable[[list[tuple[str, str]]], None]) -> None:
        super().__init__()
        self._queue = Queue(1)
        self._on_first_read: Callable[[list[tuple[str, str]]], None] | None = on_first_read
        self._continue_headers: list[tuple[str, str]] = []
        self._is_ended = False
        self._is_broken = False
        self._is_answered = False

    def put(self, chunk: bytes) -> None:
        """Add a chunk; b"" ends the body. After the server's answer nobody reads it, and it is dropped."""
        if not self._is_answered:
            self._queue.put(chunk)

    def break_off(self) -> None:
        """No more will come: unless the body has ended, whoever reads it is told so."""
        self._is_broken = True
        with suppress(queue.Full):
            self._queue.put_nowait(b"")

    def answered(self) -> None:
        """The server has answered, whether or not it read all."""
        self._is_answered = True
        with suppress(Empty):
            self._queue.get_nowait()

    def set_hundred_continue_response_headers(self, headers: list[tuple[str, str]]) -> None:
        """What the server says about itself to one who waits before sending a body."""
        self._continue_headers = headers

    def read(self, size: int | None = None) -> bytes:
        self._ask_for_it()
        return super().read(size)

    def readline(self, size: int | None = None) -> bytes:
        self._ask_for_it()
        return super().readline(size)

    def _ask_for_it(self) -> None:
        if self._on_first_read is not None:
            self._on_first_read(self._continue_headers)
            self._on_first_read = None

    def _next(self) -> bytes:
        if self._is_ended:
            return b""
        chunk: bytes = b"" if self._is_broken else self._queue.get()
        if self._is_broken:
            raise OSError("the request broke off before its body ended")
        self._is_ended = not chunk
        return chunk


class Answer(Chunks):
    """A server's response, as Swift uses http.client's."""

    version = 11

    def __init__(self, status: str, headers: list[tuple[str, str]], chunks: Iterable[bytes]) -> None:
        super().__init__()
        code, _, self.reason = status.partition(" ")
        self.status = int(code)
        self._headers = headers
        self._chunks = chunks
        self._iterator = iter(chunks)

    def getheaders(self) -> list[tuple[str, str]]:
        return list(self._headers)

    def getheader(self, name: str, default: Any = None) -> Any:
        values = [value for header, value in self._headers if header.lower() == name.lower()]
        return ", ".join(values) if values else default

    def close(self) -> None:
        """Let go of what is left, such as an open file."""
        self._rest, self._iterator = b"", iter(())
        if hasattr(self._chunks, "close"):
            self._chunks.close()

    nuke_from_orbit = close

    def _next(self) -> bytes:
        return next(filter(None, self._iterator), b"")


class Connection:
    """One request to a server's app, as Swift uses http.client's connection for one request."""

    def __init__(self, app: App, environ: Environ) -> None:
        self._answers = Queue()
        awaits_continue = environ.get("HTTP_EXPECT", "").lower() == "100-continue"
        self._body = Body(self._go_on if awaits_continue else lambda _: None)
        self._is_chunked = environ.get("HTTP_TRANSFER_ENCODING", "").lower() == "chunked"
        self._left = int(environ.get("CONTENT_LENGTH") or 0)
        if not self._is_chunked and not self._left:
            self._body.put(b"")
        spawn_n(self._serve, app, {**environ, "wsgi.input": self._body})

    def send(self, data: bytes) -> None:
        """More of the body; where it is chunked, one whole chunk with its frame, of which an empty one ends it."""
        if self._is_chunked:
            start = data.index(b"\r\n") + 2
            end = start + int(data[: start - 2], 16)
            if data[end:] != b"\r\n":
                raise ValueError("not one whole chunk")
            self._body.put(data[start:end])
        elif data:
            self._left -= len(data)
            if self._left < 0:
                raise ValueError(f"{-self._left} bytes more than were declared")
            self._body.put(data)
            if not self._left:
                self._body.put(b"")

    def getexpect(self) -> Answer:
        """The server's call for the body (status 100), or its answer without one."""
        answer = self._answers.get()
        if isinstance(answer, Exception):
            raise answer
        return answer  # type: ignore[no-any-return]

    def getresponse(self) -> Answer:
        """The server's answer. Raises what its app raised."""
        while (answer := self.getexpect()).status == 100:
            pass
        return answer

    def close(self) -> None:
        """Send no more; the answer can still be read."""
        self._body.break_off()

    def _go_on(self, headers: list[tuple[str, str]]) -> None:
        self._answers.put(Answer("100 Continue", headers, ()))

    def _serve(self, app: App, environ: Environ) -> None:
        begun: list[tuple[str, list[tuple[str, str]]]] = []

        def start_response(status: str, headers: list[tuple[str, str]], _exc_info: Any = None) -> None:
            begun.append((status, headers))

        try:
            chunks = app(environ, start_response)
            answer: Answer | Exception = Answer(*begun[-1], chunks)
        except Exception as error:  # the one who asks decides what it means
            answer = error
        self._body.answered()
        self._answers.put(answer)


def environ_of(port: int, method: str, path: str, headers: Mapping[str, object], query: str) -> Environ:
    """What a WSGI server makes of a request, but for `wsgi.input`.

    Raises:
        ValueError: a header that HTTP could not carry.
    """
    environ: Environ = {
        "REQUEST_METHOD": method,
        "SCRIPT_NAME": "",
        "PATH_INFO": unquote(path, "latin-1"),
        "RAW_PATH_INFO": path,
        "QUERY_STRING": query,
        "SERVER_NAME": "localhost",
        "SERVER_PORT": str(port),
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "127.0.0.1",
        "HTTP_HOST": f"localhost:{port}",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }
    for name, value in headers.items():
        text = str(value)
        if NOT_IN_A_HEADER.search(text):
            raise ValueError(f"header {name} cannot be sent: {text!r}")
        key = name.upper().replace("-", "_")
        environ[key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{key}"] = text
    return environ


def replace_http(apps: Mapping[int, App]) -> None:
    """From now on Swift's requests to a port are calls of that port's app, whatever the host."""

    def http_connect_raw(
        _host: str,
        port: int | str,
        method: str,
        path: str,
        headers: Mapping[str, object] | None = None,
        query_string: str | None = None,
        ssl: bool = False,
    ) -> Connection:
        pairs = parse_qsl(query_string or "", keep_blank_values=True, encoding="latin-1")
        query = urlencode(pairs, encoding="latin-1")
        return Connection(apps[int(port)], environ_of(int(port), method, path, headers or {}, query))

    # `http_connect`, which the servers import by name, calls this one.
    bufferedhttp.http_connect_raw = http_connect_raw
