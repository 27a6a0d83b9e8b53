"""Who has failed to log in too often waits, and nobody else does."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import socket
import struct
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from pipelines.embedded import login_tries
from pipelines.embedded.login_tries import (
    AIRFLOW_LOGINS,
    AT_ONCE,
    FAILURES,
    MAX_LOGIN,
    MOST_KEYS,
    WINDOW_S,
    Client,
    Failures,
    LoginTries,
    airflow_try,
    basic_try,
    client_of,
)
from tests.embedded.test_one_writer import client as chunks

RIGHT = {"admin": "right", "ann": "also right"}


class Answer(NamedTuple):
    status: int
    headers: dict[bytes, bytes]
    body: bytes


class Door:
    """A server with a login behind the limit, and a clock that stands still. It notes whom it was asked by."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.asked = 0
        self.limited = LoginTries(self._server, basic_try, lambda: self.now)
        self.is_open = asyncio.Event()
        self.is_open.set()

    async def _server(self, scope: Any, receive: Any, send: Any) -> None:
        self.asked += 1
        await self.is_open.wait()
        credentials = base64.b64decode(
            dict(scope["headers"]).get(b"authorization", b"").removeprefix(b"Basic ")
        ).decode()
        name, _, password = credentials.partition(":")
        status = 200 if RIGHT.get(name) == password else 401
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def knock(self, name: str | None, password: str, host: str, forwarded: str | None = None) -> Answer:
        headers = []
        if name is not None:
            credentials = base64.b64encode(f"{name}:{password}".encode())
            headers.append((b"authorization", b"Basic " + credentials))
        if forwarded:
            headers.append((b"x-forwarded-for", forwarded.encode()))
        scope = {"type": "http", "method": "GET", "path": "/", "headers": headers, "client": (host, 1)}
        return await answer_of(self.limited, scope, chunks([b""]))

    def statuses(self, *knocks: tuple[str | None, str, str] | tuple[str | None, str, str, str]) -> list[int]:
        async def in_turn() -> list[int]:
            return [(await self.knock(*each)).status for each in knocks]

        return asyncio.run(in_turn())


async def answer_of(app: Any, scope: Any, receive: Any) -> Answer:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, receive, send)
    return Answer(sent[0]["status"], dict(sent[0]["headers"]), sent[1]["body"])


def wrong(host: str, name: str = "admin") -> tuple[str, str, str]:
    return (name, "wrong", host)


def test_after_ten_failures_a_client_waits_whatever_it_brings() -> None:
    door = Door()
    assert door.statuses(*[wrong("10.0.0.9", f"name {number}") for number in range(FAILURES)]) == [401] * FAILURES
    assert door.statuses(("admin", "right", "10.0.0.9")) == [429]
    refused = asyncio.run(door.knock("admin", "wrong", "10.0.0.9"))
    assert refused.headers[b"retry-after"] == b"300"
    assert json.loads(refused.body)["detail"] == "too many failed logins; try again in 300 s"
    assert door.asked == FAILURES, "the server is not asked"
    door.now += WINDOW_S - 1
    assert door.statuses(("admin", "right", "10.0.0.9")) == [429]
    door.now += 1
    assert door.statuses(("admin", "right", "10.0.0.9")) == [200], "to be refused makes the wait no longer"


def test_logins_that_succeed_and_requests_without_one_are_not_counted() -> None:
    door = Door()
    knocks = [("admin", "right", "10.0.0.1"), wrong("10.0.0.1"), (None, "", "10.0.0.1")] * (FAILURES - 1)
    assert door.statuses(*knocks, *[("admin", "right", "10.0.0.1")] * 200).count(429) == 0
    assert door.statuses(wrong("10.0.0.1"), ("admin", "right", "10.0.0.1")) == [401, 429], "nor do they take back"


def test_a_stranger_keeps_nobody_else_out() -> None:
    door = Door()
    door.statuses(*[wrong("10.0.0.9")] * 50)
    assert door.statuses(("admin", "right", "10.0.0.1"), ("ann", "also right", "10.0.0.2")) == [200, 200]


def test_many_clients_have_ten_failures_for_a_name_and_one_each_after_that() -> None:
    door = Door()
    door.statuses(*[wrong(f"10.0.1.{number}") for number in range(FAILURES)])
    assert door.statuses(wrong("10.0.1.1"), wrong("10.0.2.1"), wrong("10.0.2.1")) == [429, 401, 429]
    assert door.statuses(("ann", "also right", "10.0.1.1")) == [200], "of another name"


def test_who_makes_addresses_up_has_ten_failures_for_a_name() -> None:
    door = Door()
    tries = [("admin", "wrong", "127.0.0.1", f"10.9.9.{number}") for number in range(FAILURES + 5)]
    assert door.statuses(*tries) == [401] * FAILURES + [429] * 5


def test_tries_at_once_are_counted_before_they_are_answered() -> None:
    door = Door()
    door.statuses(wrong("10.0.0.9"))

    async def crowd(host: str, count: int) -> list[int]:
        door.is_open = asyncio.Event()
        tasks = [asyncio.create_task(door.knock("admin", "wrong", host)) for _ in range(count)]
        await asyncio.sleep(0)
        door.is_open.set()
        return [answer.status for answer in await asyncio.gather(*tasks)]

    assert asyncio.run(crowd("10.0.0.9", 30)).count(401) == FAILURES - 1
    assert asyncio.run(crowd("10.0.0.8", 90)).count(401) == AT_ONCE
    assert not door.limited._unanswered


def test_what_is_known_of_failures_is_bounded() -> None:
    failures = Failures(lambda: 0.0)
    for number in range(MOST_KEYS + 100):
        failures.add(f"{number}" * 1_000)
    for _ in range(1_000):
        failures.add("the same")
    assert len(failures._times) == MOST_KEYS and failures.count("the same") == FAILURES
    assert all(len(key) == 16 for key in failures._times)


def test_on_loopback_a_client_is_an_account_and_the_servers_own_never_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as mine:
        accepted, address = listener.accept()
        with accepted:
            scope = {"headers": [], "client": address, "server": listener.getsockname()}
            assert client_of(scope) is None
            monkeypatch.setattr(os, "getuid", lambda: 4711)
            account = Path("/proc/self").stat().st_uid
            assert client_of(scope) == Client(f"account {account}")
            mine.shutdown(socket.SHUT_WR)
            assert client_of(scope) == Client("127.0.0.1"), "of a connection that is half closed nothing is believed"
    assert client_of(scope) == Client("127.0.0.1")


def test_where_the_kernel_does_not_say_the_account_the_address_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(socket, "AF_NETLINK")
    scope = {"headers": [], "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 2)}
    assert client_of(scope) == Client("127.0.0.1")
    assert struct.calcsize("=IHHII") == login_tries.HEAD


async def token(scope: Any, receive: Any, send: Any) -> None:
    """Airflow's route: it reads the login again."""
    body = b""
    while True:
        message = await receive()
        body += message["body"]
        if not message.get("more_body"):
            break
    await send({"type": "http.response.start", "status": 401, "headers": []})
    await send({"type": "http.response.body", "body": body})


@pytest.mark.parametrize("path", [*AIRFLOW_LOGINS, "/below/a/path/auth/token"])
@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (b"application/json", b'{"username": "admin", "password": "wrong"}'),
        (b"application/x-www-form-urlencoded", b"username=admin&password=wrong"),
        (b"application/x-www-form-urlencoded", b'"&username=admin&password=wrong&"'),
    ],
)
def test_airflows_logins_are_counted_by_name_and_read_whole(path: str, kind: bytes, body: bytes) -> None:
    app = LoginTries(token, airflow_try)

    def knock(number: int, method: str = "POST") -> Answer:
        headers = [(b"content-type", kind), (b"x-forwarded-for", b"10.0.0.%d" % number)]
        scope = {"type": "http", "method": method, "path": path, "headers": headers, "client": ("127.0.0.1", 1)}
        return asyncio.run(answer_of(app, scope, chunks([body[:9], body[9:]])))

    answers = [knock(number) for number in range(FAILURES + 1)]
    assert [answer.status for answer in answers] == [401] * FAILURES + [429]
    assert answers[0].body == body
    assert knock(99, "PUT").status == 401, "that is no login"


def test_a_login_that_does_not_end_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    app = LoginTries(token, airflow_try)
    scope = {"type": "http", "method": "POST", "path": "/auth/token", "headers": [], "client": ("10.0.0.1", 1)}
    assert asyncio.run(answer_of(app, scope, chunks([b"x" * MAX_LOGIN, b"x"]))).status == 413
    monkeypatch.setattr(login_tries, "READ_S", 0.01)
    assert asyncio.run(answer_of(app, scope, chunks([b"x"], delay_s=60))).status == 408


@pytest.mark.parametrize(
    ("headers", "name"),
    [
        ([b"Basic YW5uOmE="], "ann"),
        ([b"basic   YW5uOmE="], "ann"),
        ([b"Basic YW5uOmE=", b"Bearer abc"], "ann"),
        ([b"Basic !"], ""),
        ([b"Bearer abc"], None),
        ([], None),
    ],
)
def test_the_name_in_basic_authentication(headers: list[bytes], name: str | None) -> None:
    scope = {"headers": [(b"authorization", header) for header in headers]}
    login = asyncio.run(basic_try(scope, chunks([b""])))
    assert (login and login.name) == name
