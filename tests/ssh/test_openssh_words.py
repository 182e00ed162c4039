"""What the OpenSSH client is told, and what is made of its complaints."""

from __future__ import annotations

import subprocess

import pytest

from skyward.errors import HostKeyError, HostUnreachableError, LoginRefusedError, ProvisionError
from skyward.providers import openssh_words as words
from skyward.providers.openssh_words import Trust
from skyward.providers.ssh_hosts import Host

HOST = Host("h1", user="alice", port=2222)


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("Host key verification failed.", HostKeyError),
        ("No ED25519 host key is known for [h1]:2222 and you have requested strict checking.", HostKeyError),
        ("@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @", HostKeyError),
        ("alice@h1: Permission denied (publickey).", LoginRefusedError),
        ("Received disconnect from 10.0.0.1 port 22:2: Too many authentication failures", LoginRefusedError),
        ("ssh: Could not resolve hostname h1: Name or service not known", HostUnreachableError),
        ("ssh: connect to host h1 port 2222: Connection refused", HostUnreachableError),
        ("ssh: connect to host h1 port 2222: Connection timed out", HostUnreachableError),
        ("kex_exchange_identification: Connection closed by remote host", HostUnreachableError),
        ("command-line: line 0: Bad configuration option: x", ProvisionError),
    ],
)
def test_complaint_is_told_by_its_kind(line: str, kind: type[Exception]) -> None:
    """Each names the host, and has the client's own words."""
    error = words.explain(HOST, ["", f"{line}\r"], 255)
    assert type(error) is kind
    assert "alice@h1:2222" in str(error)
    assert line in str(error)


@pytest.mark.rule("F53")
def test_advice_is_a_command_that_does_what_we_did() -> None:
    """It has user, port, key and files; and those alone that were said."""
    host = Host("h1", user="alice", port=2222, identity="/keys/a b")
    changed, unknown, refused = (
        "HOST KEY: host key for h1 has changed",
        "Host key verification failed.",
        "Permission denied",
    )
    trust = Trust(ssh_config="/etc/own", known_hosts="/known")
    where = "-p 2222 -l alice -i '/keys/a b' -o IdentitiesOnly=yes h1"
    files = """ssh -F /etc/own -o 'UserKnownHostsFile="/known"'"""
    assert "changed: ssh-keygen -f /known -R '[h1]:2222'" in str(words.explain(host, [changed], 255, trust))
    assert f"`{files} {where}`" in str(words.explain(host, [unknown], 255, trust))
    assert f"`{files} -o BatchMode=yes {where} true`" in str(words.explain(host, [refused], 255, trust))
    plain = Host("h1")
    assert "changed: ssh-keygen -R h1" in str(words.explain(plain, [changed], 255))
    assert "`ssh h1`" in str(words.explain(plain, [unknown], 255))
    assert "`ssh -o BatchMode=yes h1 true`" in str(words.explain(plain, [refused], 255))


@pytest.mark.rule("F53")
@pytest.mark.parametrize(
    "settings",
    ["StrictHostKeyChecking no", "NoHostAuthenticationForLocalhost yes", "ForwardAgent yes", "PermitLocalCommand yes",
     "RemoteCommand reboot", "ControlPersist yes", "RequestTTY force", "BatchMode no"],
)  # fmt: skip
def test_configuration_of_the_user_weakens_nothing(settings: str, tmp_path: object) -> None:
    """Whatever his file says, the client itself says that ours counts."""
    path = f"{tmp_path}/config"
    with open(path, "w", encoding="utf-8") as file:
        file.write(f"Host *\n  {settings}\n")
    command = words.connect(HOST, Trust(ssh_config=path), "/tmp/control")
    asked = subprocess.run([command[0], "-G", *command[1:-1]], capture_output=True, text=True, check=True).stdout
    said = dict(line.split(" ", 1) for line in asked.splitlines() if " " in line)
    assert said["stricthostkeychecking"] in ("true", "yes")
    assert said["nohostauthenticationforlocalhost"] == "no"
    assert said["forwardagent"] == said["permitlocalcommand"] == said["controlpersist"] == "no"
    assert said["batchmode"] == "yes"
    assert said["requesttty"] in ("no", "false")
    assert said.get("remotecommand", "none") == "none"


def test_command_says_who_is_meant() -> None:
    """User, port and key stand before the name, which no option can follow."""
    host = Host("h1", user="alice", port=2222, identity="/k")
    command = words.connect(host, Trust(known_hosts="/a b/known", first_use=True), "/tmp/control")
    assert command[-3:-1] == ["--", "h1"]
    assert command[command.index("-p") + 1] == "2222"
    assert command[command.index("-l") + 1] == "alice"
    assert "IdentitiesOnly=yes" in command
    assert 'UserKnownHostsFile="/a b/known"' in command
    assert "StrictHostKeyChecking=accept-new" in command
