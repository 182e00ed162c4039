"""What instances are told."""

from __future__ import annotations

import shlex
import subprocess
from dataclasses import replace

import pytest

import skyward as sky
from skyward.model import NodeConfig
from skyward.providers.aws.userdata import LARGEST, Boot, render

CONFIG = (
    NodeConfig(bind="tcp://0.0.0.0:7700", client_keys=("@HASH@d)^EUjS@@Puur2LGZ[a1EFLmmB>5X!^Yo/",)).to_json().decode()
)
BOOT = Boot(
    bundle_url="https://bucket.s3.eu-central-1.amazonaws.com/skyward/p1/skyward-1.tar?X-Amz-Signature=1&a=b",
    bundle_hash="ab" * 32,
    report_put="https://bucket/report?x=1&y='2'",
    log_put="https://bucket/log?x=1&y=2",
    nonce="0123456789abcdef",
    python="3.12",
    port=7700,
    boot_minutes=7,
    life_minutes=1440,
    config=CONFIG,
)


def test_script_is_one_that_a_shell_understands() -> None:
    """It parses, with links and a configuration full of characters that mean something to shells."""
    for boot in (BOOT, replace(BOOT, config="", seal_put="https://b/seal?a&b", seal_get="https://b/sealed?a&b")):
        done = subprocess.run(["sh", "-n"], input=render(boot), capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")


def test_timer_is_set_before_anything_can_fail() -> None:
    """The first command ends the machine if nothing else does."""
    commands = [line for line in render(BOOT).splitlines() if line and not line.startswith("#")]
    assert commands[0].startswith("shutdown -h +7 ")


def test_values_arrive_as_they_are() -> None:
    """Nothing in a value is taken for a part of the script."""
    script = render(BOOT)
    assert f"printf '%s\\n' {shlex.quote(CONFIG)} > config" in script
    assert f"put {shlex.quote(BOOT.report_put)} report 'If-None-Match: *'" in script
    assert f"echo '{'ab' * 32}  bundle.tar' | sha256sum -c -" in script
    assert "--port 7700 --life 1440" in script


def test_sealed_configuration_is_not_in_the_script() -> None:
    """Variables may be secret: then the script holds no configuration at all."""
    script = render(replace(BOOT, config="", seal_put="https://b/seal", seal_get="https://b/sealed"))
    assert "client_keys" not in script
    assert "openssl cms -decrypt" in script
    assert "openssl" not in render(BOOT)


def test_script_fits_with_long_links() -> None:
    """Temporary credentials make links of one and a half kilobytes; six of them fit."""
    link = "https://b/" + "x" * 1500
    boot = replace(BOOT, bundle_url=link, report_put=link, log_put=link)
    assert len(render(boot).encode()) < LARGEST
    with pytest.raises(sky.ProvisionError, match="EC2 takes 16384"):
        render(replace(boot, config="x" * LARGEST))
