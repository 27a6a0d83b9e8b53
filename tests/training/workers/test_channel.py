from __future__ import annotations

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from pipelines.training.workers import channel
from pipelines.training.workers.channel import Channel, Door, Silence, knock

SECRET = b"kettle"


@pytest.fixture
def door() -> Iterator[Door]:
    opened = Door("127.0.0.1")
    yield opened
    opened.close()


def pair(door: Door, secret: bytes = SECRET) -> tuple[Channel, Channel]:
    with ThreadPoolExecutor() as pool:
        knocking = pool.submit(knock, "127.0.0.1", door.port, secret)
        admitted = door.admit(SECRET, timeout_s=10)
        knocked = knocking.result()
    assert admitted is not None
    return admitted, knocked


def test_messages_go_both_ways_and_a_closed_connection_is_noticed(door: Door) -> None:
    ours, theirs = pair(door)
    theirs.send({"rounds": 3})
    assert ours.receive(timeout_s=10) == {"rounds": 3}
    ours.send("go")
    assert theirs.receive(timeout_s=10) == "go"
    assert ours.receive(timeout_s=0) is None
    theirs.close()
    with pytest.raises(Silence, match="is closed"):
        ours.receive(timeout_s=10)


def test_nobody_comes_in_without_the_secret(door: Door) -> None:
    assert door.admit(SECRET, timeout_s=0.01) is None
    with ThreadPoolExecutor() as pool:
        knocking = pool.submit(knock, "127.0.0.1", door.port, b"teapot")
        assert door.admit(SECRET, timeout_s=10) is None
        with pytest.raises(Exception, match=r"digest|EOF|reset|rejected"):
            knocking.result()


def test_a_side_that_says_nothing_is_given_up(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel, "SILENT_S", 1.0)
    ours, theirs = pair(door)
    theirs._is_over.set()  # it says no more that it lives, as a host that was cut off
    with pytest.raises(Silence, match="nothing was heard of it for 1 s"):
        for _ in range(50):
            ours.receive(timeout_s=0.1)


def test_who_is_alive_is_heard_of_without_a_message(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel, "BEAT_S", 0.05)
    ours, _ = pair(door)
    heard = ours.heard
    while ours.heard == heard:
        assert ours.receive(timeout_s=1) is None


def test_a_stranger_that_is_silent_holds_up_nobody_for_long(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel, "SILENT_S", 1.0)
    with socket.create_connection(("127.0.0.1", door.port)):
        assert door.admit(SECRET, timeout_s=5) is None
    assert pair(door)[0].receive(timeout_s=0) is None
