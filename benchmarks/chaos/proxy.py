"""An HTTP proxy before a service, which strikes at the n-th request: python -m benchmarks.chaos.proxy CONTROL_PORT ...

It is a process of its own. `Proxy` starts it, arms it with a `Blow` and hears when that has struck.
"""

from __future__ import annotations

import asyncio
import json
import select
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from email.utils import formatdate, parsedate_to_datetime
from pathlib import Path
from types import TracebackType
from typing import Literal, NamedTuple, Self, get_args

from pydantic import BaseModel

from pipelines.embedded.processes.ports import HOST

Service = Literal["store", "mlflow"]
Kind = Literal[
    "kill before",
    "kill after",
    "refused",
    "silent",
    "unavailable",
    "reset",
    "cut off",
    "slow",
    "lost",
    "skewed",
    "full",
]
"""What becomes of requests.

- `kill before`, `kill after`: whoever sent it is to be killed, before the service has it or before it has the answer
- `refused`: nobody listens, for `seconds`; `silent`: it is taken, and never answered
- `unavailable`: 503; `full`: 507
- `reset`: the connection breaks within the answer; `cut off`: within the request
- `slow`: each takes a second more, and its answer comes in pieces
- `lost`: what writes is done, and the connection breaks before the answer
- `skewed`: the service's clock is an hour off
"""
WRITING = {"PUT", "POST", "DELETE", "PATCH"}
SKEW_S = 3600.0
SLOW_S = 1.0
SENT_S = 0.05  # until what was written has left
FOR_EVER_S = 600.0
STATUS = {"unavailable": b"HTTP/1.1 503 Service Unavailable", "full": b"HTTP/1.1 507 Insufficient Storage"}


class Blow(BaseModel):
    """A fault of a service: from its request number `at` on (the first is 1), `count` requests or `seconds` long."""

    service: Service
    kind: Kind
    at: int
    count: int = 1
    seconds: float = 0.0


class Asked(NamedTuple):
    """A request that came."""

    service: Service
    method: str
    path: str


class Message(NamedTuple):
    """The head and the body of a request or an answer."""

    line: bytes
    headers: list[tuple[bytes, bytes]]
    body: bytes

    def header(self, name: bytes) -> bytes:
        return next((value for header, value in self.headers if header.lower() == name), b"")

    def encoded(self) -> bytes:
        skipped = {b"transfer-encoding", b"content-length", b"expect"}
        kept = [b"%s: %s" % header for header in self.headers if header[0].lower() not in skipped]
        length = self.header(b"content-length") if not self.body else str(len(self.body)).encode()
        return b"\r\n".join([self.line, *kept, b"Content-Length: " + (length or b"0"), b"", b""]) + self.body


async def read_message(reader: asyncio.StreamReader, writer: asyncio.StreamWriter | None, bare: bool) -> Message | None:
    """The next request or answer; None at the connection's end. `writer`: whom to tell to go on with a body; `bare`: no
    body comes, whatever the head says."""
    line = (await reader.readline()).rstrip(b"\r\n")
    if not line:
        return None
    headers: list[tuple[bytes, bytes]] = []
    while header := (await reader.readline()).rstrip(b"\r\n"):
        name, _, value = header.partition(b":")
        headers.append((name, value.strip()))
    message = Message(line, headers, b"")
    if writer is not None and message.header(b"expect"):
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        await writer.drain()
    if bare:
        return message
    body = b""
    if b"chunked" in message.header(b"transfer-encoding"):
        while size := int((await reader.readline()).split(b";")[0], 16):
            body += await reader.readexactly(size)
            await reader.readline()
        await reader.readline()
    elif length := int(message.header(b"content-length") or 0):
        body = await reader.readexactly(length)
    return message._replace(body=body)


class Door:
    """The proxy before one service."""

    def __init__(self, service: Service, upstream: int, blow_at: Callable[[Asked], Blow | None]) -> None:
        self.service = service
        self.port = 0
        self._upstream = upstream
        self._blow_at = blow_at
        self._server: asyncio.Server | None = None
        self._clients: set[asyncio.StreamWriter] = set()
        self._reopening: asyncio.Task[None] | None = None

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._serve, HOST, self.port, reuse_address=True)
        self.port = self._server.sockets[0].getsockname()[1]

    async def shut(self, seconds: float) -> None:
        """Nobody listens for so long."""
        assert self._server is not None
        self._server.close()
        for client in list(self._clients):
            client.transport.abort()
        self._reopening = asyncio.create_task(self._reopen(seconds))

    async def _reopen(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        await self.open()

    async def ready(self) -> None:
        """Return when it listens."""
        if self._reopening is not None:
            await self._reopening
            self._reopening = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._clients.add(writer)
        try:
            while request := await read_message(reader, writer, bare=False):
                if not await self._pass(request, writer):
                    break
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # whoever asked has gone, or was killed
        finally:
            self._clients.discard(writer)
            writer.close()

    async def _pass(self, request: Message, writer: asyncio.StreamWriter) -> bool:
        """Hand a request on, and the answer back; whether the connection goes on."""
        method, path, *_ = request.line.decode().split()
        blow = self._blow_at(Asked(self.service, method, path))
        if blow is None:
            return await self._answer(await self._ask(request), writer)
        match blow.kind:
            case "kill before":
                await asyncio.sleep(FOR_EVER_S)  # whoever has asked is killed meanwhile
            case "kill after":
                await self._ask(request)
                await asyncio.sleep(FOR_EVER_S)
            case "refused":
                await self.shut(blow.seconds)
            case "silent":
                await asyncio.sleep(blow.seconds)
            case "unavailable" | "full":
                return await self._answer(Message(STATUS[blow.kind], [], b""), writer)
            case "cut off":
                await self._ask(request, cut_off=True)
            case "reset":
                await self._break_off(await self._ask(request), writer)
            case "lost" if method in WRITING:
                await self._ask(request)
            case "skewed":
                answer = await self._ask(request)
                return await self._answer(answer and _skewed(answer), writer)
            case "slow" | "lost":
                return await self._answer(await self._ask(request), writer, is_slow=blow.kind == "slow")
        writer.transport.abort()
        return False

    async def _answer(self, answer: Message | None, writer: asyncio.StreamWriter, is_slow: bool = False) -> bool:
        """Hand an answer on; whether there was one."""
        if answer is None:
            writer.transport.abort()
            return False
        encoded = answer.encoded()
        if is_slow:
            await asyncio.sleep(SLOW_S)
            writer.write(encoded[: len(encoded) // 2])
            await writer.drain()
            await asyncio.sleep(SLOW_S / 4)
            encoded = encoded[len(encoded) // 2 :]
        writer.write(encoded)
        await writer.drain()
        return True

    async def _break_off(self, answer: Message | None, writer: asyncio.StreamWriter) -> None:
        """Hand on an answer's head and half of its body."""
        if answer is not None:
            encoded = answer.encoded()
            writer.write(encoded[: len(encoded) - max(len(answer.body) // 2, 1)])
            await writer.drain()
            await asyncio.sleep(SENT_S)

    async def _ask(self, request: Message, cut_off: bool = False) -> Message | None:
        """What the service answers; None where it breaks off, or the request does."""
        try:
            reader, writer = await asyncio.open_connection(HOST, self._upstream)
        except ConnectionError:
            return None
        try:
            encoded = request.encoded()
            writer.write(encoded[: len(encoded) - max(len(request.body) // 2, 1)] if cut_off else encoded)
            await writer.drain()
            if cut_off:
                await asyncio.sleep(SENT_S)
                writer.transport.abort()
                return None
            return await read_message(reader, None, bare=request.line.startswith(b"HEAD"))
        except (ConnectionError, asyncio.IncompleteReadError):
            return None
        finally:
            writer.close()


def _skewed(answer: Message) -> Message:
    """The same, of a service whose clock is an hour ahead."""
    headers = []
    for name, value in answer.headers:
        if name.lower() in (b"date", b"last-modified"):
            moment = parsedate_to_datetime(value.decode()).timestamp()
            value = formatdate(moment + SKEW_S, usegmt=True).encode()
        headers.append((name, value))
    return answer._replace(headers=headers)


class Doors:
    """The proxies, and what the one who has started them says."""

    def __init__(self, upstreams: Mapping[Service, int]) -> None:
        self._doors = {service: Door(service, port, self._blow_at) for service, port in upstreams.items()}
        self._blow: Blow | None = None
        self._asked: list[Asked] = []
        self._struck = asyncio.Event()

    async def serve(self, control: int) -> None:
        for door in self._doors.values():
            await door.open()
        server = await asyncio.start_server(self._listen, HOST, control)
        print("ready", flush=True)
        await server.serve_forever()

    def _blow_at(self, asked: Asked) -> Blow | None:
        self._asked.append(asked)
        blow = self._blow
        if blow is None or blow.service != asked.service:
            return None
        number = sum(each.service == asked.service for each in self._asked)
        lasts = (
            number == blow.at
            if blow.kind.startswith("kill") or blow.kind == "refused"
            else number < blow.at + blow.count
        )
        if number < blow.at or not lasts:
            return None
        self._struck.set()
        return blow

    async def _listen(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """A line of JSON is an order: a blow, or null for none. Each is answered when it is obeyed."""
        waiting: asyncio.Task[None] | None = None
        while line := await reader.readline():
            order = json.loads(line)
            if waiting is not None:
                waiting.cancel()
            asked, self._asked = self._asked, []
            self._struck.clear()
            for door in self._doors.values():
                await door.ready()
            self._blow = None if order is None else Blow.model_validate(order)
            ports = {service: door.port for service, door in self._doors.items()}
            writer.write(json.dumps({"ports": ports, "asked": asked}).encode() + b"\n")
            await writer.drain()
            waiting = asyncio.create_task(self._tell(writer))

    async def _tell(self, writer: asyncio.StreamWriter) -> None:
        await self._struck.wait()
        writer.write(b'{"struck": true}\n')
        await writer.drain()


class Proxy:
    """The process, as whoever has started it sees it."""

    def __init__(self, store: int, mlflow: int) -> None:
        with socket.socket() as listener:
            listener.bind((HOST, 0))
            control = listener.getsockname()[1]
        command = [sys.executable, "-m", "benchmarks.chaos.proxy", *map(str, (control, store, mlflow))]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2])
        assert self._process.stdout is not None
        self._process.stdout.readline()
        self._control = socket.create_connection((HOST, control))
        self._lines = self._control.makefile("rb")
        self.ports: dict[Service, int] = {}
        self.arm(None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._control.close()
        self._process.terminate()
        self._process.wait()

    def arm(self, blow: Blow | None) -> list[Asked]:
        """Strike so from now on, once all listen; gives the requests since the last order."""
        self._control.settimeout(300)
        self._control.sendall((json.dumps(blow.model_dump() if blow else None) + "\n").encode())
        answer = json.loads(self._lines.readline())
        while "ports" not in answer:  # the last blow struck meanwhile
            answer = json.loads(self._lines.readline())
        self.ports = answer["ports"]
        return [Asked(*asked) for asked in answer["asked"]]

    def has_struck(self, seconds: float) -> bool:
        """Whether the blow strikes within so many seconds; to be asked until it has, once for each order."""
        is_told = bool(select.select([self._control], [], [], seconds)[0])
        return is_told and "struck" in json.loads(self._lines.readline())


def main(control: int, store: int, mlflow: int) -> None:
    assert set(get_args(Service)) == {"store", "mlflow"}
    asyncio.run(Doors({"store": store, "mlflow": mlflow}).serve(control))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
