"""ASGI middleware that limits failed tries to log in: after ten within five minutes a client waits.

Failures are counted by client and by user name; a login that succeeds is not counted. A client is refused after ten
failures of its own. Where ten for one name came from several clients, those of them that have failed themselves are
refused for that name; a client that has not is let through, so that no stranger keeps a user or a service out.

A client is an address. On loopback all have the same, so there it is the account that the connection belongs to, as the
kernel says. The account that runs the server is never refused: it can read the passwords. What came through a proxy is
the address that the proxy names; whoever reaches the server without one can make such an address up, so there the
limit by name holds whether the client has failed before or not.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import json
import os
import socket
import struct
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Awaitable, Callable, Mapping
from math import ceil
from typing import NamedTuple
from urllib.parse import parse_qs

from pipelines.embedded.asgi import CLOSE, App, Message, Receive, Send, json_answer

FAILURES = 10
WINDOW_S = 300.0
MOST_KEYS = 10_000
"""Clients, and names, whose failures are known; of more, the one that has not failed for longest is forgotten."""
AT_ONCE = 50
"""Tries of one client that have not been answered, none of which has failed yet."""

MAX_LOGIN = 64 * 2**10  # bytes of a request with a name and a password
READ_S = 60.0
AIRFLOW_LOGINS = ("/auth/token", "/auth/token/cli")

# Words of netlink: <linux/netlink.h>, <linux/sock_diag.h>, <linux/inet_diag.h>.
SOCK_DIAG, BY_FAMILY, IS_REQUEST, ESTABLISHED = 4, 20, 1, 1
ANY_TCP = struct.pack("=BBBxI", socket.AF_INET, socket.IPPROTO_TCP, 0, 0xFFFFFFFF)
NO_INTERFACE, NO_COOKIE = bytes(4), b"\xff" * 8
HEAD = 16  # bytes before the message proper
UID_AT = HEAD + 4 + 48 + 12  # after family and state, the connection's identity, a timer and two queues


class Try(NamedTuple):
    """A request that brings a name and a password."""

    name: str
    receive: Receive
    """The request, from its beginning."""


FindTry = Callable[[Message, Receive], Awaitable[Try | None]]
"""The try that a request is, if it is one; it may read the request. Raises Unreadable."""


class Unreadable(Exception):
    """A login that is not read to its end. `status`: what HTTP calls it."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class Client(NamedTuple):
    """Who sent a request. `is_claimed`: a header says so, which anybody can write."""

    key: str
    is_claimed: bool = False


class Failures:
    """When the last failures of each key were. Keys are hashed: what is kept of one is short."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._times: OrderedDict[bytes, deque[float]] = OrderedDict()

    def add(self, key: str) -> None:
        times = self._times.setdefault(_digest(key), deque(maxlen=FAILURES))
        times.append(self._clock())
        self._times.move_to_end(_digest(key))
        while len(self._times) > MOST_KEYS:
            self._times.popitem(last=False)

    def count(self, key: str) -> int:
        """Of the last five minutes, at most ten."""
        start = self._clock() - WINDOW_S
        return sum(moment > start for moment in self._times.get(_digest(key), ()))

    def wait_s(self, key: str) -> float:
        """Seconds until there are fewer than ten again."""
        return max(0.0, self._times[_digest(key)][0] + WINDOW_S - self._clock()) if self.count(key) >= FAILURES else 0.0


class LoginTries:
    """Wraps `app`, which answers 401 to a wrong password. `find_try`: how its clients log in."""

    def __init__(self, app: App, find_try: FindTry, clock: Callable[[], float] = time.monotonic) -> None:
        self.app = app
        self._find_try = find_try
        self._by_client, self._by_name = Failures(clock), Failures(clock)
        self._unanswered: Counter[str] = Counter()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        login = None
        if scope["type"] == "http":
            try:
                login = await self._find_try(scope, receive)
            except Unreadable as error:
                await _send_all(json_answer(error.status, {"detail": str(error)}, CLOSE), send)
                return
        if login is None:
            await self.app(scope, receive, send)
            return
        client = client_of(scope)
        if client is None:
            await self.app(scope, login.receive, send)
            return
        wait_s = self._wait_s(client, login.name)
        if wait_s > 0:
            await _send_all(_refusal(wait_s), send)
            return

        async def watched(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] == 401:
                self._by_client.add(client.key)
                self._by_name.add(login.name)
            await send(message)

        self._unanswered[client.key] += 1
        try:
            await self.app(scope, login.receive, watched)
        finally:
            self._unanswered[client.key] -= 1
            if not self._unanswered[client.key]:
                del self._unanswered[client.key]

    def _wait_s(self, client: Client, name: str) -> float:
        """Seconds that a client has to wait with this name; 0 where it need not."""
        failed, unanswered = self._by_client.count(client.key), self._unanswered[client.key]
        is_crowd = unanswered >= AT_ONCE or (failed > 0 and failed + unanswered >= FAILURES)
        by_name = self._by_name.wait_s(name) if failed > 0 or client.is_claimed else 0.0
        return max(self._by_client.wait_s(client.key), by_name, 1.0 if is_crowd else 0.0)


def client_of(scope: Message) -> Client | None:
    """Who sent a request; None: the account that runs this server."""
    forwarded = _header(scope, b"x-forwarded-for")
    if forwarded:
        return Client(f"forwarded {forwarded.rpartition(b',')[2].strip().decode('latin-1')}", is_claimed=True)
    host, port = scope.get("client") or ("", 0)
    if not host.startswith("127."):
        return Client(host)
    account = _account((host, port), scope["server"])
    if account == os.getuid():
        return None
    return Client(host if account is None else f"account {account}")


def _account(client: tuple[str, int], server: tuple[str, int]) -> int | None:
    """User id of whoever holds the loopback connection of `client`; None: the kernel does not say, as without Linux.

    Asked by netlink for one connection (sock_diag(7)): /proc/net/tcp lists all there are, and takes milliseconds.
    """
    try:
        ports = struct.pack("!HH", client[1], server[1])
        addresses = (socket.inet_aton(host).ljust(16, b"\0") for host in (client[0], server[0]))
        identity = ports + b"".join(addresses) + NO_INTERFACE + NO_COOKIE
        request = ANY_TCP + identity
        with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, SOCK_DIAG) as kernel:
            kernel.settimeout(1)
            kernel.send(struct.pack("=IHHII", HEAD + len(request), BY_FAMILY, IS_REQUEST, 0, 0) + request)
            answer = kernel.recv(4096)
    except (OSError, AttributeError, struct.error):
        return None
    is_found = len(answer) >= UID_AT + 4 and struct.unpack_from("=IH", answer)[1] == BY_FAMILY
    if not is_found or answer[HEAD + 1] != ESTABLISHED:  # a connection that is closed belongs to nobody: 0
        return None
    return int(struct.unpack_from("=I", answer, UID_AT)[0])


async def basic_try(scope: Message, receive: Receive) -> Try | None:
    """A request with HTTP's basic authentication, as MLflow's clients send."""
    scheme, _, credentials = _header(scope, b"authorization").partition(b" ")
    if scheme.lower() != b"basic":
        return None
    try:
        name = base64.b64decode(credentials).partition(b":")[0].decode(errors="replace")
    except binascii.Error:
        name = ""
    return Try(name, receive)


async def airflow_try(scope: Message, receive: Receive) -> Try | None:
    """A name and a password for a token, as Airflow's login page and its clients send, in JSON or as a form.

    Raises:
        Unreadable: it is too long, or comes too slowly.
    """
    if scope["method"] != "POST" or not scope["path"].endswith(AIRFLOW_LOGINS):
        return None
    messages: list[Message] = []
    size = 0
    try:
        async with asyncio.timeout(READ_S):
            while not messages or messages[-1].get("more_body"):
                messages.append(await receive())
                size += len(messages[-1].get("body", b""))
                if size > MAX_LOGIN:
                    raise Unreadable(413, f"a login may have {MAX_LOGIN} bytes")
    except TimeoutError:
        raise Unreadable(408, f"the login did not come within {READ_S:.0f} s") from None
    unread = list(messages)

    async def replay() -> Message:
        return unread.pop(0) if unread else await receive()

    body = b"".join(message.get("body", b"") for message in messages)
    return Try(_name_in(body, is_form=b"form" in _header(scope, b"content-type")), replay)


def _name_in(body: bytes, is_form: bool) -> str:
    """The user name in a login; empty: there is none, and the server will say so.

    >>> _name_in(b'{"username": "ann", "password": "a"}', False), _name_in(b"username=ann&password=a", True)
    ('ann', 'ann')
    """
    if is_form:
        return parse_qs(body.decode("latin-1")).get("username", [""])[0]
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    return str(content.get("username", "")) if isinstance(content, Mapping) else ""


def _header(scope: Message, name: bytes) -> bytes:
    """All values of a header, as WSGI puts them together."""
    return b",".join(value for key, value in scope["headers"] if key == name)


def _digest(key: str) -> bytes:
    return hashlib.blake2b(key.encode(errors="surrogatepass"), digest_size=16).digest()


def _refusal(wait_s: float) -> list[Message]:
    """Its answer: `detail` is what Airflow's clients show, `message` what MLflow's do."""
    seconds = ceil(wait_s)
    text = f"too many failed logins; try again in {seconds} s"
    content = {"detail": text, "error_code": "RESOURCE_EXHAUSTED", "message": text}
    return json_answer(429, content, (b"retry-after", str(seconds).encode()))


async def _send_all(messages: list[Message], send: Send) -> None:
    for message in messages:
        await send(message)
