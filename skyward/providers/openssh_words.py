"""What is said to the OpenSSH client, and what its complaints mean. Pure.

Options on the command line come before those of any configuration file, so whatever a user has in his, host keys
are checked, nothing is asked, nothing of this machine is lent to the host, and nothing but our command is run there.
"""

from __future__ import annotations

import os
import re
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from skyward.errors import HostKeyError, HostUnreachableError, LoginRefusedError, ProvisionError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from skyward.providers.ssh_hosts import Host

SSH_PORT: Final = 22
CONNECT: Final = 10  # seconds to reach a host: what runs answers at once, also far away
ALIVE: Final = 5  # seconds between signs of life, of which three may be missed
CONNECTED: Final = "skyward-connected"  # what a host says when we are in
BROKEN: Final = 255  # exit code of the client when it has failed, and not what it ran
LOG_LINES: Final = 20  # of ssh's own complaints that are worth showing
# Whatever the user's shell is there, it takes this; what the script says is read byte by byte, so that what
# follows on stdin is for the script.
COMMAND: Final = """exec sh -c 'eval "$(dd bs=1 count={length} 2>/dev/null)"'"""

_ALWAYS: Final = {
    "BatchMode": "yes",
    "ClearAllForwardings": "yes",
    "ConnectTimeout": str(CONNECT),
    "ControlMaster": "yes",
    "ControlPersist": "no",
    "EscapeChar": "none",
    "ForwardAgent": "no",
    "ForwardX11": "no",
    "LogLevel": "ERROR",
    "NoHostAuthenticationForLocalhost": "no",
    "PermitLocalCommand": "no",
    "RemoteCommand": "none",
    "RequestTTY": "no",
    "ServerAliveCountMax": "3",
    "ServerAliveInterval": str(ALIVE),
    "Tunnel": "no",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """Which hosts are believed to be who they say they are, and where more is said about them."""

    ssh_config: str | None = None
    known_hosts: str | None = None
    first_use: bool = False


def target(host: Host) -> list[str]:
    """Return the arguments that say which host is meant."""
    arguments = ["-p", str(host.port)] if host.port is not None else []
    arguments += ["-l", host.user] if host.user is not None else []
    if host.identity is not None:
        arguments += ["-i", os.path.expanduser(host.identity), "-o", "IdentitiesOnly=yes"]
    return [*arguments, "--", host.name]


def connect(host: Host, trust: Trust, control: str) -> list[str]:
    """Return the command that connects to a host, and shares the connection at the socket ``control``."""
    return ["ssh", *_trusting(trust), *_options(_ALWAYS), "-S", control, *target(host), f"echo {CONNECTED}; exec cat"]


def alone(host: Host, trust: Trust) -> list[str]:
    """Return the command that runs what the host has for whoever comes with this key, over no other connection."""
    return ["ssh", *_trusting(trust), *_options(_ALWAYS | {"ControlMaster": "no"}), "-S", "none", "-T", *target(host)]


def resolve(host: Host, trust: Trust) -> list[str]:
    """Return the command that says what ssh knows of a host."""
    return ["ssh", "-G", *_trusting(trust), *target(host)]


def hostname(answer: str) -> str:
    """Return where ssh goes, by its answer to `resolve`; "" if it does not say."""
    return next((line.split()[1] for line in answer.splitlines() if line.startswith("hostname ")), "")


def _trusting(trust: Trust) -> list[str]:
    files = ["-F", os.path.expanduser(trust.ssh_config)] if trust.ssh_config is not None else []
    options = {"StrictHostKeyChecking": "accept-new" if trust.first_use else "yes"}
    if trust.known_hosts is not None:
        options |= {"UserKnownHostsFile": _quoted(trust.known_hosts), "GlobalKnownHostsFile": os.devnull}
    return files + _options(options)


def _quoted(path: str) -> str:
    """Return the path of a file as an option has it."""
    return '"' + os.path.expanduser(path).replace("%", "%%") + '"'


def _options(options: dict[str, str]) -> list[str]:
    return [word for name, value in options.items() for word in ("-o", f"{name}={value}")]


def run(control: str, length: int) -> list[str]:
    """Return the command that runs a script of so many bytes, which comes on stdin, over a shared connection."""
    # Were the connection gone, ssh would make one of its own, unasked: a proxy that does not start prevents it.
    alone = {"BatchMode": "yes", "ControlMaster": "no", "LogLevel": "ERROR", "ProxyCommand": "exit 255"}
    return ["ssh", "-F", "none", *_options(alone), "-T", "-S", control, "--", "host", COMMAND.format(length=length)]


def order(control: str, what: str, *arguments: str) -> list[str]:
    """Return the command that has a shared connection do something."""
    return ["ssh", "-F", "none", "-S", control, "-O", what, *arguments, "--", "host"]


# --- complaints ----------------------------------------------------------------------------

_CHANGED: Final = re.compile(
    r"REMOTE HOST IDENTIFICATION HAS CHANGED|REVOKED HOST KEY|host key .* has changed", re.IGNORECASE
)
_KEY: Final = re.compile(r"Host key verification failed|No \S+ host key is known|host key .* not known", re.IGNORECASE)
_REFUSED: Final = re.compile(
    r"Permission denied|Too many authentication failures|No more authentication methods|no mutual signature"
    r"|account is (locked|expired|currently not available)",
    re.IGNORECASE,
)
_AWAY: Final = re.compile(
    r"Could not resolve|Connection refused|timed out|No route to host|Network is unreachable|Connection closed"
    r"|Connection reset|kex_exchange_identification|banner exchange|Host is down|not responding|ssh_dispatch_run_fatal"
    r"|Name or service not known|Broken pipe|no matching|administratively prohibited",
    re.IGNORECASE,
)


_USUAL: Final = Trust()


def explain(host: Host, lines: Sequence[str], code: int | None, trust: Trust = _USUAL) -> ProvisionError:
    """Return the error that the last lines of an ssh client tell of, which could not connect."""
    log = tuple(line.rstrip("\r") for line in lines if line.strip())[-LOG_LINES:]
    text = "\n".join(log)
    if _CHANGED.search(text):
        return HostKeyError(
            f"{host}: its host key is not the one that is known for it: it is another machine, or somebody is in "
            f"between; nothing was run there. If you know why the key has changed: {_forgetting(host, trust)}",
            log,
        )
    if _KEY.search(text):
        return HostKeyError(
            f"{host}: its host key is not known here, so it could be any machine; nothing was run there. Connect once "
            f"with `{_by_hand(host, trust)}` and compare the key, or add it to known_hosts; trust_first_use=True does "
            "without",
            log,
        )
    if _REFUSED.search(text):
        return LoginRefusedError(
            f"{host}: it does not let us in: try `{_by_hand(host, trust, 'true')}`; is the key in the agent, or "
            "named by identity=, and its public half in ~/.ssh/authorized_keys there?",
            log,
        )
    if _AWAY.search(text):
        return HostUnreachableError(
            f"{host}: it cannot be reached: {log[-1]}; check its name and port, and whether its SSH server runs", log
        )
    return ProvisionError(f"{host}: ssh ended with code {code} before it was connected", log)


def _by_hand(host: Host, trust: Trust, *command: str) -> str:
    """Return how a person connects to a host as we do; with a command nothing is asked, as with us."""
    files = ["-F", os.path.expanduser(trust.ssh_config)] if trust.ssh_config is not None else []
    options = {"UserKnownHostsFile": _quoted(trust.known_hosts)} if trust.known_hosts is not None else {}
    options |= {"BatchMode": "yes"} if command else {}
    where = [word for word in target(host) if word != "--"]  # the name of a host begins with no dash
    return shlex.join(["ssh", *files, *_options(options), *where, *command])


def _forgetting(host: Host, trust: Trust) -> str:
    """Return the command that forgets the key of a host."""
    file = ["-f", os.path.expanduser(trust.known_hosts)] if trust.known_hosts is not None else []
    name = host.name if host.port in (None, SSH_PORT) else f"[{host.name}]:{host.port}"
    return shlex.join(["ssh-keygen", *file, "-R", name])
