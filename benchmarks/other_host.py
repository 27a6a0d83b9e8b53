"""Another host on this machine: a network namespace, which shares with this one a link that can be taken down.

Needs Linux, root and `ip`. What a process on it reaches of this host are the ports that were relayed.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

HERE, THERE, NAMESPACE, LINK, FAR_LINK = "10.213.0.1", "10.213.0.2", "evergreen", "evergreen0", "evergreen1"
INSIDE = ("ip", "netns", "exec", NAMESPACE)  # before a command that is to run there
LOOPBACK = "127.0.0.1"
LISTENS_S = 20.0
NEW_NETWORK = 0x40000000  # CLONE_NEWNET, of <sched.h>


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


def is_possible() -> bool:
    """Whether this process may make one."""
    if not shutil.which("ip"):
        return False
    made = subprocess.run(["ip", "netns", "add", f"{NAMESPACE}-try"], check=False, capture_output=True)
    if made.returncode == 0:
        ip("netns", "del", f"{NAMESPACE}-try")
    return made.returncode == 0


@contextmanager
def other_host(ports: Sequence[int] = ()) -> Iterator[None]:
    """It is there within. What listens on this host's loopback at one of `ports` is found at the same port of its."""
    ip("netns", "add", NAMESPACE)
    try:
        ip("link", "add", LINK, "type", "veth", "peer", "name", FAR_LINK, "netns", NAMESPACE)
        ip("addr", "add", f"{HERE}/24", "dev", LINK)
        ip("-n", NAMESPACE, "addr", "add", f"{THERE}/24", "dev", FAR_LINK)
        for link in ("lo", FAR_LINK):
            ip("-n", NAMESPACE, "link", "set", link, "up")
        connect()
        with ExitStack() as stack:
            for port in ports:
                stack.enter_context(_relay((), f"{HERE}:{port}", f"{LOOPBACK}:{port}"))
                stack.enter_context(_relay(INSIDE, f"{LOOPBACK}:{port}", f"{HERE}:{port}"))
            yield
    finally:
        ip("netns", "del", NAMESPACE)  # with its end of the link, and so the other one


def connect() -> None:
    ip("link", "set", LINK, "up")


def disconnect() -> None:
    """Nothing comes through any more; whoever waits for an answer is not told."""
    ip("link", "set", LINK, "down")


def move_there() -> None:
    """This process, and those that it starts from now on, run on the other host."""
    with Path("/run/netns", NAMESPACE).open() as place:
        if ctypes.CDLL(None, use_errno=True).setns(place.fileno(), NEW_NETWORK):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


@contextmanager
def _relay(inside: Sequence[str], listens: str, target: str) -> Iterator[None]:
    command = [*inside, sys.executable, "-m", "benchmarks.other_host", listens, target]
    with subprocess.Popen(command, cwd=Path(__file__).parents[1]) as process:
        try:
            _await_listener(inside, listens)
            yield
        finally:
            process.terminate()


def _await_listener(inside: Sequence[str], listens: str) -> None:
    until = time.monotonic() + LISTENS_S
    program = f"import socket; socket.create_connection({_address(listens)!r}, 1)"
    while subprocess.run([*inside, sys.executable, "-c", program], check=False, capture_output=True).returncode:
        if time.monotonic() > until:
            raise RuntimeError(f"nobody listens on {listens}")
        time.sleep(0.1)


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host, int(port)


async def serve(listens: str, target: str) -> None:
    """Pass on what comes, both ways."""

    async def passed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(2**16):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection(*_address(target), family=socket.AF_INET)
        except OSError:
            writer.transport.abort()
            return
        await asyncio.gather(passed(reader, far_writer), passed(far_reader, writer))

    server = await asyncio.start_server(accepted, *_address(listens))
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(*sys.argv[1:]))
