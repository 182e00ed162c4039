"""Where packages of a node come from: as installed here, fetched here, or left to an index; never by our own name."""

from __future__ import annotations

import io
import tomllib
import zipfile
from importlib.metadata import distribution
from typing import TYPE_CHECKING

import pytest

from skyward.errors import ArchitectureError, PackageError
from skyward.image import Image
from skyward.providers import needs, wheels
from skyward.providers.bundle import library, make_bundle
from skyward.providers.platforms import Platform
from tests.sources import ROOT
from tests.ssh.indexes import write_wheel

if TYPE_CHECKING:
    from pathlib import Path

HERE = Platform.here()


def test_daemon_needs_what_the_project_requires() -> None:
    """But for what draws on a client's terminal."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    required = {entry.partition(">")[0].strip() for entry in project["dependencies"]}
    assert set(needs.DAEMON) == required - {"rich"}


@pytest.mark.rule("R34")
def test_package_that_is_here_comes_from_here() -> None:
    """With all that it needs in turn; what is not here, or not in that version, is left to an index."""
    found = needs.of(["pandas>=2", "numpy<1", "no-such-package"], HERE)
    assert {"pandas", "numpy", "python-dateutil", "six"} <= set(found.here)
    assert found.index == ["numpy<1", "no-such-package"]
    assert f"pandas=={distribution('pandas').version}" in found.pins()


@pytest.mark.rule("R34")
def test_nobody_is_asked_for_a_package_of_our_name() -> None:
    """On an index it belongs to somebody else."""
    found = needs.of(["skyward", "Skyward>=99"], HERE)
    assert found.index == []
    assert "skyward" not in found.here


def test_package_of_a_source_tree_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """What somebody works in is no package of an index."""
    real = wheels.is_own_source
    monkeypatch.setattr(wheels, "is_own_source", lambda found: found.name == "tqdm" or real(found))
    with pytest.raises(PackageError, match=r"tqdm .* source tree"):
        needs.of(["tqdm"], HERE)


def test_wheel_is_what_was_installed(tmp_path: Path) -> None:
    """Packed twice it is the same; it holds every file but what an installer has added, and hashes of them."""
    found = distribution("msgspec")
    first, second = wheels.pack(found), wheels.pack(found, str(tmp_path))
    assert first is not None
    assert first == second == wheels.pack(found, str(tmp_path))
    with zipfile.ZipFile(io.BytesIO(first.data)) as wheel:
        names = set(wheel.namelist())
        info = f"msgspec-{found.version}.dist-info"
        assert {"msgspec/__init__.py", f"{info}/METADATA", f"{info}/RECORD"} <= names
        assert not {f"{info}/INSTALLER", f"{info}/direct_url.json"} & names
        assert not [name for name in names if "__pycache__" in name]
        record = wheel.read(f"{info}/RECORD").decode()
        assert {line.split(",")[0] for line in record.splitlines()} == names
    assert first.name.startswith(f"msgspec-{found.version}-cp311-cp311-")


def test_library_is_ours_alone() -> None:
    """Both packages, source and nothing else."""
    with zipfile.ZipFile(io.BytesIO(library())) as packed:
        names = packed.namelist()
    assert {"skyward/__init__.py", "skyward/providers/onhost/keeper.py", "skyward_node/__main__.py"} <= set(names)
    assert all(name.endswith((".py", ".typed")) for name in names)
    assert {name.partition("/")[0] for name in names} == {"skyward", "skyward_node"}


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a directory that is the only place where installers look."""
    place = tmp_path / "index"
    place.mkdir()
    for tool in ("UV", "PIP"):
        monkeypatch.setenv(f"{tool}_NO_INDEX", "1")
        monkeypatch.setenv(f"{tool}_FIND_LINKS", str(place))
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv"))
    return place


def test_wheels_for_another_machine_are_fetched(index: Path) -> None:
    """Those that are for this one alone: in the very version, for that kind of machine."""
    other = Platform(machine="aarch64", libc_version=(2, 34))
    for name in ("msgspec", "pyzmq"):
        write_wheel(index, name, distribution(name).version, "cp311-cp311-manylinux_2_17_aarch64")
    bundle = make_bundle(Image(), root=".", platform=other)
    assert bundle.data.count(b"manylinux_2_17_aarch64.whl") >= 2
    assert b"x86_64.whl" not in bundle.data


def test_machine_that_has_no_wheels_is_told(index: Path) -> None:
    """The error names what is missing, and for what."""
    with pytest.raises(ArchitectureError, match=r"pyzmq==.*Linux on riscv64"):
        make_bundle(Image(), root=".", platform=Platform(machine="riscv64", libc_version=(2, 39)))
