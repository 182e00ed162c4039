"""Bundles that are unpacked and started on this machine, in directories of a test's own."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import tarfile
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from skyward.image import Image
from skyward.model import NodeConfig
from skyward.providers.bundle import make_bundle
from skyward.providers.platforms import Platform

if TYPE_CHECKING:
    from pathlib import Path

    from skyward.providers.bundle import Bundle

CONFIG = NodeConfig(bind="tcp://127.0.0.1:0", alone=20.0)


def bundle_of(image: Image | None = None, root: str = ".") -> Bundle:
    """Return the bundle of an image for this machine."""
    return make_bundle(image or Image(), root=root, platform=Platform.here())


class Machine:
    """Directories that a bootstrap takes for those of a machine."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.cache, self.run = place / "c", place / "r"

    def unpack(self, bundle: Bundle) -> Path:
        """Return where the bundle is now."""
        here = self.cache / "bundles" / bundle.sha256
        if not here.exists():
            with tarfile.open(fileobj=io.BytesIO(bundle.data)) as tar:
                tar.extractall(here, filter="data")
        return here

    def bootstrap(self, bundle: Bundle, config: NodeConfig = CONFIG, **variables: str) -> Bootstrap:
        """Start the bootstrap of a bundle."""
        places = {"SKYWARD_CACHE": str(self.cache), "SKYWARD_RUN": str(self.run), "HOME": str(self.place)}
        return Bootstrap(self.unpack(bundle), config, os.environ | places | variables)

    def nodes(self) -> list[str]:
        """Return what is there of nodes."""
        return sorted(os.listdir(self.run)) if self.run.exists() else []


class Bootstrap:
    """One run of ``bootstrap.sh``."""

    def __init__(self, here: Path, config: NodeConfig, env: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            ["sh", str(here / "bootstrap.sh")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=env,
        )
        assert self.process.stdin is not None
        self.process.stdin.write(replace(config).to_json() + b"\n")
        self.process.stdin.flush()
        self.keeper = 0

    def ready(self) -> dict[str, Any]:
        """Return what it says when the node serves."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.end()
        said: dict[str, Any] = json.loads(line)["ready"]
        with open(f"{said['node']}/pid", encoding="ascii") as file:
            self.keeper = int(file.read())
        return said

    def end(self, *, keep: bool = False) -> list[str]:
        """Let it go, and return all lines it has said on stderr."""
        _, said = self.process.communicate(b"keep\n" if keep else None)
        return said.decode().splitlines()

    def stop(self) -> None:
        """End the node, and wait until it is gone."""
        fd = os.pidfd_open(self.keeper)
        try:
            signal.pidfd_send_signal(fd, signal.SIGTERM)
            import select

            assert select.select([fd], [], [], 20)[0]
        finally:
            os.close(fd)
