"""Which wheels run on which machines."""

from __future__ import annotations

import pytest

from skyward.providers.platforms import Platform

HERE = Platform(machine="x86_64", libc_version=(2, 36))


@pytest.mark.parametrize(
    ("tag", "runs"),
    [
        ("py3-none-any", True),
        ("cp311-cp311-manylinux2014_x86_64", True),
        ("cp311-cp311-manylinux1_x86_64", True),
        ("cp311-abi3-manylinux_2_28_x86_64", True),
        ("cp311-abi3-manylinux_2_39_x86_64", False),
        ("cp311-cp311-manylinux_2_17_aarch64", False),
        ("cp311-cp311-musllinux_1_1_x86_64", False),
        ("cp311-cp311-linux_x86_64", True),
        ("cp311-cp311-macosx_11_0_arm64", False),
    ],
)
def test_wheel_runs_or_not(tag: str, runs: bool) -> None:
    """By the machine, the C library and its version; what runs on other systems does not."""
    assert HERE.runs(tag, HERE) is runs


def test_wheel_that_was_built_here_runs_on_what_is_like_here() -> None:
    """An older C library, or another machine, will not do."""
    tag = "cp311-cp311-linux_x86_64"
    assert not Platform(machine="x86_64", libc_version=(2, 31)).runs(tag, HERE)
    assert not Platform(machine="aarch64", libc_version=(2, 36)).runs(tag, HERE)
    assert Platform(machine="x86_64", libc_version=(2, 39)).runs(tag, HERE)


def test_machine_says_what_it_is() -> None:
    """Facts of a machine make its platform; where the C library is not named it is musl."""
    told = {"system": "Linux", "machine": "aarch64", "libc": ["glibc", "2.34"]}
    assert Platform.of(told) == Platform(machine="aarch64", libc_version=(2, 34))
    assert Platform.of(told | {"libc": ["", ""]}).libc == "musl"
    assert Platform.here().runs("py3-none-any", HERE)
