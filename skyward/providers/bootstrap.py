"""The shell script that makes a machine a node, and what it says meanwhile. Pure: an image goes in, text comes out.

``sh bootstrap.sh`` runs where a bundle was unpacked, as often as anybody likes: what is there already is used.

    stdin        one line, the JSON of a `NodeConfig`, in which ``mesh`` may name what the node belongs to; then, when
                 whoever started it wants to have the node, the line ``keep``: at once, or after the ready line.
                 Without it the node ends with stdin.
    stdout       one line when the node serves: {"ready": {"endpoint", "public_key", "pid", "node", "hostname"}}
    stderr       ``skyward: step TEXT`` as it goes on, the output of what it runs, and at last, if it fails,
                 ``skyward: error KIND TEXT``, where KIND is one of `ERRORS`
    exit code    0 when the node serves on by itself, detached; else 1, and nothing of it runs
    environment  SKYWARD_PYTHON, the interpreter, instead of the first that will do; SKYWARD_CACHE, where environments
                 are kept (~/.cache/skyward); SKYWARD_RUN, where nodes live (/tmp/skyward-UID)
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Final, NamedTuple

from skyward.errors import (
    ArchitectureError,
    BootstrapError,
    DiskFullError,
    NoPythonError,
    PackageError,
    PortInUseError,
    SetupError,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from skyward.image import Image
    from skyward.providers.platforms import Platform

PREFIX: Final = "skyward: "  # of the lines that are ours
KEEP: Final = b"keep\n"
LOG_LINES: Final = 50  # the last lines of what failed

ERRORS: Final[dict[str, type[BootstrapError]]] = {
    "setup": SetupError,
    "no-python": NoPythonError,
    "architecture": ArchitectureError,
    "disk-full": DiskFullError,
    "port-in-use": PortInUseError,
    "package": PackageError,
    "bootstrap": BootstrapError,
}

ADVICE: Final[dict[str, str]] = {
    "setup": "its last lines say why; setup= is a command for sh, which runs there before anything else",
    "no-python": "install it, or name one that is there: python=",
    "architecture": "leave the package out, or build a wheel of it for such machines",
    "disk-full": "make room there, or take another disk: setup='export SKYWARD_CACHE=/big/disk'",
    "port-in-use": "take another node_port=, or none: any port that is free",
    "package": "check its name and version; what you have installed is sent, the rest comes from the machine's index",
}

SHELL: Final = "shell "  # what a session is called while it is still a shell; its number is that of its group
SPEAK: Final = """\
step() { echo "skyward: step $*" >&2; }
fail() { echo "skyward: error $*" >&2; exit 1; }
"""

# `seen` becomes what was found and will not do; `python` what will.
FIND_PYTHON: Final = """\
python= seen=
consider() {
    [ -z "$python" ] && command -v "$1" >/dev/null 2>&1 || return 0
    version=$("$1" -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])' 2>/dev/null) || version='not usable'
    case $version. in
        @VERSION@.*) python=$(command -v "$1") ;;
        *) seen="${seen:+$seen, }$1 is $version" ;;
    esac
}
if [ -n "${SKYWARD_PYTHON:-}" ]; then
    consider "$SKYWARD_PYTHON"
else
    for each in python@MINOR@ python3 python; do consider "$each"; done
    if [ -z "$python" ] && command -v uv >/dev/null 2>&1; then
        each=$(uv python find --no-python-downloads @VERSION@ 2>/dev/null) && consider "$each"
    fi
fi
[ -n "$python" ] || fail "no-python there is no Python @VERSION@:\
 ${seen:-no ${SKYWARD_PYTHON:-python@MINOR@, python3, python or uv} is there}"
"""

CHECK_MACHINE: Final = """\
case "$(uname -s) $(uname -m)" in
    @SYSTEM@) ;;
    *) fail "architecture this is $(uname -s) on $(uname -m), and what was brought along is for @PLATFORM@" ;;
esac
"""

APT: Final = """\
missing=
for each in @PACKAGES@; do
    name=${each%%=*} wanted=
    [ "$name" = "$each" ] || wanted=${each#*=}
    found=$(dpkg-query -W -f='${db:Status-Status} ${Version}' "$name" 2>/dev/null) || found=
    case $found in
        "installed $wanted") ;;
        installed\\ *) [ -z "$wanted" ] || missing="$missing $each" ;;
        *) missing="$missing $each" ;;
    esac
done
if [ -n "$missing" ]; then
    step "installing Debian packages:$missing"
    command -v apt-get >/dev/null 2>&1 || fail "package there is no apt-get to install$missing"
    as_root=
    [ "$(id -u)" = 0 ] || as_root='sudo -n'
    # In a session of its own: who gives up meanwhile leaves no half-installed package.
    get() {
        setsid -w $as_root env DEBIAN_FRONTEND=noninteractive \\
            apt-get -o DPkg::Lock::Timeout=60 -y -q "$@" </dev/null >&2
    }
    get install --no-install-recommends $missing || {
        get update || true
        get install --no-install-recommends $missing || fail "package apt-get could not install$missing"
    }
fi
"""

START: Final = """\
exec "$python" -P -c '
import sys
sys.path[:0] = [sys.argv[1] + "/lib", sys.argv[1] + "/lib.zip"]  # the first is unpacked from the second
from skyward.providers.onhost.start import main
main()' "$here"
"""

HEADING: Final = """\
#!/bin/sh
# Makes this machine a node of skyward; made for one image. May be run any number of times.
set -u
here=$(cd -- "$(dirname -- "$0")" && pwd)
"""


def render(image: Image, platform: Platform) -> str:
    """Return ``bootstrap.sh`` for an image on that kind of machine."""
    parts = [HEADING, SPEAK, _filled(CHECK_MACHINE, image, platform)]
    if image.apt:
        parts.append(APT.replace("@PACKAGES@", shlex.join(image.apt)))
    return "\n".join([*parts, _filled(FIND_PYTHON, image, platform), START])


def _filled(template: str, image: Image, platform: Platform) -> str:
    values = {
        "@VERSION@": image.python or platform.python,
        "@MINOR@": platform.python,
        "@SYSTEM@": f'"{platform.system} {platform.machine}"',
        "@PLATFORM@": str(platform),
    }
    for name, value in values.items():
        template = template.replace(name, value)
    return template


# What a host runs for an SSH session: the set-up, in this very shell so that what it exports stays; then, under the
# Python that was found, `onhost.receive`, which becomes the bootstrap.
SETUP: Final = """\
step "running the set-up command"
skyward_setup=@SETUP@
skyward_shown=@SHOWN@
trap 'fail "setup the set-up command ended its shell with code $?: $skyward_shown"' EXIT
{ eval "$skyward_setup"; } </dev/null >&2
skyward_code=$?
trap - EXIT
[ "$skyward_code" = 0 ] || fail "setup the set-up command failed with code $skyward_code: $skyward_shown"
"""

ENTER: Final = """\
export SKYWARD_PYTHON="$python"
exec "$python" -P -c @RECEIVE@
"""

IS_LINUX: Final = """\
[ "$(uname -s)" = Linux ] || fail "architecture this is $(uname -s) on $(uname -m): nodes need Linux"
"""


def enter(receive: str, *, version: str, python: str | None, setup: str | None) -> str:
    """Return the script of a session that takes in a bundle; ``receive`` is the source of `onhost.receive`."""
    parts = [f'echo "{PREFIX}{SHELL}$$" >&2\n', SPEAK, IS_LINUX]
    if setup is not None:
        shown = shlex.quote(" ".join(setup.split()))
        parts.append(SETUP.replace("@SETUP@", shlex.quote(setup)).replace("@SHOWN@", shown))
    if python is not None:
        parts.append(f"SKYWARD_PYTHON={_with_home(python)}\n")
    minor = ".".join(version.split(".")[:2])
    parts.append(FIND_PYTHON.replace("@VERSION@", version).replace("@MINOR@", minor))
    return "\n".join([*parts, ENTER.replace("@RECEIVE@", shlex.quote(receive))])


def _with_home(path: str) -> str:
    return f'"$HOME"/{shlex.quote(path[2:])}' if path.startswith("~/") else shlex.quote(path)


class Said(NamedTuple):
    """A line of a bootstrap, understood: ``kind`` is "step", "shell", "error" or "", for output of what it runs."""

    kind: str
    text: str
    error: str = ""  # one of `ERRORS`


def understand(line: str) -> Said:
    """Return what a line on stderr says."""
    if line.startswith(f"{PREFIX}step "):
        return Said("step", line.removeprefix(f"{PREFIX}step "))
    if line.startswith(f"{PREFIX}{SHELL}"):
        return Said("shell", line.removeprefix(f"{PREFIX}{SHELL}"))
    if line.startswith(f"{PREFIX}error "):
        error, _, text = line.removeprefix(f"{PREFIX}error ").partition(" ")
        return Said("error", text, error if error in ERRORS else "bootstrap")
    return Said("", line)


def failure(machine: str, lines: Sequence[str], why: str = "it ended without a word") -> BootstrapError:
    """Return the error that the lines of a bootstrap on a machine tell of; ``why`` if they do not say it."""
    said = [understand(line) for line in lines]
    log = tuple(line for line, each in zip(lines, said, strict=True) if not each.kind)[-LOG_LINES:]
    told = next((each for each in reversed(said) if each.kind == "error"), None)
    step = next((each.text for each in reversed(said) if each.kind == "step"), "")
    while_ = f", while {step}" if step else ""
    if told is None:
        return BootstrapError(f"{machine}: {why}{while_}", log)
    advice = f"; {ADVICE[told.error]}" if told.error in ADVICE else ""
    return ERRORS[told.error](f"{machine}: {told.text}{while_}{advice}", log)
