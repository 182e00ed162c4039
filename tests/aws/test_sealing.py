"""What only one instance may read."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

import skyward as sky
from skyward.providers.aws.sealing import certificate_of, require, seal

if TYPE_CHECKING:
    from pathlib import Path

SECRET = b"the configuration, with API_TOKEN"


@pytest.fixture
def key(tmp_path: Path) -> Path:
    """Return a directory with a key and its certificate, made as instances make theirs."""
    command = "openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=skyward -days 1 -keyout seal.key -out seal.crt"
    subprocess.run(command.split(), cwd=tmp_path, check=True, capture_output=True)
    return tmp_path


def test_only_the_owner_of_the_certificate_reads_it(key: Path) -> None:
    """What was sealed holds nothing readable, and opens as instances open it."""
    sealed = seal(SECRET, (key / "seal.crt").read_text())
    assert b"API_TOKEN" not in sealed
    (key / "sealed").write_bytes(sealed)
    command = "openssl cms -decrypt -binary -inform DER -in sealed -recip seal.crt -inkey seal.key"
    assert subprocess.run(command.split(), cwd=key, check=True, capture_output=True).stdout == SECRET


def test_certificate_of_another_is_refused() -> None:
    """Nonce and instance have to be those of the launch."""
    text = "nonce n1\ninstance i-1\n-----BEGIN CERTIFICATE-----\nabc\n"
    assert certificate_of(text, "n1", "i-1").startswith("-----BEGIN")
    for nonce, instance in (("n2", "i-1"), ("n1", "i-2")):
        with pytest.raises(sky.ProvisionError, match="is not from it"):
            certificate_of(text, nonce, instance)
    with pytest.raises(sky.ProvisionError, match="is not from it"):
        certificate_of("nonce n1\ninstance i-1\n", "n1", "i-1")


def test_nonsense_is_no_certificate() -> None:
    """OpenSSL says what is wrong with it."""
    with pytest.raises(sky.ProvisionError, match="openssl cannot seal"):
        seal(SECRET, "-----BEGIN CERTIFICATE-----\nabc\n")


def test_machine_without_openssl_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is started."""
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(sky.ProvisionError, match=r"needs the command openssl"):
        require()
