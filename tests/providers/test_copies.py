"""Providers as settings that travel: pickled, copied, and given to another process."""

from __future__ import annotations

import copy
import pickle
from typing import TYPE_CHECKING

import pytest

import skyward as sky
from skyward.errors import ProvisionError
from skyward.transport.keys import make_pair

if TYPE_CHECKING:
    from collections.abc import Callable

    from skyward.providers.base import Provider

KEY = make_pair().public
PROVIDERS = [
    sky.Local("tcp"),
    sky.SSH(["alice@h1:2222", "h2 python=/opt/python"], user="bob", nodes_per_host=2, node_port=7000, tunnel=True),
    sky.Static([f"tcp://10.0.0.5:7700 {KEY}", ("ipc:///tmp/node", "")], key="/keys/client.key"),
    sky.AWS("eu-central-1", vcpus=4, subnet=["subnet-1", "subnet-2"], allow="the whole world", bucket="my-bucket"),
]
SETTINGS = {
    "Local": ("transport", "shares_memory"),
    "SSH": ("_hosts", "_trust", "_tunnel", "_node_port", "_per_host"),
    "Static": ("_addresses", "_key_file"),
    "AWS": ("settings", "_session"),
}
COPY: list[Callable[[Provider], Provider]] = [copy.copy, copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))]


@pytest.mark.parametrize("made", COPY, ids=["copy", "deepcopy", "pickle"])
@pytest.mark.parametrize("provider", PROVIDERS, ids=lambda provider: type(provider).__name__)
def test_provider_is_copied_with_its_settings(provider: Provider, made: Callable[[Provider], Provider]) -> None:
    """A copy is a provider of the same settings."""
    other = made(provider)
    assert (type(other), repr(other)) == (type(provider), repr(provider))
    for name in SETTINGS[type(provider).__name__]:
        assert getattr(other, name) == getattr(provider, name)


@pytest.mark.parametrize("made", COPY, ids=["copy", "deepcopy", "pickle"])
def test_copy_has_none_of_the_state(made: Callable[[Provider], Provider]) -> None:
    """What has been closed is not what its copy does: that is unused."""
    provider = sky.Local()
    provider.close()
    with pytest.raises(ProvisionError):
        provider.prepare()
    other = made(provider)
    other.prepare()
    other.close()
