"""What images do for pools of this machine (R34)."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

import skyward as sky

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from skyward.model import Executor
    from tests.rules.byhand import ByHand


@sky.function
def seen(*names: str) -> list[str | None]:
    """Return what the worker's environment says."""
    return [os.environ.get(name) for name in names]


@pytest.mark.rule("R34")
@pytest.mark.parametrize("executor", ["process", "thread"])
def test_variables_reach_every_worker(monkeypatch: pytest.MonkeyPatch, executor: Executor) -> None:
    """They go before those of the client, and hold for the processes that tasks start; the client keeps its own."""
    monkeypatch.setenv("SKY_ONE", "client")
    monkeypatch.setenv("SKY_TWO", "client")

    @sky.function
    def started() -> str:
        return subprocess.run(["sh", "-c", "echo $SKY_ONE"], capture_output=True, text=True, check=True).stdout.strip()

    image = sky.Image(env={"SKY_ONE": "image", "EMPTY": "", "PYTHONSTARTUP": "image"})
    with sky.Compute(nodes=2, executor=executor, image=image) as pool:
        assert seen("SKY_ONE", "SKY_TWO", "EMPTY", "PYTHONSTARTUP") @ pool == [["image", "client", "", "image"]] * 2
        assert started() @ pool == ["image"] * 2
    assert os.environ["SKY_ONE"] == "client"


@pytest.mark.rule("R34")
def test_variables_are_there_when_a_process_starts() -> None:
    """Those that the C library reads only then count, too."""

    @sky.function
    def at_start() -> str:
        with open("/proc/self/environ", encoding="utf-8") as file:
            return next(entry for entry in file.read().split("\0") if entry.startswith("LD_LIBRARY_PATH="))

    with sky.Compute(nodes=1, image=sky.Image(env={"LD_LIBRARY_PATH": "/opt/mine/lib"})) as pool:
        assert at_start() >> pool == "LD_LIBRARY_PATH=/opt/mine/lib"


@pytest.mark.rule("R34")
@pytest.mark.rule("R50")
def test_shares_are_of_what_the_image_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Devices that it names are divided among the workers; numbers of threads that it names stay."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    image = sky.Image(env={"CUDA_VISIBLE_DEVICES": "0,1", "OMP_NUM_THREADS": "5"})
    with sky.Compute(nodes=2, image=image) as pool:
        found = seen("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "MKL_NUM_THREADS") @ pool
    assert sorted(map(str, found)) == ["['0', '5', None]", "['1', '5', None]"]


@pytest.mark.rule("R34")
def test_included_files_are_found_and_imported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Under their relative paths, and modules by name, though the client's own path has not this directory."""
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "sky_plugin.py").write_text("ANSWER = 42")
    (tmp_path / "data.txt").write_text("some data")
    monkeypatch.chdir(tmp_path)

    @sky.function
    def use() -> tuple[str, Any]:
        from importlib import import_module

        with open("data.txt", encoding="utf-8") as file:
            return file.read(), import_module("plugins.sky_plugin").ANSWER

    with sky.Compute(nodes=2, image=sky.Image(includes=["plugins", "data.txt"])) as pool:
        assert use() @ pool == [("some data", 42)] * 2


@pytest.mark.rule("R34")
@pytest.mark.parametrize(
    ("image", "error", "text"),
    [
        (sky.Image(pip=["numpy<1"]), sky.ProvisionError, "numpy<1"),
        (sky.Image(pip=["absent-one"]), sky.ProvisionError, r"absent-one is not installed.*install.*absent-one"),
        (sky.Image(apt=["sky-absent"]), sky.ProvisionError, "sky-absent: sudo apt-get install"),
        (sky.Image(python="3.99"), sky.ProvisionError, r"Python 3\.99, and this is"),
        (sky.Image(includes=["sky-absent"]), sky.ConfigError, "includes names 'sky-absent'"),
    ],
    ids=["version", "package", "apt", "python", "includes"],
)
def test_what_is_missing_is_refused_before_anything_starts(image: sky.Image, error: type[Exception], text: str) -> None:
    """The error says what, and what to do; the pool has not been opened."""
    pool = sky.Compute(nodes=2, image=image)
    with pytest.raises(error, match=text):
        pool.open()
    assert not pool.is_active


@pytest.mark.rule("R34")
def test_nodes_that_run_already_take_no_image(by_hand: Callable[..., ByHand]) -> None:
    """They are as they are: it is said, instead of forgotten; an image that asks for nothing is taken."""
    static = sky.Static([by_hand().address])
    with pytest.raises(sky.ProvisionError, match=r"run already.*leave out sky\.Image\(env=\['A'\]\)"):
        sky.Compute(static, image=sky.Image(env={"A": "hush"})).open()
    with sky.Compute(static, image=sky.Image()) as pool:
        assert seen("A") >> pool == [None]


@pytest.mark.rule("R34")
def test_image_is_an_image() -> None:
    """A name of a container image, which other tools take, is none."""
    with pytest.raises(TypeError, match=r"image must be a sky\.Image\(\.\.\.\), got 'python:3\.12'"):
        sky.Compute(image="python:3.12")  # type: ignore[arg-type]  # that is the point  # pyright: ignore[reportArgumentType]
