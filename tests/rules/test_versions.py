"""Client and node of different versions."""

from __future__ import annotations

import os
import platform
import sys
import time
from typing import TYPE_CHECKING, Final

import pytest

import skyward as sky
from skyward.machine.versions import package_versions
from skyward.wire.messages import PROTOCOL
from tests.rules.byhand import ByHand, environment
from tests.rules.work import BUSY, add, until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Start = Callable[..., ByHand]

SOON: Final = 1.0 * BUSY  # seconds in which a mismatch has to be told


@pytest.mark.rule("R35")
@pytest.mark.rule("F32")
@pytest.mark.parametrize("what", ["python", "protocol"])
def test_mismatch_is_told_with_both_versions(by_hand: Start, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    """A fresh node refuses a client of another protocol or Python minor version, before anything is pickled."""
    node = by_hand()
    mine = platform.python_version()
    if what == "python":
        client, wanted = f"Python 3.99.1, protocol {PROTOCOL}", "Python differs: client has 3.99.1"
        monkeypatch.setattr("skyward.mesh.greeting.platform.python_version", lambda: "3.99.1")
    else:
        client, wanted = f"Python {mine}, protocol 99", "protocol differs: client has 99"
        monkeypatch.setattr("skyward.mesh.greeting.PROTOCOL", 99)
    began = time.monotonic()
    with pytest.raises(sky.VersionMismatchError) as caught:
        sky.Compute(sky.Static([node.address])).open()
    assert time.monotonic() - began < SOON
    assert client in str(caught.value)
    assert f"Python {mine}, protocol {PROTOCOL}" in str(caught.value)
    until(lambda: any(line["event"] == "client refused" for line in node.log))  # said after the client was told
    (reason,) = [line["reason"] for line in node.log if line["event"] == "client refused"]
    assert reason.startswith(wanted)


@pytest.mark.rule("R35")
def test_patch_releases_agree(by_hand: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only major and minor count."""
    monkeypatch.setattr(
        "skyward.mesh.greeting.platform.python_version", lambda: f"{sys.version_info.major}.{sys.version_info.minor}.99"
    )
    with sky.Compute(sky.Static([by_hand().address])) as pool:
        assert add(1, 2) >> pool == 3


@pytest.mark.rule("R35")
def test_package_differences_are_shown_when_the_node_joins(
    by_hand: Start, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not at the first value that one side cannot read; what works all the same is not refused."""
    (tmp_path / "numpy-1.2.3.dist-info").mkdir()
    node = by_hand(PYTHONPATH=f"{tmp_path}{os.pathsep}{environment()['PYTHONPATH']}")
    with sky.Compute(sky.Static([node.address])) as pool:
        assert add(1, 2) >> pool == 3
    mine = package_versions(sys.path)["numpy"]
    assert f"[node 0] numpy differs: client has {mine}, node has 1.2.3; what one" in capsys.readouterr().err
