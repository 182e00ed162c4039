"""Hosts as people name them: every form, and every mistake by its name."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

import skyward as sky
from skyward.errors import ConfigError
from skyward.meshes import kinds
from skyward.providers.ssh_hosts import Host, line_of, parse, parse_file

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("h1", Host("h1")),
        ("alice@h1", Host("h1", user="alice")),
        ("alice@h1:2222", Host("h1", user="alice", port=2222)),
        ("first.last@10.0.0.7", Host("10.0.0.7", user="first.last")),
        ("domain\\alice@h1", Host("h1", user="domain\\alice")),
        ("'domain\\alice@h1'", Host("h1", user="domain\\alice")),
        ("2001:db8::7", Host("2001:db8::7")),
        ("[2001:db8::7]:2222", Host("2001:db8::7", port=2222)),
        ("bob@[2001:db8::7]", Host("2001:db8::7", user="bob")),
        ("h1 python=/opt/py/bin/python3", Host("h1", python="/opt/py/bin/python3")),
        (
            "h1 identity=~/.ssh/c setup='module load cuda; x=1'",
            Host("h1", identity="~/.ssh/c", setup="module load cuda; x=1"),
        ),
        ('h1 python=/my\\ py setup="echo \\"#1\\""', Host("h1", python="/my py", setup='echo "#1"')),
    ],
)
def test_host_is_understood(text: str, host: Host) -> None:
    """User, name and port, addresses of both families, and what may stand after them."""
    assert parse(text) == host
    assert parse(str(host)) == Host(host.name, user=host.user, port=host.port)


@pytest.mark.parametrize(
    "text",
    [
        "-oProxyCommand=x",
        "alice@-x",
        "h1:port",
        "h1:0",
        "h1:70000",
        "a b@h1",
        "h1 python",
        "h1 pyton=/x",
        "h1 python=/a python=/b",
        "h1 setup=' '",
        "h1 'open",
        "h1;reboot",
        "@h1",
        "",
    ],
)
def test_what_is_no_host_is_refused_by_name(text: str) -> None:
    """Nothing that ssh or a shell could take for something else is accepted, and the error shows it."""
    with pytest.raises((ConfigError, ValueError)):
        parse(text)


def test_hostfile_is_read() -> None:
    """Comments and empty lines do not count; a sharp sign in quotes is no comment."""
    lines = ["# all of them\n", "\n", "h1  # the first\n", "bob@h2:22 setup='echo #1'\n"]
    assert parse_file(lines, "hosts.txt") == [Host("h1"), Host("h2", user="bob", port=22, setup="echo #1")]


@pytest.mark.parametrize("text", ["h1", "bob@[::1]:22", "h2 python=/p 'setup=echo \"a b\" #1' identity=~/.ssh/x"])
def test_host_is_written_as_it_is_read(text: str) -> None:
    """So that a mesh file has the hosts themselves."""
    assert parse(line_of(parse(text))) == parse(text)


@pytest.mark.rule("R32")
def test_backslash_of_a_user_is_kept(tmp_path: Path) -> None:
    """In the program, in a hostfile, and in a mesh file, by which the host is found again."""
    host = Host("box", user="CORP\\bob", setup=r"echo '\\' \a")
    path = tmp_path / "hosts.txt"
    path.write_text("CORP\\bob@box\n")
    for made in (sky.SSH(["CORP\\bob@box"]), sky.SSH(hostfile=str(path)), sky.SSH(["box"], user="CORP\\bob")):
        assert sky.SSH(**json.loads(json.dumps(made.recipe())))._hosts == made._hosts == (Host("box", user=host.user),)
        assert made._host_of(str(host)) == made._hosts[0]
    assert parse(line_of(host)) == host


def test_recipe_needs_no_hostfile(tmp_path: Path) -> None:
    """Nodes are where they were started, whatever becomes of the file; what is as usual is left out."""
    path = tmp_path / "hosts.txt"
    path.write_text("h1\nh2:22 python=/p\n")
    made = sky.SSH(hostfile=str(path), user="ann", tunnel=True)
    path.unlink()
    recipe = json.loads(json.dumps(made.recipe()))
    assert recipe == {"hosts": ["ann@h1", "ann@h2:22 python=/p"], "tunnel": True}
    assert sky.SSH(**recipe)._hosts == made._hosts


def test_mistake_in_a_hostfile_is_told_with_its_line() -> None:
    """The error names file and line."""
    with pytest.raises(ConfigError, match=r"hosts\.txt, line 2: .*'h2:x'"):
        parse_file(["h1\n", "h2:x\n"], "hosts.txt")
    with pytest.raises(ConfigError, match=r"hosts\.txt names no host"):
        parse_file(["# nothing\n"], "hosts.txt")


def test_settings_of_the_pool_are_for_hosts_that_say_nothing() -> None:
    """What a host says itself counts."""
    usual = Host("usual", user="alice", port=2222, python="/usual")
    assert Host("h1", user="bob").otherwise(usual) == Host("h1", user="bob", port=2222, python="/usual")


@pytest.mark.rule("R32")
@pytest.mark.parametrize(
    ("hosts", "settings", "complaint"),
    [
        ([], {}, "at least one host"),
        (["h0", "h1", "h1"], {}, r"twice \(h1\)"),
        (["h1"], {"nodes_per_host": 0}, "nodes_per_host"),
        (["h1"], {"node_port": 65_536}, "node_port"),
        (["h1"], {"hostfile": "/nonexistent/hosts"}, "/nonexistent/hosts"),
        (["h1"], {"port": 0}, "port"),
        (["h1"], {"port": "22"}, "^'22' is no port: a port is an int"),
        (["h1"], {"port": True}, "True is no port"),
        (["h1"], {"python": 3.11}, r"^python=3\.11 makes no sense: it must be a string"),
        (["h1"], {"python": " "}, "^python=' ' makes no sense$"),
        (["h1"], {"identity": 5}, "^identity=5 makes no sense: it must be a string"),
        (["h1"], {"user": 3}, "^user=3 makes no sense: it must be a string"),
        (["h1"], {"user": "a b"}, "^'a b' is no user$"),
    ],
)
def test_mistake_in_the_provider_is_told(hosts: list[str], settings: dict[str, object], complaint: str) -> None:
    """Before anything is connected, by what is wrong."""
    with pytest.raises(ConfigError, match=complaint):
        sky.SSH(hosts, **settings)  # type: ignore[arg-type]  # the mistakes are on purpose  # pyright: ignore[reportArgumentType]


@pytest.mark.rule("R32")
@pytest.mark.parametrize("value", ["no", "yes", 0, 1, None])
@pytest.mark.parametrize("name", ["trust_first_use", "tunnel"])
def test_flag_of_the_provider_is_a_bool(name: str, value: object) -> None:
    """A "no" that counted as yes would trust anybody; in `skyward.toml`, too."""
    said = f"{name} must be True or False, got {value!r}"
    with pytest.raises(TypeError, match=said):
        sky.SSH(["h1"], **{name: value})  # type: ignore[arg-type]  # on purpose  # pyright: ignore[reportArgumentType]
    with pytest.raises(ConfigError, match=said):
        kinds.make("ssh", {"hosts": ["h1"], name: value})


@pytest.mark.rule("R32")
@pytest.mark.parametrize("name", ["hostfile", "ssh_config", "known_hosts"])
def test_file_of_the_provider_is_a_path(name: str) -> None:
    """When the provider is made, and not when ssh is started."""
    with pytest.raises(TypeError, match=f"{name} must be the path of a file, got 5"):
        sky.SSH(["h1"], **{name: 5})  # type: ignore[arg-type]  # on purpose  # pyright: ignore[reportArgumentType]
    with pytest.raises(ConfigError, match=f"{name} must be the path of a file, got 5"):
        kinds.make("ssh", {"hosts": ["h1"], name: 5})


@pytest.mark.parametrize(
    ("host", "complaint"),
    [
        ({"name": 3}, "3 is no host"),
        ({"user": 3}, "user=3 of the host h1"),
        ({"port": 0}, "0 is no port of the host h1"),
    ],
)
def test_mistake_in_a_host_names_it(host: dict[str, Any], complaint: str) -> None:
    """Several may be given."""
    said: dict[str, Any] = {"name": "h1"} | host
    with pytest.raises(ConfigError, match=f"^{complaint}"):
        Host(**said)


@pytest.mark.rule("R32")
@pytest.mark.parametrize("name", ["nodes_per_host", "node_port"])
def test_number_of_the_provider_is_an_int(name: str) -> None:
    """No text of digits."""
    with pytest.raises(TypeError, match=f"{name} must be an int, got '1'"):
        sky.SSH(["h1"], **{name: "1"})  # type: ignore[arg-type]  # on purpose  # pyright: ignore[reportArgumentType]


def test_single_string_is_no_list_of_hosts() -> None:
    """It would be taken letter by letter."""
    with pytest.raises(TypeError, match=r"sky\.SSH\(\['h1'\]\)"):
        sky.SSH("h1")


def test_room_is_told_in_numbers() -> None:
    """One is one."""
    for hosts, room in ((["h1"], "1 node"), (["h1", "h2"], "2 nodes")):
        with pytest.raises(ConfigError, match=f"has room for {room}, 1 on each host, and 3 were asked for"):
            sky.Compute(sky.SSH(hosts), nodes=3)


def test_provider_shows_its_hosts() -> None:
    """Its text is for the line of a log."""
    assert repr(sky.SSH(["alice@h1:2222", "h2"])) == "sky.SSH(['alice@h1:2222', 'h2'])"


def test_number_is_no_list_of_hosts() -> None:
    """The error names the argument."""
    with pytest.raises(TypeError, match="hosts must be a list of hosts, got 5"):
        sky.SSH(5)  # type: ignore[arg-type]  # on purpose  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("hosts", [[3], [None], ["h1", ("h2", 22)]])
def test_what_is_no_text_is_no_host(hosts: Any) -> None:
    """The error says what a host looks like."""
    with pytest.raises(TypeError, match=r"a host is a string or a sky.Host, got .*; one looks like 'alice@10"):
        sky.SSH(hosts)
