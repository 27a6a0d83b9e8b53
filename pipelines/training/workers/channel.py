"""How workers and who watches them talk: over one connection each, on which both say every few seconds that they live.

A process that is killed closes its connection at once; a host that is cut off falls silent. Either way the other side
knows within SILENT_S, whatever XGBoost is waiting for.
"""

from __future__ import annotations

import socket
import struct
import threading
import time
from contextlib import suppress
from multiprocessing import AuthenticationError
from multiprocessing.connection import Connection, answer_challenge, deliver_challenge
from typing import Any

BEAT_S, SILENT_S = 3.0, 30.0


class Silence(Exception):
    """The other side has closed the connection, or has not been heard of for SILENT_S."""


class Channel:
    """Messages in both directions; each is an object that can be pickled, and not None.

    Attributes:
        own_host: this side's address, at which others on the same network reach it.
    """

    def __init__(self, connection: Connection, own_host: str) -> None:
        self.connection = connection
        self.own_host = own_host
        self.heard = time.monotonic()
        self._lock = threading.Lock()
        self._is_over = threading.Event()
        threading.Thread(target=self._beat, daemon=True).start()

    def send(self, message: Any) -> None:
        """Raises Silence."""
        try:
            with self._lock:
                self.connection.send(message)
        except OSError as error:
            raise Silence(f"it cannot be reached: {error}") from error

    def receive(self, timeout_s: float) -> Any:
        """The next message; None: there was none in that time. Raises Silence."""
        try:
            if not self.connection.poll(timeout_s):
                self._require_heard()
                return None
            message = self.connection.recv()
        except (EOFError, OSError) as error:
            raise Silence("its connection is closed") from error
        self.heard = time.monotonic()
        return message

    def close(self) -> None:
        self._is_over.set()
        self.connection.close()

    def _require_heard(self) -> None:
        if time.monotonic() - self.heard > SILENT_S:
            raise Silence(f"nothing was heard of it for {SILENT_S:g} s")

    def _beat(self) -> None:
        with suppress(Silence):
            while not self._is_over.wait(BEAT_S):
                self.send(None)


class Door:
    """Where workers knock."""

    def __init__(self, host: str) -> None:
        self._socket = socket.create_server((host, 0))
        self.port: int = self._socket.getsockname()[1]

    def admit(self, secret: bytes, timeout_s: float) -> Channel | None:
        """A worker that knows the secret; None: nobody came in that time who does."""
        self._socket.settimeout(timeout_s)
        try:
            accepted, _ = self._socket.accept()
        except TimeoutError:
            return None
        own_host, connection = _connection(accepted)
        try:
            deliver_challenge(connection, secret)
            answer_challenge(connection, secret)
        except (AuthenticationError, EOFError, OSError):
            connection.close()
            return None
        return Channel(connection, own_host)

    def close(self) -> None:
        self._socket.close()


def knock(host: str, port: int, secret: bytes) -> Channel:
    """The worker's side."""
    own_host, connection = _connection(socket.create_connection((host, port), timeout=SILENT_S))
    answer_challenge(connection, secret)
    deliver_challenge(connection, secret)
    return Channel(connection, own_host)


def _connection(opened: socket.socket) -> tuple[str, Connection]:
    """This side's address, and the connection."""
    opened.setblocking(True)
    limit = struct.pack("ll", int(SILENT_S), 0)  # of a message that stops half way
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
    opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return opened.getsockname()[0], Connection(opened.detach())
