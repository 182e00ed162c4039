"""An environment of its own for what nodes need, made once for each set of packages and kept.

It is built under a lock and counts when the file ``complete`` is in it: what a bootstrap left behind that was cut off
is made anew. Whoever uses an environment holds its lock, shared, so that `sweep` leaves it alone. What the machine's
Python has is seen behind what is installed here.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import distributions
from typing import TYPE_CHECKING, Any, Final

from skyward.providers.onhost.words import Failure, step

if TYPE_CHECKING:
    from skyward.providers.onhost.words import Lifeline

COMPLETE: Final = "complete"
EXECUTABLE: Final = 0o700
FORMAT: Final = 1  # of what is built here: another one builds anew
PAUSE: Final = 0.2  # seconds between looks whether another bootstrap is done: a lock cannot be waited for with stdin
FULL: Final = (b"No space left on device", b"Disk quota exceeded")
TAIL: Final = 65_536  # bytes of an installer's output that are looked at

SCRIPT: Final = """\
#!{python}
import sys
from {module} import {first}
sys.exit({called}())
"""


class Environment:
    """One environment; its lock is held for as long as this process, or one that it becomes, lives."""

    def __init__(self, here: str, cache: str, lifeline: Lifeline) -> None:
        with open(os.path.join(here, "manifest.json"), encoding="utf-8") as file:
            self._manifest: dict[str, Any] = json.load(file)
        self._here = here
        self._lifeline = lifeline
        self.place = os.path.join(cache, "envs", self._key())
        self.python = os.path.join(self.place, "bin", "python")

    def _key(self) -> str:
        said = [FORMAT, os.path.realpath(sys.executable), sys.prefix, sys.version, os.uname().machine, self._manifest]
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:32]

    def ensure(self) -> None:
        """Make it, unless it is there."""
        os.makedirs(os.path.dirname(self.place), mode=0o700, exist_ok=True)
        lock = os.open(f"{self.place}.lock", os.O_RDWR | os.O_CREAT, 0o600)
        os.set_inheritable(lock, True)
        self._take(lock, fcntl.LOCK_SH)
        if self._is_complete():
            os.utime(self.place)
            step("using the environment that is there")
            return
        self._take(lock, fcntl.LOCK_EX)
        if not self._is_complete():
            self._build()
        fcntl.flock(lock, fcntl.LOCK_SH)

    def _is_complete(self) -> bool:
        return os.path.exists(os.path.join(self.place, COMPLETE))

    def _take(self, lock: int, how: int) -> None:
        fcntl.flock(lock, fcntl.LOCK_UN)
        said = False
        while True:
            try:
                fcntl.flock(lock, how | fcntl.LOCK_NB)
            except BlockingIOError:
                if not said:
                    step("waiting for another bootstrap that makes the same environment")
                said = True
                self._lifeline.wait(timeout=PAUSE)
            else:
                return

    # --- building ----------------------------------------------------------------------------

    def _build(self) -> None:
        step(f"making an environment for Python {sys.version.split()[0]}")
        shutil.rmtree(self.place, ignore_errors=True)
        try:
            from venv import EnvBuilder
        except ImportError as error:
            raise Failure(
                "no-python", f"{sys.executable} has no module venv (Debian: python3-venv): {error}"
            ) from error
        EnvBuilder(symlinks=True, with_pip=False).create(self.place)
        self._show_host_packages()
        step(f"unpacking {len(self._manifest['wheels'])} packages")
        for name, sha256 in self._manifest["wheels"].items():
            self._unpack(name, sha256)
        self._write_scripts()
        if self._manifest["index"]:
            self._install(self._manifest["index"])
        with open(os.path.join(self.place, COMPLETE), "w", encoding="utf-8") as file:
            json.dump(self._manifest, file)

    @property
    def _site(self) -> str:
        return os.path.join(self.place, "lib", f"python{sys.version_info[0]}.{sys.version_info[1]}", "site-packages")

    def _show_host_packages(self) -> None:
        """Let the environment see the packages of the Python that it is made with, which may be in one itself."""
        places = [place for place in sys.path if place.endswith(("site-packages", "dist-packages"))]
        with open(os.path.join(self._site, "zz-host.pth"), "w", encoding="utf-8") as file:
            file.writelines(f"import site; site.addsitedir({place!r})\n" for place in places)

    def _unpack(self, name: str, sha256: str) -> None:
        path = os.path.join(self._here, "wheels", name)
        with open(path, "rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != sha256:
                raise Failure("bootstrap", f"{path} is not what was sent: it has another hash")
            with zipfile.ZipFile(file) as wheel:
                for entry in wheel.infolist():
                    made = wheel.extract(entry, self._site)
                    if entry.external_attr >> 16 & 0o111:
                        os.chmod(made, EXECUTABLE)

    def _write_scripts(self) -> None:
        for found in distributions(path=[self._site]):
            for entry in found.entry_points.select(group="console_scripts"):
                path = os.path.join(self.place, "bin", entry.name)
                first = entry.attr.partition(".")[0]
                text = SCRIPT.format(python=self.python, module=entry.module, first=first, called=entry.attr)
                with open(path, "w", encoding="utf-8") as file:
                    file.write(text)
                os.chmod(path, EXECUTABLE)

    def _install(self, requirements: list[str]) -> None:
        step(f"installing packages: {', '.join(requirements)}")
        constraints = os.path.join(self.place, "constraints.txt")
        with open(constraints, "w", encoding="utf-8") as file:
            file.writelines(f"{pin}\n" for pin in self._manifest["pins"])
        command = [*self._installer(), "--constraint", constraints, *requirements]
        code, output = self._run(command)
        if code == 0:
            return
        if any(words in output for words in FULL):
            raise Failure("disk-full", f"the disk is full: could not install {', '.join(requirements)}")
        raise Failure("package", f"could not install {', '.join(requirements)}: {os.path.basename(command[0])} failed")

    def _installer(self) -> list[str]:
        if (uv := shutil.which("uv")) is not None:
            return [uv, "pip", "install", "--no-progress", "--python", self.python]
        for module in ("pip", "ensurepip"):
            if subprocess.run([self.python, "-c", f"import {module}"], capture_output=True, check=False).returncode:
                continue
            if module == "ensurepip" and self._run([self.python, "-m", "ensurepip"])[0]:
                continue
            choice = ["--disable-pip-version-check", "--no-input", "--progress-bar", "off", "--retries", "2"]
            return [self.python, "-m", "pip", "install", *choice]
        raise Failure(
            "package", "there is neither uv nor pip on this machine to install packages (Debian: python3-pip)"
        )

    def _run(self, command: list[str]) -> tuple[int, bytes]:
        """Run a command whose output is shown as it comes; return its exit code and the last of its output."""
        variables = os.environ | {"PIP_USER": "0", "VIRTUAL_ENV": self.place}
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=variables,
            start_new_session=True,
        )
        assert process.stdout is not None
        output = b""
        try:
            while chunk := self._read(process.stdout.fileno()):
                os.write(2, chunk)
                output = (output + chunk)[-TAIL:]
        except BaseException:
            os.killpg(process.pid, 9)
            raise
        finally:
            code = process.wait()
            process.stdout.close()
        return code, output

    def _read(self, fd: int) -> bytes:
        while not self._lifeline.wait(fd):
            pass
        return os.read(fd, 65_536)
