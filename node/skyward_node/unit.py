"""A systemd unit for a node, as text. PURE.

The node tells systemd when it serves. SIGTERM goes to the daemon alone, which lets running tasks finish; whatever is
there when that took too long is killed, also what tasks have started.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

STOP: Final = 40  # seconds: a drain takes 30 at most, and its goodbyes some more
DESCRIPTORS: Final = 65_536  # connections and workers; see `boot.raise_descriptor_limit`

TEMPLATE: Final = """\
# {place}
# {install}
[Unit]
Description=skyward node: runs the tasks of skyward pools
After=network-online.target
Wants=network-online.target

[Service]
Type=notify
NotifyAccess=main
ExecStart={command}
KillMode=mixed
KillSignal=SIGTERM
TimeoutStopSec={stop}
Restart=on-failure
RestartSec=2
LimitNOFILE={descriptors}
StandardError=journal
SyslogIdentifier=skyward-node
{more}
[Install]
WantedBy={target}
"""

HARDENED: Final = """\
User={user}
NoNewPrivileges=yes
ProtectSystem=full
"""
OF_USER: Final = (
    "~/.config/systemd/user/skyward-node.service",
    "systemctl --user daemon-reload && systemctl --user enable --now skyward-node && loginctl enable-linger",
)
OF_SYSTEM: Final = (
    "/etc/systemd/system/skyward-node.service",
    "systemctl daemon-reload && systemctl enable --now skyward-node",
)


def render(arguments: Sequence[str], *, user: str = "") -> str:
    """Return the unit that runs this command line; as ``user`` of the system, or, without one, of whoever has it."""
    place, install = OF_SYSTEM if user else OF_USER
    return TEMPLATE.format(
        place=place,
        install=install,
        command=" ".join(map(quoted, arguments)),
        stop=STOP,
        descriptors=DESCRIPTORS,
        more=HARDENED.format(user=user) if user else "",
        target="multi-user.target" if user else "default.target",
    )


def quoted(word: str) -> str:
    """Return a word of a command line as systemd reads it: see systemd.service(5), "Command lines"."""
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    plain = escaped == word and word and not any(character.isspace() or character in "';" for character in word)
    return word if plain else f'"{escaped}"'
