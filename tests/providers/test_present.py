"""Whether this machine has what an image needs."""

from __future__ import annotations

import sys
from importlib.metadata import version
from typing import TYPE_CHECKING

import pytest

import skyward as sky
from skyward.providers import present

if TYPE_CHECKING:
    from pathlib import Path

RUNNING = ".".join(map(str, sys.version_info[:3]))
NUMPY = version("numpy")


@pytest.mark.rule("R34")
@pytest.mark.parametrize("python", [RUNNING, RUNNING.rpartition(".")[0]])
def test_what_is_here_is_accepted(python: str) -> None:
    """By its version, exact or not; a requirement for another Python does not count."""
    pip = [
        f"numpy=={NUMPY}",
        "NumPy",
        "numpy>=1,!=1.5",
        "absent-one; python_version<'3'",
        "numpy @ https://a.org/n.whl",
    ]
    present.require(sky.Image(python=python, pip=pip))


@pytest.mark.rule("R34")
def test_all_that_is_missing_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """With what is here instead, and a command that helps."""
    monkeypatch.setattr("shutil.which", lambda _: None)
    image = sky.Image(python="3.99", pip=["numpy<1", "absent-one>=2", "cloudpickle"], apt=["ffmpeg"])
    with pytest.raises(sky.ProvisionError) as caught:
        present.require(image)
    text = str(caught.value)
    assert f"Python 3.99, and this is {RUNNING}" in text
    assert f"numpy<1 ({NUMPY} is installed), absent-one>=2 (absent-one is not installed): " in text
    assert f"{sys.executable}" in text
    assert "install" in text
    assert "'numpy<1' 'absent-one>=2'" in text
    assert "ffmpeg: sudo apt-get install ffmpeg" in text
    assert "cloudpickle" not in text


@pytest.mark.rule("R34")
def test_version_is_no_prefix_of_digits(monkeypatch: pytest.MonkeyPatch) -> None:
    """3.1 is not 3.11."""
    monkeypatch.setattr(sys, "version_info", (3, 11, 7))
    present.require(sky.Image(python="3.11"))
    with pytest.raises(sky.ProvisionError, match=r"Python 3\.1, and this is 3\.11\.7"):
        present.require(sky.Image(python="3.1"))


@pytest.mark.rule("R34")
def test_extras_are_looked_into(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A package whose extra is not installed is missing something; also when the extra names another."""
    for name, requires in {
        "outer": ["inner[more]; extra == 'all'", "absent-one; extra == 'never'"],
        "inner": ["absent-two>=3; extra == 'more'", "numpy"],
    }.items():
        info = tmp_path / f"{name}-1.0.dist-info"
        info.mkdir()
        extras = "".join(f"Requires-Dist: {entry}\n" for entry in requires)
        extras += "".join(f"Provides-Extra: {extra}\n" for extra in ("all", "never", "more"))
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n{extras}")
    monkeypatch.syspath_prepend(str(tmp_path))
    present.require(sky.Image(pip=["outer", "inner"]))
    with pytest.raises(sky.ProvisionError, match=r"outer\[all\] \(absent-two is not installed\)"):
        present.require(sky.Image(pip=["outer[all]"]))


@pytest.mark.rule("R34")
def test_debian_packages_are_asked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """One that was removed, or has another version, is missing."""
    query = tmp_path / "dpkg-query"
    query.write_text(
        '#!/bin/sh\ncase "$3" in git) echo installed 1.2;; gone) echo config-files 1.0;; *) exit 1;; esac\n'
    )
    query.chmod(0o755)
    monkeypatch.setattr("shutil.which", lambda _: str(query))
    present.require(sky.Image(apt=["git", "git=1.2"]))
    with pytest.raises(sky.ProvisionError, match=r"git=1\.3, gone, never: sudo apt-get install"):
        present.require(sky.Image(apt=["git", "git=1.3", "gone", "never"]))


def test_command_is_one_that_this_environment_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without pip, uv installs into it."""
    for spec, begin in (object(), f"{sys.executable} -m pip"), (None, f"uv pip install --python {sys.executable}"):
        monkeypatch.setattr(present, "find_spec", lambda _, spec=spec: spec)
        with pytest.raises(sky.ProvisionError, match=begin):
            present.require(sky.Image(pip=["absent-one"]))
