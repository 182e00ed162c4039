"""Providers by their names."""

from __future__ import annotations

import pytest

import skyward as sky
from skyward.meshes import kinds


@pytest.mark.rule("R30")
def test_every_name_is_that_of_a_provider() -> None:
    """What `skyward.toml`, mesh files and commands call it is the class that programs use."""
    assert {name: kinds.class_of(name) for name in kinds.names()} == {
        "aws": sky.AWS, "local": sky.Local, "ssh": sky.SSH, "static": sky.Static,
    }  # fmt: skip
    assert kinds.make("aws", {"region": "eu-central-1", "bucket": "mine"}).recipe() == {
        "region": "eu-central-1", "bucket": "mine",
    }  # fmt: skip
