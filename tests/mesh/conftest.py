"""Engines whose nodes do what the test says."""

from __future__ import annotations

import shutil
import tempfile
from typing import TYPE_CHECKING

import pytest
import zmq

from tests.mesh.meshes import Mesh

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def mesh() -> Iterator[Mesh]:
    """Return what engines and scripted nodes are made with; all of them are closed afterwards."""
    directory = tempfile.mkdtemp(prefix="sky-")
    with zmq.Context() as context:
        mesh = Mesh(context, directory)
        try:
            yield mesh
        finally:
            mesh.close()
    shutil.rmtree(directory)
