"""What is run on a host for a node that is there already. Pure: text for ``sh``, and what its answers mean.

A node is known by its directory, see `skyward.providers.onhost.keeper`: the only thing that has to be remembered.
"""

from __future__ import annotations

import re
import shlex
from typing import Final, NamedTuple

from skyward.providers.bootstrap import LOG_LINES

_IDENT: Final = re.compile(r"(?P<host>\S+) (?P<node>/.*/node-[0-9a-f]{12})")
GONE: Final = "skyward-gone"  # what ends the answer to `end`, and is that to `tail` if there is no log

# The keeper's command names its directory: so a process with that number that is another one is left alone. It clears
# up by itself; by force only what has not ended in time, the daemon first.
END: Final = """\
is_it() { tr '\\0' ' ' <"/proc/$1/cmdline" 2>/dev/null | grep -qF -e "$2"; }
read_number() { number=; [ ! -r "$1" ] || read -r number <"$1"; }
end() {
    [ -d "$1" ] || return 0
    read_number "$1/pid"; keeper=$number
    read_number "$1/daemon"; daemon=$number
    tail -n @LINES@ "$1/log" 2>/dev/null
    if [ -n "$keeper" ] && is_it "$keeper" "$1"; then
        kill -TERM "$keeper"
        turns=0
        while [ -e "$1/pid" ] && [ "$turns" -lt 160 ] && is_it "$keeper" "$1"; do
            sleep 0.05
            turns=$((turns + 1))
        done
        if [ -e "$1/pid" ]; then
            is_it "${daemon:-none}" skyward-node && kill -KILL "$daemon"
            is_it "$keeper" "$1" && kill -KILL "$keeper"
        fi
    fi
    rm -rf "$1"
}
"""


class Place(NamedTuple):
    """Where a node lives."""

    host: str  # as `Host` shows itself
    node: str  # its directory there

    def __str__(self) -> str:
        return f"{self.host} {self.node}"

    @classmethod
    def parse(cls, ident: str) -> Place | None:
        """Return the place that the name of a node means, if it is one of ours."""
        found = _IDENT.fullmatch(ident)
        return None if found is None else cls(found["host"], found["node"])


def end(node: str) -> str:
    """Return the script that ends a node, whatever its state, and prints the last lines of its log."""
    return f"{END.replace('@LINES@', str(LOG_LINES))}end {shlex.quote(node)}\necho {GONE}\n"


def kill(shell: str) -> str:
    """Return the script that ends what a session runs that was given up, by the number of its shell."""
    return f"""\
kill -s TERM -- -{int(shell)} 2>/dev/null || exit 0
turns=0
while [ "$turns" -lt 40 ] && kill -s 0 -- -{int(shell)} 2>/dev/null; do sleep 0.05; turns=$((turns + 1)); done
kill -s KILL -- -{int(shell)} 2>/dev/null || true
"""


# Of each node that belongs to a mesh its directory, and on the next line the mesh.
LIST: Final = """\
for each in "${SKYWARD_RUN:-/tmp/skyward-$(id -u)}"/node-*/mesh; do
    [ -r "$each" ] && echo "${each%/mesh}" && cat "$each"
done
true
"""


def listed(answer: str) -> dict[str, str]:
    """Return the meshes that nodes belong to, by their directories, as `LIST` has printed them."""
    lines = answer.splitlines()
    return dict(zip(lines[::2], lines[1::2], strict=False))


def tail(node: str) -> str:
    """Return the script that prints the last lines of a node's log, or that there is none."""
    return f"tail -n {LOG_LINES} {shlex.quote(node + '/log')} 2>/dev/null || echo {GONE}\n"


def has_log(answer: str) -> bool:
    """Return whether `tail` has found a log."""
    return answer.strip() != GONE


def last_words(answer: str) -> tuple[str, ...]:
    """Return the lines of a log that a script has printed."""
    return tuple(line for line in answer.splitlines() if line != GONE)
