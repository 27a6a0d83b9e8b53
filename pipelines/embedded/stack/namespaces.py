"""A host of its own for each service, as a container is one: Linux namespaces, joined by a bridge for each network.

A host has its addresses, its name, and of the stack's folder what is its own. It resolves the names of the hosts that
it shares a network with, and reaches no other. Networks lead nowhere else; `publish` puts ports on loopback.
Needs root and `ip`.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from pipelines.embedded.processes.ports import HOST
from pipelines.errors import ConfigError

FIRST, BLOCKS = "10.213", 63
STAGES = ("/mnt", "/media", "/srv")  # empty folders of every system: one is covered while a host is made, in it alone
COMMAND_S = 30

# Of the stack's folder ($1) the host sees the folders of its own: pairs of what is there and where it sees it.
ENTER = """
hidden=$1 stage=$2 name=$3 hosts=$4 user=$5 work=$6; shift 6
echo "$name" > /proc/sys/kernel/hostname
mount --bind "$hosts" /etc/hosts
mount -t tmpfs -o mode=755 evergreen "$stage"
number=0 count=$1; shift
while [ "$number" -lt "$count" ]; do
  mkdir "$stage/$number"; mount --bind "$1" "$stage/$number"; printf '%s\\n' "$2" > "$stage/$number.place"
  number=$((number + 1)); shift 2
done
mount -t tmpfs -o mode=755 evergreen "$hidden"
while [ "$number" -gt 0 ]; do
  number=$((number - 1)); read -r place < "$stage/$number.place"
  mkdir -p "$place"; mount --bind "$stage/$number" "$place"
done
umount --lazy "$stage"
cd "$work"
if [ -n "$user" ]; then exec setpriv --reuid="$user" --regid="$user" --init-groups "$@"; fi
exec "$@"
"""


class Namespaces:
    """Hosts by name, and the networks that each is on."""

    def __init__(self, home: Path, hosts: Mapping[str, Sequence[str]]) -> None:
        self._home = home
        self._hosts = hosts
        self._mark = hashlib.sha256(str(home).encode()).hexdigest()[:5]
        self._networks = list(dict.fromkeys(network for networks in hosts.values() for network in networks))
        self._block = 0

    @contextmanager
    def up(self) -> Iterator[None]:
        """Make the networks and the hosts, those of a start that was killed anew; they go at the end.

        Raises:
            ConfigError: this system does not let them be made.
        """
        self._remove()
        try:
            self._block = self._free_block()
            _ip("".join(self._bridges()))
            for host in self._hosts:
                _ip("".join(self._links(host)), self.namespace(host))
                self.names_of(host).write_text(self.names(host))
            yield
        finally:
            self._remove()

    def address(self, host: str, network: str | None = None) -> str:
        """Of a host on a network; by default on its first."""
        network = network or self._hosts[host][0]
        return f"{self._subnet(network)}.{list(self._hosts).index(host) + 2}"

    def namespace(self, host: str) -> str:
        return f"evergreen-{self._mark}-{host}"

    def names_of(self, host: str) -> Path:
        """Its /etc/hosts."""
        return self._home / "hosts" / f"{host}.names"

    def names(self, host: str) -> str:
        """The names that a host resolves: of those that it shares a network with."""
        lines = ["127.0.0.1 localhost"]
        for other, networks in self._hosts.items():
            shared = [network for network in self._hosts[host] if network in networks]
            if shared:
                lines.append(f"{self.address(other, shared[0])} {other}")
        return "\n".join(lines) + "\n"

    def enter(
        self, host: str, user: str, work: Path, folders: Mapping[Path, Path], command: Sequence[str]
    ) -> list[str]:
        """What runs a command on a host, as a user ("" for root), in the folder `work`. `folders`: those of the stack's
        folder that it sees, and where."""
        stage = next(name for name in STAGES if Path(name).is_dir() and not self._home.is_relative_to(name))
        pairs = [str(path) for pair in folders.items() for path in pair]
        words = [str(self._home), stage, host, str(self.names_of(host)), user, str(work), str(len(folders)), *pairs]
        into = ["nsenter", f"--net=/run/netns/{self.namespace(host)}", "unshare", "--mount", "--uts", "--"]
        return [*into, "sh", "-euc", ENTER, "sh", *words, *command]

    def cut_off(self, host: str, *, is_down: bool) -> None:
        """Take a host's links down, or up again."""
        number = list(self._hosts).index(host)
        for network in self._hosts[host]:
            _ip(f"link set {self._link(number, network)} {'down' if is_down else 'up'}\n")

    def _bridges(self) -> Iterator[str]:
        for network in self._networks:
            yield f"link add {self._bridge(network)} type bridge\n"
            yield f"addr add {self._subnet(network)}.1/24 dev {self._bridge(network)}\n"
            yield f"link set {self._bridge(network)} up\n"
        for number, (host, networks) in enumerate(self._hosts.items()):
            yield f"netns add {self.namespace(host)}\n"
            for network in networks:
                link = self._link(number, network)
                yield f"link add {link} type veth peer name {self._device(network)} netns {self.namespace(host)}\n"
                yield f"link set {link} master {self._bridge(network)}\n"
                yield f"link set {link} up\n"

    def _links(self, host: str) -> Iterator[str]:
        yield "link set lo up\n"
        for network in self._hosts[host]:
            yield f"addr add {self.address(host, network)}/24 dev {self._device(network)}\n"
            yield f"link set {self._device(network)} up\n"

    def _bridge(self, network: str) -> str:
        return f"eg{self._mark}n{self._networks.index(network)}"

    def _link(self, number: int, network: str) -> str:
        return f"eg{self._mark}h{number}n{self._networks.index(network)}"

    def _device(self, network: str) -> str:
        return f"eth{self._networks.index(network)}"

    def _subnet(self, network: str) -> str:
        return f"{FIRST}.{self._block * 4 + self._networks.index(network)}"

    def _free_block(self) -> int:
        routes = _run(["ip", "-4", "route", "show", "table", "all"])
        taken = {int(part) // 4 for part in re.findall(rf"\b{re.escape(FIRST)}\.(\d+)\.", routes)}
        for block in range(BLOCKS):
            if block not in taken:
                return block
        raise ConfigError(
            f"no addresses are left in {FIRST}.0.0/16", where="ip route", cure="stop stacks that nobody uses"
        )

    def _remove(self) -> None:
        for line in _run(["ip", "netns", "list"]).splitlines():
            name = line.partition(" ")[0]
            if name.startswith(f"evergreen-{self._mark}-"):
                _run(["ip", "netns", "del", name])
        for name in re.findall(rf"^\d+: (eg{self._mark}[nh]\w+)", _run(["ip", "-o", "link"]), flags=re.MULTILINE):
            with suppress(ConfigError):  # one end of a pair goes with the other
                _run(["ip", "link", "del", name])


def _ip(batch: str, namespace: str = "") -> None:
    _run(["ip", *(["-n", namespace] if namespace else []), "-batch", "-"], batch)


def _run(command: list[str], text: str = "") -> str:
    done = subprocess.run(command, check=False, input=text, capture_output=True, text=True, timeout=COMMAND_S)
    if done.returncode:
        raise ConfigError(
            f"this system makes no network namespaces: {done.stderr.strip()[-300:]}",
            where=" ".join(command),
            cure="run it where root may (not in an unprivileged container); as another user it does without them",
        )
    return done.stdout


@contextmanager
def publish(ports: Mapping[int, tuple[str, int]]) -> Iterator[None]:
    """Pass on what comes to ports of loopback, each to an address and port of a host."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True, name="evergreen-ports")
    thread.start()

    async def listen() -> list[asyncio.Server]:
        return [
            await asyncio.start_server(partial(_pass_on, host=host, port=inside), HOST, port)
            for port, (host, inside) in ports.items()
        ]

    async def end(servers: list[asyncio.Server]) -> None:
        for server in servers:
            server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    servers = asyncio.run_coroutine_threadsafe(listen(), loop).result()
    try:
        yield
    finally:
        asyncio.run_coroutine_threadsafe(end(servers), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str, port: int) -> None:
    try:
        there, back = await asyncio.open_connection(host, port)
    except OSError:
        writer.close()
        return
    try:
        await asyncio.gather(_copy(reader, back), _copy(there, writer))
    except asyncio.CancelledError:
        pass  # by `publish`, whose ports close: Python 3.11 prints a traceback for a connection that ends as cancelled
    finally:
        back.close()
        writer.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):  # either end may go at any time
        while data := await reader.read(2**16):
            writer.write(data)
            await writer.drain()
    with suppress(OSError):
        writer.write_eof()
