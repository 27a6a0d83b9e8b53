"""The api-server's queue for writing requests."""

from __future__ import annotations

import asyncio
from typing import Any

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
