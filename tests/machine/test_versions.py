"""Versions that decide about unpickling."""

from __future__ import annotations

import importlib.metadata
import sys

import pytest

from skyward.machine.versions import differences, package_versions


def test_versions_are_those_of_the_metadata() -> None:
    """The cheap way to find versions says what the standard one says."""
    versions = package_versions(sys.path)
    assert versions["msgspec"] == importlib.metadata.version("msgspec")
    assert versions["numpy"] == importlib.metadata.version("numpy")


@pytest.mark.rule("R35")
def test_differences_are_those_of_the_first_two_numbers() -> None:
    """A patch release changes no format; what only one end has is no difference."""
    client = {"numpy": "2.4.6", "pandas": "2.2.0", "torch": "2.1"}
    node = {"numpy": "2.4.1", "pandas": "3.1.1", "msgspec": "0.19"}
    assert differences(client, node) == [
        "pandas differs: client has 2.2.0, node has 3.1.1; what one pickles the other may not read"
    ]
