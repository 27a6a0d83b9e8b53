"""ASGI middleware that lets one writing request at a time into Airflow's api-server, for SQLite's sake.

The api-server writes its audit log on the event loop, and the requests themselves in threads that need the loop to
commit. When two requests write at once, the loop waits for SQLite's one write lock, whose holder waits for
the loop: the server hangs, and the scheduler, the DAG processor and the triggerer die of "database is locked". With
one writing request at a time nobody in the server holds that lock while another wants it. Reading requests are not
held up.

Nobody has logged in yet where this runs, so no client may hold the turn or the memory: a body is read before the turn
and an answer is handed on after it, both are bounded, and a turn ends after a while.
"""

from __future__ import annotations

import asyncio

from pipelines.embedded.asgi import CLOSE, App, Message, Receive, Send, json_answer

READING = {"GET", "HEAD", "OPTIONS"}

MAX_BODY = 8 * 2**20  # bytes of one request; what tasks hand on to each other is some kB
SMALL_BODY = 64 * 2**10  # a request of no more than this is never refused for what the others send
MAX_HELD = 64 * 2**20  # bytes of all bodies that have been read and not been answered
READ_S = 60.0
TURN_S = 120.0  # twice what a writer waits for SQLite's lock


class Refused(Exception):
    """A request that does not get its turn. `status`: what HTTP calls it."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class OneWriter:
    """Wraps `app`; a plugin registers it where the metadata database is SQLite."""

    def __init__(self, app: App, turn_s: float = TURN_S, read_s: float = READ_S) -> None:
        self.app = app
        self._turn_s = turn_s
        self._read_s = read_s
        self._turn = asyncio.Lock()
        self._held = 0

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in READING:
            await self.app(scope, receive, send)
            return
        body: list[Message] = []
        try:
            answer = await self._answer(scope, receive, body)
        except Refused as refusal:
            answer = json_answer(refusal.status, {"detail": str(refusal)}, CLOSE)
        finally:
            self._held -= sum(map(_size, body))
        for message in answer:
            await send(message)

    async def _answer(self, scope: Message, receive: Receive, body: list[Message]) -> list[Message]:
        """What the app answers, whole; `body` becomes what was read of the request. Nothing to a client that left.

        Raises:
            Refused: the body is too long or comes too slowly, or the answer takes too long.
        """
        await self._read(scope, receive, body)
        if body[-1]["type"] == "http.disconnect":
            return []
        answer: list[Message] = []
        unread = list(body)

        async def replay() -> Message:
            return unread.pop(0) if unread else await receive()

        async def keep(message: Message) -> None:
            answer.append(message)

        async with self._turn:
            try:
                # A thread that is writing is waited for even then, so there are never two.
                async with asyncio.timeout(self._turn_s):
                    await self.app(scope, replay, keep)
            except TimeoutError:
                raise Refused(503, f"the request was not answered within {self._turn_s:.0f} s") from None
        return answer

    async def _read(self, scope: Message, receive: Receive, body: list[Message]) -> None:
        """Read a request to its end before it takes its turn, so that a slow client holds nobody up."""
        announced = dict(scope.get("headers", ())).get(b"content-length", b"0")
        if announced.isdigit() and int(announced) > MAX_BODY:
            raise Refused(413, f"a request may have {MAX_BODY} bytes, and this one announces {int(announced)}")
        size = 0
        try:
            async with asyncio.timeout(self._read_s):
                while not body or body[-1].get("more_body"):
                    body.append(await receive())
                    size += _size(body[-1])
                    self._held += _size(body[-1])
                    if size > MAX_BODY:
                        raise Refused(413, f"a request may have {MAX_BODY} bytes")
                    if size > SMALL_BODY and self._held > MAX_HELD:
                        raise Refused(503, "other requests fill the memory that there is for them; try again")
        except TimeoutError:
            raise Refused(408, f"the request did not come within {self._read_s:.0f} s") from None


def _size(message: Message) -> int:
    return len(message.get("body", b""))
