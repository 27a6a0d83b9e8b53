"""ASGI middleware that lets one writing request at a time into Airflow's api-server, for SQLite's sake.

The api-server writes its audit log on the event loop, and the requests themselves in threads that need the loop to
commit. When two requests write at once, the loop waits for SQLite's one write lock, whose holder waits for
the loop: the server hangs, and the scheduler, the DAG processor and the triggerer die of "database is locked". With
one writing request at a time nobody in the server holds that lock while another wants it. Reading requests are not
held up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

READING = {"GET", "HEAD", "OPTIONS"}


class OneWriter:
    """Wraps `app`; a plugin registers it where the metadata database is SQLite."""

    def __init__(self, app: App) -> None:
        self.app = app
        self._turn = asyncio.Lock()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in READING:
            await self.app(scope, receive, send)
            return
        body = await _whole_body(receive)
        async with self._turn:
            await self.app(scope, body, send)


async def _whole_body(receive: Receive) -> Receive:
    """Read a request to its end before it takes its turn, so that a slow client holds nobody up."""
    messages = [await receive()]
    while messages[-1].get("more_body"):
        messages.append(await receive())

    async def replay() -> Message:
        return messages.pop(0) if messages else await receive()

    return replay
