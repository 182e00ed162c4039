"""Without a bucket code travels by SSH, and news come back the same way: one session with each instance.

The instance admits one key, for one command: the script ``door`` of its user data, which takes in the configuration and
the bundle, and waits for the report. Its own host key is on its console, which nobody else can write, beside the nonce
of the launch: so neither side has to believe anybody. The key of this side is made for the launch and stays in memory,
but for the moment at which ssh reads it.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from skyward.errors import ProvisionError
from skyward.providers import openssh_words
from skyward.providers.aws import reports
from skyward.providers.openssh import Pipes
from skyward.providers.openssh_words import Trust
from skyward.providers.ssh_hosts import Host

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from skyward.providers.openssh import Patience

NEEDS: Final = ("ssh", "ssh-keygen")
PORT: Final = 22
USER: Final = "root"  # a server that lets root in at all lets it in for one command
_KEY: Final = re.compile(r"hostkey (?P<nonce>[0-9a-f]+) (?P<key>ssh-ed25519 [A-Za-z0-9+/=]+)")


def require() -> None:
    """Raise `ProvisionError` if this machine has no OpenSSH: then there is no way for code."""
    missing = [name for name in NEEDS if shutil.which(name) is None]
    if missing:
        raise ProvisionError(
            "sky.AWS needs a way for your code to reach the instances: an S3 bucket of yours in the same region, "
            f"sky.AWS(bucket='my-bucket'), or the OpenSSH client, of which this machine lacks {' and '.join(missing)} "
            "(Debian: openssh-client); nothing was started"
        )


def host_key(console: str, nonce: str) -> str:
    """Return the host key that a console shows for this launch; "" if there is none (yet)."""
    marked = (line.partition(reports.MARK)[2] for line in console.replace("\r", "").splitlines())
    found = (match for line in marked if (match := _KEY.fullmatch(line.strip())) and match["nonce"] == nonce)
    return next((match["key"] for match in found), "")


class Handover:
    """What this side of one launch needs."""

    def __init__(self) -> None:
        """Make a pair of keys; raises `ProvisionError`."""
        with tempfile.TemporaryDirectory(prefix="skyward-") as place:
            file = Path(place, "id")
            command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "skyward", "-f", str(file)]
            done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
            if done.returncode:
                raise ProvisionError(f"ssh-keygen made no key for the launch: {done.stderr.strip()}")
            self._secret = file.read_bytes()
            self.public = file.with_suffix(".pub").read_text(encoding="ascii").strip()

    def hand_over(
        self, address: str, key: str, data: bytes, patience: Patience, on_line: Callable[[str], None]
    ) -> str:  # fmt: skip
        """Send the configuration and the bundle, and return the report.

        Raises `HostUnreachableError` and `HostKeyError` if nothing was handed over, other `ProvisionError` if no report
        came.
        """
        with tempfile.TemporaryDirectory(prefix="skyward-") as place:  # its mode is 0700
            identity, known = Path(place, "id"), Path(place, "known_hosts")
            identity.touch(0o600)
            identity.write_bytes(self._secret)
            known.write_text(f"{address} {key}\n", encoding="ascii")
            host = Host(address, user=USER, port=PORT, identity=str(identity))
            trust = Trust(ssh_config=os.devnull, known_hosts=str(known))
            session = Pipes(openssh_words.alone(host, trust), on_line)
            try:
                sent = session.send(data, patience)
                session.hang_up()
                report = b"\n".join(_lines(session, patience)).decode(errors="replace")
                session.drain(patience)
            finally:
                session.end()
        if report:
            return report
        if not sent or session.code == openssh_words.BROKEN:
            raise openssh_words.explain(host, list(session.lines), session.code)
        raise ProvisionError(f"{host}: it took the code in, and hung up without a report", tuple(session.lines))


def _lines(session: Pipes, patience: Patience) -> Generator[bytes]:
    while (line := session.hear(patience)) is not None:
        yield line
