"""What an instance is told when it boots: a script of public values, 16 KiB at most.

In this order: a timer that ends the machine if it does not come to serve; who it is; the bundle, by a link that
expires and with its hash; the set-up; the daemon; the report; and the caretaker, which pushes the timer out while
clients are there. Whatever goes wrong is reported with the last lines of the log, and ends the machine.

Everybody who may look at the instance, and every process on it, may read this. No secret stands in it.

PURE: text comes out.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from typing import Final

from skyward.errors import ProvisionError
from skyward.providers.aws import reports

LARGEST: Final = 16_384  # bytes: EC2's limit
METADATA: Final = "http://169.254.169.254/latest"
FOLDER: Final = "/var/lib/skyward"  # everything of ours on an instance
CACHE: Final = "/var/cache/skyward"  # environments, which an image of one's own may have ready
LOG: Final = "/var/log/skyward.log"
FETCHING: Final = 120  # seconds to fetch the bundle
_NAME: Final = re.compile(r"@([A-Z]+)@")


@dataclass(frozen=True, slots=True, kw_only=True)
class Boot:
    """What the script of one launch says. Links are presigned, and expire."""

    bundle_hash: str  # SHA-256
    bundle_url: str = ""  # where it is; "": it comes by SSH, and the configuration with it
    report_put: str = ""
    log_put: str = ""
    ssh_key: str = ""  # public: of whoever brings the bundle by SSH
    nonce: str
    python: str  # the client's, such as "3.12"
    port: int
    boot_minutes: int  # until a machine ends that does not come to serve
    life_minutes: int  # of a machine, counted from the last moment at which a client was there
    config: str = ""  # JSON of the `NodeConfig`; "" if it comes sealed, because it holds what may be secret
    seal_put: str = ""
    seal_get: str = ""


# Whatever runs before the trap is set cannot fail, or leaves the timer to end the machine.
SCRIPT: Final = r"""#!/bin/sh
# A node of skyward. Everybody may read this: it holds no secret.
shutdown -h +@BOOT@ 'skyward: this machine did not come to serve'
umask 077
export HOME=/root LC_ALL=C.UTF-8
dir=@FOLDER@ log=@LOG@ nonce=@NONCE@ instance=unknown
mkdir -p "$dir" && cd "$dir" || exit 1
exec >>"$log" 2>&1

put() { # put URL FILE [HEADER]: to S3
    [ -z "$1" ] || curl -fsS --retry 3 --max-time 60 -X PUT ${3:+-H "$3"} --upload-file "$2" "$1"
}
tell() { # tell OUTCOME [LINES OF LOG]: the report, once
    {
        echo '@HEADING@'
        echo "nonce $nonce"
        echo "instance $instance"
        echo "$1"
        if [ -n "${2:-}" ]; then echo log && tail -n "$2" "$log" | tail -c 60000; fi
    } > report.new
    mv report.new report
    { sed 's/^/@MARK@/' report && echo '@MARK@end'; } > /dev/console 2>/dev/null
    put @REPORT@ report 'If-None-Match: *'
}
fail() { # fail WHAT: report it, and be gone
    trap - EXIT
    echo "skyward: failed: $1"
    tell "failed $1" @LINES@
    wait # for older copies of the log
    turns=0 # whoever waits for the report by SSH shall hear it
    while [ -e taken ] && [ ! -e told ] && [ "$turns" -lt 50 ]; do sleep 0.2; turns=$((turns + 1)); done
    put @LOGPUT@ "$log"
    shutdown -h now
    exit 1
}
step() { echo "skyward: step $1"; put @LOGPUT@ "$log" & }
trap 'fail "the boot script ended early"' EXIT

step 'asking who this machine is'
token=$(curl -fsS --retry 5 --max-time 10 -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 300' @METADATA@/api/token) \
    || fail 'the metadata service does not answer'
instance=$(curl -fsS --max-time 10 -H "X-aws-ec2-metadata-token: $token" @METADATA@/meta-data/instance-id) \
    || fail 'the metadata service does not say which instance this is'
@FETCH@
echo '@HASH@  bundle.tar' | sha256sum -c - || fail 'the bundle is not the one that was sent: its SHA-256 differs'
mkdir -p bundle && tar -xf bundle.tar -C bundle || fail 'the bundle cannot be unpacked'
python=$(command -v python@PYTHON@)
if [ -z "$python" ]; then
    step 'installing Python @PYTHON@'
    if command -v dnf; then dnf -q -y install python@PYTHON@
    elif command -v apt-get; then
        apt-get -q update && DEBIAN_FRONTEND=noninteractive apt-get -q -y install python@PYTHON@ python@PYTHON@-venv
    fi # whatever comes of it: the set-up looks for Python by itself, and says what it lacks
    python=$(command -v python@PYTHON@ || command -v python3)
fi
@CONFIG@
step 'setting up'
{ cat config && echo keep; } | SKYWARD_CACHE=@CACHE@ SKYWARD_RUN="$dir/run" sh bundle/bootstrap.sh > ready \
    || fail "$(sed -n 's/^skyward: error /set-up: /p' "$log" | tail -n 1 | grep . || echo 'the set-up failed')"
rm -f config
trap - EXIT
tell "serves $(tail -n 1 ready)"
printf '%s' @LOGPUT@ > log.link
{
    PYTHONPATH=bundle/lib:bundle/lib.zip "$python" -m skyward_node.caretaker --port @PORT@ --life @LIFE@ \
        --log "$log" --link log.link < ready
    echo 'skyward: the node has ended'
    wait
    put @LOGPUT@ "$log"
    shutdown -h now
} &
"""

FETCH: Final = r"""
step 'fetching the bundle'
curl -fsS --retry 5 --max-time @FETCHING@ -o bundle.tar @BUNDLE@ || fail 'the bundle cannot be fetched from S3'"""

# One key may run one command: it takes in a line with the configuration, then the bundle, shows the log meanwhile,
# and says the report. The host key goes to the console, where the client looks for it.
FETCH_BY_SSH: Final = r"""
step 'waiting for the bundle'
cat > door <<'END'
cd @FOLDER@ && umask 077 && : > taken || exit 1
IFS= read -r line && printf '%s\n' "$line" > config && cat > bundle.new || exit 1
echo '@HASH@  bundle.new' | sha256sum -c - >&2 && mv bundle.new bundle.tar || exit 1 # else it may be tried again
tail -n +1 -f @LOG@ >&2 &
until [ -e report ]; do sleep 0.1; done
kill $!
cat report
: > told
END
mkdir -p /root/.ssh
echo @ADMITTED@ >> /root/.ssh/authorized_keys
echo "@MARK@hostkey $nonce $(cut -d ' ' -f 1,2 /etc/ssh/ssh_host_ed25519_key.pub)" > /dev/console
until [ -e bundle.tar ]; do sleep 0.1; done
grep -v @FOLDER@/door /root/.ssh/authorized_keys > keys.new; cat keys.new > /root/.ssh/authorized_keys; rm keys.new"""

PLAIN: Final = r"""
printf '%s\n' @SAID@ > config"""

# The key of the certificate never leaves the machine, and the client seals for it what nobody else may read.
SEALED: Final = r"""
step 'waiting for the sealed configuration'
openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=skyward -days 1 -keyout seal.key -out seal.crt 2>seal.log \
    || { cat seal.log; fail 'openssl cannot make a certificate'; }
{ echo "nonce $nonce" && echo "instance $instance" && cat seal.crt; } > seal
put @SEALPUT@ seal 'If-None-Match: *' || fail 'the certificate cannot be sent to S3'
until curl -fs --max-time 20 -o sealed @SEALGET@; do sleep 1; done
openssl cms -decrypt -binary -inform DER -in sealed -recip seal.crt -inkey seal.key -out config \
    || fail 'the sealed configuration cannot be opened'
rm -f seal.key sealed"""


def render(boot: Boot) -> str:
    """Return the script; raises `ProvisionError` if it is larger than EC2 takes."""
    by_ssh = not boot.bundle_url
    parts = {
        "FETCH": FETCH_BY_SSH if by_ssh else FETCH,
        "CONFIG": "" if by_ssh else SEALED if boot.seal_put else PLAIN,
    }
    values = {
        "ADMITTED": shlex.quote(f'restrict,command="sh {FOLDER}/door" {boot.ssh_key}'),
        "BOOT": str(boot.boot_minutes),
        "BUNDLE": shlex.quote(boot.bundle_url),
        "CACHE": CACHE,
        "FETCHING": str(FETCHING),
        "FOLDER": FOLDER,
        "HASH": boot.bundle_hash,
        "HEADING": reports.HEADING,
        "LIFE": str(boot.life_minutes),
        "LINES": str(reports.LOG_LINES),
        "LOG": LOG,
        "LOGPUT": shlex.quote(boot.log_put),
        "MARK": reports.MARK,
        "METADATA": METADATA,
        "NONCE": boot.nonce,
        "PORT": str(boot.port),
        "PYTHON": boot.python,
        "REPORT": shlex.quote(boot.report_put),
        "SAID": shlex.quote(boot.config),
        "SEALGET": shlex.quote(boot.seal_get),
        "SEALPUT": shlex.quote(boot.seal_put),
    }
    # In one pass each: what a value says is never taken for a name.
    text = _NAME.sub(lambda found: parts.get(found[1], found[0]), SCRIPT)
    text = _NAME.sub(lambda found: values[found[1]], text)
    if (size := len(text.encode())) > LARGEST:
        raise ProvisionError(
            f"the user data of an instance would have {size} bytes, and EC2 takes {LARGEST}: the links to the bucket "
            "are too long; use credentials with a shorter session token"
        )
    return text
