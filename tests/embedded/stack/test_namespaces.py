"""Who reaches whom by which name; namespaces themselves are made by benchmarks.stack."""

from __future__ import annotations

import socket
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest

from pipelines.embedded.processes.ports import is_free
from pipelines.embedded.stack import description, namespaces
from pipelines.embedded.stack.namespaces import Namespaces, publish
from pipelines.errors import ConfigError
from pipelines.problem import ROOT

NETWORKS = {name: container.networks for name, container in description.read(ROOT).items()}


def test_a_host_resolves_those_that_it_shares_a_network_with_and_no_other(tmp_path: Path) -> None:
    hosts = Namespaces(tmp_path, NETWORKS)
    for host, networks in NETWORKS.items():
        names = {line.split()[1] for line in hosts.names(host).splitlines()}
        assert names == {"localhost"} | {other for other in NETWORKS if set(networks) & set(NETWORKS[other])}
    assert "redis" not in hosts.names("dag-processor")
    assert f"{hosts.address('redis')} redis" in hosts.names("worker")


def test_addresses_and_devices_are_one_hosts_alone(tmp_path: Path) -> None:
    hosts = Namespaces(tmp_path, NETWORKS)
    addresses = [hosts.address(host, network) for host, networks in NETWORKS.items() for network in networks]
    assert len(set(addresses)) == len(addresses)
    links = [hosts._link(number, network) for number, of in enumerate(NETWORKS.values()) for network in of]
    assert len(set(links)) == len(links)
    assert max(map(len, links)) < 16, "the kernel takes no longer names"
    other = Namespaces(tmp_path / "other", NETWORKS)
    assert not {hosts.namespace(host) for host in NETWORKS} & {other.namespace(host) for host in NETWORKS}


def test_a_command_is_run_with_its_words_as_they_are(tmp_path: Path) -> None:
    hosts = Namespaces(tmp_path / "home", NETWORKS)
    command = ["sh", "-c", "echo $HOME; 'x'"]
    words = hosts.enter("redis", "redis", ROOT, {tmp_path / "a": Path("/var/lib/redis")}, command)
    assert words[-3:] == command
    assert words[:2] == ["nsenter", f"--net=/run/netns/{hosts.namespace('redis')}"]
    assert words[words.index("redis") + 1 :][:4] == [str(hosts.names_of("redis")), "redis", str(ROOT), "1"]


def test_other_networks_are_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    routes = "10.213.0.0/24 dev evergreen0\nbroadcast 10.213.7.255 dev x\ndefault via 172.17.0.1"
    monkeypatch.setattr(namespaces, "_run", lambda *_: routes)
    assert Namespaces(tmp_path, NETWORKS)._free_block() == 2
    all_taken = "\n".join(f"10.213.{number}.0/24 dev x" for number in range(256))
    monkeypatch.setattr(namespaces, "_run", lambda *_: all_taken)
    with pytest.raises(ConfigError, match="no addresses are left"):
        Namespaces(tmp_path, NETWORKS)._free_block()


def test_a_system_that_makes_none_is_named_with_its_own_words() -> None:
    with pytest.raises(ConfigError, match=r"no network namespaces: .*no such thing"):
        namespaces._run(["sh", "-c", "echo no such thing >&2; exit 1"])


def test_a_published_port_passes_both_ways_until_it_is_closed(free_port: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def shout_back() -> None:
            connection, _ = server.accept()
            with connection:
                connection.sendall(b"".join(iter(lambda: connection.recv(1024), b"")).upper())

        thread = threading.Thread(target=shout_back)
        thread.start()
        with publish({free_port: ("127.0.0.1", server.getsockname()[1])}):
            with socket.create_connection(("127.0.0.1", free_port), timeout=10) as client:
                client.sendall(b"x" * 200_000)
                client.shutdown(socket.SHUT_WR)
                answer = b"".join(iter(lambda: client.recv(65536), b""))
            assert answer == b"X" * 200_000
        thread.join(10)
    assert is_free(free_port)


def test_a_client_that_stays_is_let_go_of_without_a_word_when_the_port_closes(
    free_port: int, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, ExitStack() as open_ones:
        with publish({free_port: ("127.0.0.1", server.getsockname()[1])}):
            client = open_ones.enter_context(socket.create_connection(("127.0.0.1", free_port), timeout=10))
            behind = open_ones.enter_context(server.accept()[0])
            client.sendall(b"x")
            assert behind.recv(1) == b"x"
        assert client.recv(1) == b""
    assert caplog.messages == []


def test_nobody_behind_a_published_port_is_an_end_and_no_hang(free_port: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        nobodys = server.getsockname()[1]
    with (
        publish({free_port: ("127.0.0.1", nobodys)}),
        socket.create_connection(("127.0.0.1", free_port), timeout=10) as client,
    ):
        assert client.recv(1) == b""


@pytest.fixture
def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])
