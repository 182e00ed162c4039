"""What nobody but one instance may read, sealed for the certificate that this instance has made.

OpenSSL does it, on both sides: the key of the certificate never leaves the instance. Only launches whose image has
variables, which may be secret, need it.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from typing import Final

from skyward.errors import ProvisionError

BEGIN: Final = "-----BEGIN CERTIFICATE-----"
PATIENCE: Final = 30.0  # seconds for what takes milliseconds


def require() -> None:
    """Raise `ProvisionError` if this machine cannot seal."""
    if shutil.which("openssl") is None:
        raise ProvisionError(
            "sky.Image(env=...) needs the command openssl on this machine: the values are sealed with it on their way "
            "to the nodes; install it, or leave env out"
        )


def certificate_of(text: str, nonce: str, instance: str) -> str:
    """Return the certificate that an instance has sent; raises `ProvisionError` if it is another's."""
    head, begin, rest = text.partition(BEGIN)
    if head.split() != ["nonce", nonce, "instance", instance] or not begin:
        raise ProvisionError(
            f"the certificate for instance {instance} is not from it: nothing was sent to whoever made it"
        )
    return begin + rest


def seal(data: bytes, certificate: str) -> bytes:
    """Return the data, readable for the owner of the certificate alone; raises `ProvisionError`."""
    with tempfile.NamedTemporaryFile("w", suffix=".crt") as file:
        file.write(certificate)
        file.flush()
        command = ["openssl", "cms", "-encrypt", "-binary", "-aes256", "-outform", "DER", file.name]
        done = subprocess.run(command, input=data, capture_output=True, check=False, timeout=PATIENCE)
    if done.returncode:
        raise ProvisionError("openssl cannot seal the variables of the image", tuple(done.stderr.decode().splitlines()))
    return done.stdout
