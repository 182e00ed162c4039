"""Nodes that already run: addresses, keys, and taking part without owning anything."""

from __future__ import annotations

import os
import socket
import threading
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

import skyward as sky
from skyward.errors import ConfigError, ProvisionError
from skyward.model import Nodes
from skyward.providers.base import Launched, LaunchSpec
from skyward.providers.static import Address, Static
from skyward.testing import PROVIDER_CHECKS, check_close_leaves_nothing, check_terminated_node_is_gone
from skyward.transport.keys import make_pair, read_pair

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

KEY, OTHER = make_pair().public, make_pair().public


@pytest.fixture
def ports() -> Iterator[list[int]]:
    """Return ports where somebody listens."""
    servers = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
    yield [server.getsockname()[1] for server in servers]
    for server in servers:
        server.close()


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return where the client's key is, unless a test says otherwise."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    return tmp_path / "skyward" / "client"


def nodes(ports: list[int]) -> list[str]:
    """Return the addresses of nodes at these ports."""
    return [f"tcp://127.0.0.1:{port} {KEY}" for port in ports]


def launch(provider: Static, index: int = 0, **spec: Any) -> Launched:
    """Take a node."""
    return provider.launch(LaunchSpec(**spec), index, threading.Event())


# --- addresses -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (f"tcp://10.0.0.5:7700 {KEY}", ("tcp://10.0.0.5:7700", KEY)),
        (f"  tcp://gpu.example.org:7700\t{KEY}\n", ("tcp://gpu.example.org:7700", KEY)),
        (("tcp://[fe80::1]:7700", KEY), ("tcp://[fe80::1]:7700", KEY)),
        (["tcp://a:1", KEY], ("tcp://a:1", KEY)),
        ("ipc:///run/node.sock", ("ipc:///run/node.sock", "")),
        (("ipc:///run/node.sock", ""), ("ipc:///run/node.sock", "")),
    ],
)
def test_node_is_an_endpoint_and_a_key(given: Any, expected: tuple[str, str]) -> None:
    """In one string or as a pair; a socket file is its owner's alone and needs no key."""
    assert Address.parse(given) == expected
    assert Address.parse(Address.parse(given)) == expected


@pytest.mark.rule("R42")
@pytest.mark.parametrize("given", ["tcp://10.0.0.5:7700", ("tcp://10.0.0.5:7700", ""), ["tcp://10.0.0.5:7700"]])
def test_node_without_a_key_is_refused(given: Any) -> None:
    """Anybody could answer there; the error says where the key comes from."""
    with pytest.raises(
        ConfigError, match=r"the node tcp://10.0.0.5:7700 needs its public key.*`skyward-node keys show`"
    ):
        sky.Static([given])


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ("", "is no node: one looks like 'tcp://10.0.0.5:7700 KEY'"),
        ("10.0.0.5:7700", "is no node"),
        (f"tcp://10.0.0.5 {KEY}", "is no node"),
        (f"tcp://10.0.0.5:x {KEY}", "is no node"),
        (f"tcp://10.0.0.5:0 {KEY}", "is no node"),
        (f"tcp://10.0.0.5:65536 {KEY}", "is no node"),
        (f"tcp://:7700 {KEY}", "is no node"),
        (f"udp://10.0.0.5:7700 {KEY}", "is no node"),
        ("ipc://relative", "is no node"),
        (f"ipc://relative {KEY}", "is no node"),
        (f"ipc:///run/node.sock {KEY}", "^ipc:///run/node.sock takes no key, .*: leave the key out$"),
        (("ipc:///run/node.sock", KEY), "ipc:///run/node.sock takes no key"),
        ("tcp://10.0.0.5:7700 short", "'short' is no key"),
        (f"tcp://10.0.0.5:7700 {KEY} {KEY}", "needs its public key after the address"),
    ],
)
def test_address_that_is_none_is_refused(given: Any, complaint: str) -> None:
    """When it is written down, not when the pool opens."""
    with pytest.raises(ConfigError, match=complaint):
        sky.Static([given])


def test_list_of_nodes_is_checked() -> None:
    """One string is a slip; what is no list, no node, and the same one twice, are mistakes."""
    with pytest.raises(TypeError, match=r"takes a list of nodes, such as sky.Static\(\['tcp"):
        sky.Static(f"tcp://a:1 {KEY}")
    for nothing in (None, 3):
        with pytest.raises(TypeError, match=rf"such as sky\.Static\(\['tcp://10\.0\.0\.5:7700 KEY'\]\), got {nothing}"):
            sky.Static(nothing)  # type: ignore[arg-type]  # that is the point  # pyright: ignore[reportArgumentType]
    with pytest.raises(ConfigError, match="at least one node"):
        sky.Static([])
    with pytest.raises(ConfigError, match="the same node twice"):
        sky.Static([f"tcp://a:1 {KEY}", f"tcp://a:1 {OTHER}"])


@pytest.mark.rule("T19")
def test_repr_shows_where_nodes_are() -> None:
    """And no key of anybody."""
    assert repr(sky.Static([f"tcp://a:1 {KEY}", "ipc:///s"])) == "sky.Static(['tcp://a:1', 'ipc:///s'])"


# --- keys ----------------------------------------------------------------------------------


@pytest.mark.rule("R42")
def test_client_has_a_lasting_key(home: Path) -> None:
    """Made on first use, so that operators can admit it once; a pool finds it when it opens."""
    provider = Static([f"tcp://a:1 {KEY}"])
    assert provider.keys() is None
    assert not home.exists()
    provider.prepare()
    again = provider.for_pool()
    again.prepare()
    assert provider.keys() == again.keys() == read_pair(str(home / "client.key"))


def test_client_may_have_its_key_elsewhere(tmp_path: Path, home: Path) -> None:
    """In a file of any name, also for the pools of this provider."""
    place = str(tmp_path / "mine" / "laptop.key")
    provider = Static([f"tcp://a:1 {KEY}"], key=place).for_pool()
    provider.prepare()
    assert provider.keys() == read_pair(place)
    assert not home.exists()


@pytest.mark.rule("R42")
@pytest.mark.parametrize("key", [3, b"client.key", ("public", "secret"), True])
def test_key_that_is_no_path_is_refused(key: Any) -> None:
    """When it is written down, not when the pool opens; it is not shown, as it may be a pair, and secret."""
    with pytest.raises(
        TypeError, match=f"key must be the path of the file .*, got a value of type {type(key).__name__}$"
    ):
        sky.Static([f"tcp://a:1 {KEY}"], key=key)


def test_path_of_the_key_may_be_an_object(tmp_path: Path) -> None:
    """Of `pathlib`, or any other that stands for a path."""
    provider = Static([f"tcp://a:1 {KEY}"], key=tmp_path / "my.key")
    provider.prepare()
    assert provider.keys() == read_pair(str(tmp_path / "my.key"))


@pytest.mark.rule("R42")
def test_loose_key_of_the_client_is_refused(home: Path) -> None:
    """Whoever could read it could pretend to be the client."""
    Static([f"tcp://a:1 {KEY}"]).prepare()
    (home / "client.key").chmod(0o644)
    with pytest.raises(ConfigError, match=f"run: chmod 0600 {home}/client.key"):
        Static([f"tcp://a:1 {KEY}"]).prepare()
    with pytest.raises(ConfigError, match="chmod"), sky.Compute(sky.Static([f"tcp://a:1 {KEY}"])):
        pass


def test_socket_files_need_no_key_at_all(home: Path) -> None:
    """Nothing is made that nobody asks for."""
    provider = Static(["ipc:///run/node.sock"])
    provider.prepare()
    assert provider.keys() is None
    assert not home.exists()


# --- taking part ---------------------------------------------------------------------------


def test_pool_has_as_many_nodes_as_there_are(ports: list[int]) -> None:
    """Unless it says otherwise."""
    assert Static(nodes(ports)).default_nodes() == Nodes(3)


@pytest.mark.rule("R33")
@pytest.mark.parametrize("wanted", [4, (1, 4), Nodes(2, 1, 5)])
def test_more_nodes_than_there_are_is_told(ports: list[int], wanted: Any) -> None:
    """When they are asked for, with the number that there is."""
    provider = Static(nodes(ports))
    with pytest.raises(
        ConfigError, match=r"there are 3 nodes in sky.Static\(.*\), and a pool of up to [45] was asked for"
    ):
        sky.Compute(provider, nodes=wanted)
    for fine in (3, (0, 3), Nodes(2, 1, 3)):
        sky.Compute(provider, nodes=fine)


def test_nodes_are_taken_in_their_order_and_given_back(ports: list[int]) -> None:
    """Each takes part once at a time; with all of them in use there is none."""
    provider = Static(nodes(ports))
    taken = [launch(provider, index) for index in range(3)]
    assert [node.endpoint for node in taken] == [f"tcp://127.0.0.1:{port}" for port in ports]
    assert {node.public_key for node in taken} == {KEY}
    with pytest.raises(ProvisionError, match="there are 3 nodes, and all take part already"):
        launch(provider, 3)
    provider.terminate(taken[1])
    assert launch(provider, 4).endpoint == taken[1].endpoint
    assert provider.log_tail(taken[0]) == ()


def test_address_of_a_node_is_numeric() -> None:
    """Whatever name it was given by: it may be dialled by a thread that must not wait for names."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        launched = launch(Static([f"tcp://localhost:{port} {KEY}"]))
        assert launched.endpoint == f"tcp://localhost:{port}"
        assert launched.address == launched.private_address == "127.0.0.1"
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as server:
        assert launch(Static([f"tcp://[::1]:{server.getsockname()[1]} {KEY}"])).address == "::1"


def test_socket_file_is_knocked_at(short_path: Path) -> None:
    """A node that listens there takes part."""
    place = f"{short_path}/s"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(place)
        server.listen()
        assert launch(Static([f"ipc://{place}"])).endpoint == f"ipc://{place}"


@pytest.mark.parametrize("place", ["tcp", "ipc", "name"])
def test_node_that_does_not_answer_is_told(ports: list[int], short_path: Path, place: str) -> None:
    """By name, when its time is up; it may be tried again later. A name that nobody knows is no node that starts."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        closed = server.getsockname()[1]
    endpoint = {
        "tcp": f"tcp://127.0.0.1:{closed}",
        "ipc": f"ipc://{short_path}/nobody",
        "name": "tcp://no.such.host.invalid:7700",
    }[place]
    provider = Static([endpoint if place == "ipc" else f"{endpoint} {KEY}"])
    for _ in range(2):
        with pytest.raises(ProvisionError, match=rf"the node {endpoint} does not answer: .*; does it run\?"):
            launch(provider, start_timeout=60.0 if place == "name" else 0.01)


@pytest.mark.rule("R32")
@pytest.mark.parametrize("place", ["tcp", "ipc"])
def test_node_that_only_starts_is_waited_for(short_path: Path, place: str) -> None:
    """As long as a node may take to start, and whoever listens hears of it."""
    server = socket.socket(socket.AF_INET if place == "tcp" else socket.AF_UNIX)
    path = str(short_path / "s")
    server.bind(("127.0.0.1", 0) if place == "tcp" else path)
    if place == "tcp":
        address = f"tcp://127.0.0.1:{server.getsockname()[1]} {KEY}"
    else:
        server.close()
        os.unlink(path)
        server = socket.socket(socket.AF_UNIX)
        address = f"ipc://{path}"
    provider = Static([address])
    told: list[str] = []

    def serve(line: str) -> None:
        told.append(line)
        if place == "ipc":
            server.bind(path)
        server.listen()

    provider.listener = serve
    with server:
        assert launch(provider).endpoint == address.split()[0]
    (line,) = told
    assert line.startswith(f"waits for the node {address.split()[0]}, which does not answer yet: ")


@pytest.mark.rule("R36")
def test_node_that_has_answered_is_not_waited_for() -> None:
    """It is lost, not starting: the pool has to hear of it, and asks again by itself."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        provider = Static(nodes([server.getsockname()[1]]))
        provider.terminate(launch(provider))
    with pytest.raises(ProvisionError, match=r"does not answer: .*; does it run\?$"):
        launch(provider)


def test_node_that_answers_is_taken_before_one_that_does_not(ports: list[int]) -> None:
    """Whatever their order: a pool of fewer nodes than were named has a spare."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        gone = server.getsockname()[1]
    provider = Static(nodes([gone, ports[0]]))
    assert launch(provider).endpoint == f"tcp://127.0.0.1:{ports[0]}"


def test_wait_for_a_node_ends_when_it_is_not_wanted_any_more(short_path: Path) -> None:
    """At once: somebody closes the pool that opens."""
    provider = Static([f"ipc://{short_path}/nobody"])
    cancelled = threading.Event()
    provider.listener = lambda _: cancelled.set()
    with pytest.raises(ProvisionError, match="not wanted"):
        provider.launch(LaunchSpec(), 0, cancelled)


def test_node_that_is_not_wanted_any_more_is_given_back(ports: list[int]) -> None:
    """The next launch may have it."""
    provider = Static(nodes(ports[:1]))
    cancelled = threading.Event()
    cancelled.set()
    with pytest.raises(ProvisionError, match="not wanted"):
        provider.launch(LaunchSpec(), 0, cancelled)
    assert launch(provider).endpoint.endswith(str(ports[0]))


@pytest.mark.parametrize("check", PROVIDER_CHECKS, ids=lambda check: check.__name__.removeprefix("check_"))
def test_provider_keeps_the_contract(check: Callable[..., None], ports: list[int]) -> None:
    """Nodes are told apart, nothing works after the end, and they run on: that is what it is for."""
    check(partial(Static, nodes(ports)))


@pytest.mark.parametrize("way", ["tcp", "ipc"])
@pytest.mark.parametrize("check", [check_terminated_node_is_gone, check_close_leaves_nothing])
def test_contract_sees_the_end_of_a_node_that_runs_already(
    check: Callable[..., None], way: str, short_path: Path
) -> None:
    """Who ends what somebody else has started does not keep it."""
    families = {"tcp": (socket.AF_INET, ("127.0.0.1", 0)), "ipc": (socket.AF_UNIX, None)}
    servers = [socket.socket(families[way][0]) for _ in range(2)]
    endpoints: list[str] = []
    for number, server in enumerate(servers):
        server.bind(families[way][1] or str(short_path / str(number)))
        server.listen()
        name = server.getsockname()
        endpoints.append(f"ipc://{name}" if way == "ipc" else f"tcp://127.0.0.1:{name[1]} {KEY}")

    class Rude(Static):
        """Ends nodes that are not its own."""

        def terminate(self, launched: Launched) -> None:
            """End all."""
            self.close()

        def close(self) -> None:
            """End all, if it has taken any."""
            for server in servers if self._used else ():
                server.close()
            super().close()

    with pytest.raises(AssertionError, match="somebody else has started was ended"):
        check(lambda: Rude(endpoints))


def test_failed_pool_is_told_which_node_is_missing(ports: list[int]) -> None:
    """Its error names the first that does not answer."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        gone = f"tcp://127.0.0.1:{server.getsockname()[1]}"
    with pytest.raises(ProvisionError, match=f"the node {gone} does not answer"):
        sky.Compute(sky.Static([f"{gone} {KEY}"]), start_timeout=0.1).open()


def test_what_is_neither_text_nor_pair_is_no_node() -> None:
    """The error says what a node looks like."""
    wrong: Any = [3]
    with pytest.raises(TypeError, match=r"a node is a string such as 'tcp://.*, got 3"):
        Static(wrong)
