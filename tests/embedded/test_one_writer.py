"""The api-server's queue for writing requests."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from pipelines.embedded import one_writer
from pipelines.embedded.one_writer import OneWriter


class Server:
    """Counts how many requests of each method it works on at once."""

    def __init__(self) -> None:
        self.inside: dict[str, int] = {}
        self.most: dict[str, int] = {}
        self.bodies: list[bytes] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        method = scope.get("method", scope["type"])
        self.inside[method] = self.inside.get(method, 0) + 1
        self.most[method] = max(self.most.get(method, 0), self.inside[method])
        body = b""
        while method == "POST":
            message = await receive()
            body += message["body"]
            if not message.get("more_body"):
                break
        self.bodies.append(body)
        await asyncio.sleep(0.01)
        self.inside[method] -= 1


def client(chunks: list[bytes], delay_s: float = 0.0) -> Any:
    left = list(chunks)

    async def receive() -> dict[str, Any]:
        await asyncio.sleep(delay_s)
        return {"type": "http.request", "body": left.pop(0), "more_body": bool(left)}

    return receive


async def send(_message: Any) -> None:
    pass


async def request(app: OneWriter, method: str, chunks: list[bytes], delay_s: float = 0.0) -> None:
    await app({"type": "http", "method": method}, client(chunks, delay_s), send)


def test_writers_take_turns_and_readers_do_not() -> None:
    server = Server()

    async def crowd() -> None:
        app = OneWriter(server)
        async with asyncio.timeout(5):
            await asyncio.gather(*(request(app, method, [b"a", b"b"]) for method in ["POST", "GET"] * 8))
            await app({"type": "lifespan"}, client([b""]), send)

    asyncio.run(crowd())
    assert server.most["POST"] == 1
    assert server.most["GET"] == 8
    assert sorted(server.bodies) == [b""] * 9 + [b"ab"] * 8


def test_a_slow_client_holds_nobody_up() -> None:
    server = Server()

    async def crowd() -> None:
        app = OneWriter(server)
        slow = asyncio.create_task(request(app, "POST", [b"slow"], delay_s=60))
        await asyncio.sleep(0.01)
        async with asyncio.timeout(1):
            await request(app, "POST", [b"quick"])
        slow.cancel()

    asyncio.run(crowd())
    assert server.bodies == [b"quick"]


def test_an_error_gives_the_turn_back() -> None:
    async def broken(_scope: Any, _receive: Any, _send: Any) -> None:
        raise RuntimeError("handler")

    async def twice() -> int:
        app, failures = OneWriter(broken), 0
        for _ in range(2):
            try:
                async with asyncio.timeout(1):
                    await request(app, "DELETE", [b""])
            except RuntimeError:
                failures += 1
        return failures

    assert asyncio.run(twice()) == 2


def test_a_client_that_does_not_read_its_answer_holds_nobody_up() -> None:
    answered = []

    async def answers(_scope: Any, receive: Any, send: Any) -> None:
        body = (await receive())["body"]
        await send({"type": "http.response.start", "status": 422, "headers": []})
        await send({"type": "http.response.body", "body": body})
        answered.append(body)

    async def never(_message: Any) -> None:
        await asyncio.Event().wait()

    async def crowd() -> None:
        app = OneWriter(answers)
        deaf = asyncio.create_task(app({"type": "http", "method": "POST"}, client([b"deaf"]), never))
        await asyncio.sleep(0)
        async with asyncio.timeout(1):
            await request(app, "POST", [b"quick"])
        deaf.cancel()

    asyncio.run(crowd())
    assert answered == [b"deaf", b"quick"]


async def refused(app: OneWriter, receive: Any, length: bytes = b"") -> int:
    """Status of the answer to a request."""
    messages: list[Any] = []

    async def keep(message: Any) -> None:
        messages.append(message)

    headers = [(b"content-length", length)] if length else []
    async with asyncio.timeout(5):
        await app({"type": "http", "method": "POST", "headers": headers}, receive, keep)
    status: int = messages[0]["status"]
    return status


def test_a_body_has_a_limit_announced_or_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(one_writer, "MAX_BODY", 100)
    received = 0

    async def endless() -> dict[str, Any]:
        nonlocal received
        received += 1
        return {"type": "http.request", "body": b"." * 30, "more_body": True}

    server = Server()
    app = OneWriter(server)
    assert asyncio.run(refused(app, endless, length=b"1200000000")) == 413
    assert received == 0
    assert asyncio.run(refused(app, endless)) == 413
    assert received == 4
    assert server.bodies == []
    assert app._held == 0


def test_many_bodies_have_one_limit_that_small_ones_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(one_writer, "SMALL_BODY", 10)
    monkeypatch.setattr(one_writer, "MAX_HELD", 100)
    server = Server()

    async def stalled() -> dict[str, Any]:
        if app._held:
            await asyncio.Event().wait()
        return {"type": "http.request", "body": b"." * 95, "more_body": True}

    async def crowd() -> int:
        waiting = asyncio.create_task(request_of(app, stalled))
        await asyncio.sleep(0.01)
        status = await refused(app, client([b"." * 20]))
        await request(app, "POST", [b"small"])
        waiting.cancel()
        return status

    async def request_of(app: OneWriter, receive: Any) -> None:
        await app({"type": "http", "method": "POST"}, receive, send)

    app = OneWriter(server)
    assert asyncio.run(crowd()) == 503
    assert server.bodies == [b"small"]


def test_a_turn_and_the_reading_before_it_end() -> None:
    async def hangs(_scope: Any, _receive: Any, _send: Any) -> None:
        await asyncio.Event().wait()

    assert asyncio.run(refused(OneWriter(hangs, turn_s=0.01), client([b"x"]))) == 503
    assert asyncio.run(refused(OneWriter(hangs, read_s=0.01), client([b"x"], delay_s=60))) == 408


def test_a_client_that_leaves_while_it_sends_has_asked_for_nothing() -> None:
    messages: list[dict[str, Any]] = [
        {"type": "http.request", "body": b"half", "more_body": True},
        {"type": "http.disconnect"},
    ]

    async def receive() -> dict[str, Any]:
        return messages.pop(0)

    server = Server()
    asyncio.run(OneWriter(server)({"type": "http", "method": "POST"}, receive, send))
    assert server.bodies == []
