"""What an image says, and refuses to say."""

from __future__ import annotations

import dataclasses
import os
import pickle
from typing import TYPE_CHECKING, Any

import pytest

import skyward as sky

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def tree(root: Path, *names: str) -> str:
    """Make files that contain their own names; return the directory as images take it."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    return str(root)


@pytest.mark.rule("R34")
def test_image_is_a_frozen_value() -> None:
    """What it was made of can change afterwards; it is equal to its like, hashable, and can be pickled."""
    pip, env = ["numpy>=2"], {"MODE": "fast"}
    image = sky.Image(python="3.11", pip=pip, env=env, includes=["data"])
    pip.append("torch")
    env["MODE"] = "slow"
    same = sky.Image(python="3.11", pip=("numpy>=2",), env={"MODE": "fast"}, includes=("data",))
    assert image == same == pickle.loads(pickle.dumps(image))
    assert hash(image) == hash(same)
    assert image.pip == ("numpy>=2",)
    assert image != sky.Image()
    with pytest.raises(dataclasses.FrozenInstanceError):
        image.python = "3.12"  # type: ignore[misc]  # that is the point  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(TypeError):
        image.env["MODE"] = "slow"  # type: ignore[index]  # the same  # pyright: ignore[reportIndexIssue]


@pytest.mark.rule("R34")
def test_values_of_variables_are_not_shown() -> None:
    """They may be secret: the names are there."""
    image = sky.Image(pip=["numpy"], env={"TOKEN": "hush", "A": "b"})
    assert repr(image) == "sky.Image(pip=['numpy'], env=['A', 'TOKEN'])"
    assert repr(sky.Image(python="3.12", apt=["git"], includes=["x"])) == (
        "sky.Image(python='3.12', apt=['git'], includes=['x'])"
    )


@pytest.mark.rule("R34")
@pytest.mark.parametrize(
    ("fields", "error", "text"),
    [
        ({"python": 3.12}, TypeError, r'python must be a version as a string, such as "3\.12", got 3\.12'),
        ({"python": "2.7"}, sky.ConfigError, "python .* got '2.7'"),
        ({"python": "3"}, sky.ConfigError, "python .* got '3'"),
        ({"pip": "numpy"}, TypeError, r"got a string: pip=\['numpy'\]"),
        ({"pip": {"numpy": "2"}}, TypeError, "pip must be a list of strings"),
        ({"pip": ["numpy", 2]}, TypeError, "pip .* has 2 in it"),
        ({"pip": ["numpy>>2"]}, sky.ConfigError, "pip has 'numpy>>2', which is no requirement"),
        ({"pip": ["./mine"]}, sky.ConfigError, "'./mine'.*own code goes into includes"),
        ({"apt": ["Git Hub"]}, sky.ConfigError, "apt has 'Git Hub'"),
        ({"apt": ["-y"]}, sky.ConfigError, "apt has '-y'"),
        ({"env": ["A=b"]}, TypeError, "env must be a dict of strings, got list"),
        ({"env": {"THREADS": 4}}, TypeError, "the value of 'THREADS' is of type int"),
        ({"env": {1: "x"}}, TypeError, "env must be a dict of strings: the name 1 is of type int"),
        ({"env": {None: 2}}, TypeError, "the name None is of type NoneType"),
        ({"env": {"A=B": "c"}}, sky.ConfigError, "env has the variable 'A=B'"),
        ({"env": {"": "c"}}, sky.ConfigError, "env has the variable ''"),
        ({"env": {"A": "b\0c"}}, sky.ConfigError, "env has the variable 'A'"),
        ({"includes": ["/etc"]}, sky.ConfigError, "includes has '/etc': paths are relative"),
        ({"includes": ["a/../../b"]}, sky.ConfigError, "includes has 'a/../../b': .* stay within it"),
        ({"includes": [""]}, sky.ConfigError, "includes has ''"),
        ({"excludes": ["/"]}, sky.ConfigError, "excludes has '/'"),
        ({"excludes": "*.pyc"}, TypeError, r"excludes=\['\*\.pyc'\]"),
    ],
)
def test_nonsense_is_refused_at_once(fields: dict[str, Any], error: type[Exception], text: str) -> None:
    """The error names the field, and what is wrong with it."""
    with pytest.raises(error, match=text):
        sky.Image(**fields)


@pytest.mark.rule("R34")
def test_error_shows_no_value_of_a_variable() -> None:
    """It may be secret, also when it is wrong."""
    with pytest.raises(TypeError) as caught:
        sky.Image(env={"TOKEN": b"hush"})  # type: ignore[dict-item]  # that is the point  # pyright: ignore[reportArgumentType]
    assert "hush" not in str(caught.value)


def test_good_entries_are_taken() -> None:
    """All that pip and apt know."""
    pip = ["numpy", "pandas[parquet]>=2,<4", "torch==2.5.1; python_version>='3.11'", "mine @ https://example.org/m.whl"]
    apt = ["git", "libstdc++6", "libc6:arm64", "ffmpeg=7:6.1.1-3ubuntu5"]
    image = sky.Image(python="3.12.4", pip=pip, apt=apt, includes=["a", "./b/../c"], excludes=["*.log", "data/raw/"])
    assert (image.pip, image.apt) == (tuple(pip), tuple(apt))


def test_image_without_wishes_is_empty() -> None:
    """What is left out of nothing is no wish."""
    assert sky.Image().is_empty
    assert sky.Image(excludes=["x"]).is_empty
    wishes: list[dict[str, Any]] = [
        {"python": "3.11"},
        {"pip": ["a"]},
        {"apt": ["ab"]},
        {"env": {"A": ""}},
        {"includes": ["a"]},
    ]
    for fields in wishes:
        assert not sky.Image(**fields).is_empty


@pytest.mark.rule("R34")
def test_files_are_those_included_and_not_excluded(tmp_path: Path) -> None:
    """Patterns are of names, wherever they are, or of relative paths with all that is below."""
    root = tree(
        tmp_path, "lib/a.py", "lib/deep/b.py", "lib/deep/__pycache__/b.pyc", "lib/raw/big.bin", "one.txt", "other.txt"
    )
    includes = ["lib", "one.txt", "lib/deep"]
    assert list(sky.Image(includes=includes).files(root)) == [
        "lib/a.py", "lib/deep/b.py", "lib/raw/big.bin", "one.txt",
    ]  # fmt: skip
    assert list(sky.Image(includes=includes, excludes=["lib/raw/", "one.*"]).files(root)) == [
        "lib/a.py", "lib/deep/__pycache__/b.pyc", "lib/deep/b.py",
    ]  # fmt: skip
    assert list(sky.Image(includes=["."], excludes=["lib"]).files(root)) == ["one.txt", "other.txt"]


@pytest.mark.rule("R34")
def test_included_path_that_is_not_there_is_named(tmp_path: Path) -> None:
    """With the directory where it was looked for."""
    with pytest.raises(sky.ConfigError, match=rf"includes names 'absent'.*{tmp_path}"):
        list(sky.Image(includes=["absent"]).files(str(tmp_path)))


@pytest.mark.rule("R34")
@pytest.mark.parametrize(
    "change",
    [
        lambda root: (root / "lib/a.py").write_text("changed"),
        lambda root: (root / "lib/a.py").chmod(0o755),
        lambda root: (root / "lib/a.py").rename(root / "lib/b.py"),
        lambda root: (root / "lib/new").touch(),
    ],
    ids=["content", "mode", "name", "new"],
)
def test_hash_is_that_of_the_content(tmp_path: Path, change: Callable[[Path], object]) -> None:
    """Not of when or where the files were made; what is left out does not count."""
    image = sky.Image(pip=["numpy"], includes=["lib"])
    before = image.content_hash(tree(tmp_path / "here", "lib/a.py"))
    assert before == image.content_hash(tree(tmp_path / "there", "lib/a.py", "lib/__pycache__/a.pyc", "else"))
    os.utime(tmp_path / "here/lib/a.py", (1, 1))
    assert before == image.content_hash(str(tmp_path / "here"))
    change(tmp_path / "here")
    assert before != image.content_hash(str(tmp_path / "here"))


@pytest.mark.rule("R34")
def test_hash_is_that_of_all_fields(tmp_path: Path) -> None:
    """Each of them counts; the order of variables does not."""
    images = [
        sky.Image(), sky.Image(python="3.11"), sky.Image(pip=["git"]), sky.Image(apt=["git"]),
        sky.Image(env={"A": "b"}), sky.Image(env={"A": "c"}),
    ]  # fmt: skip
    assert len({image.content_hash(str(tmp_path)) for image in images}) == len(images)
    one, two = sky.Image(env={"A": "1", "B": "2"}), sky.Image(env={"B": "2", "A": "1"})
    assert one.content_hash(str(tmp_path)) == two.content_hash(str(tmp_path))
