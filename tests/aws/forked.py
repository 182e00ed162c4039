"""Clients in processes of their own, which a test may kill: each case is a fork of one process that has imported all.

    python -m tests.aws.forked URL

says when it is ready, reads a case per line, as JSON, and answers with a line when the process of that case is gone.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import traceback
from typing import TYPE_CHECKING, Any, Final

from skyward.errors import SkywardError
from skyward.providers.aws import api, launching, network
from skyward.providers.aws.sweeping import sweep
from tests.aws import clouds, scenario
from tests.aws.faults import Faults

if TYPE_CHECKING:
    from pathlib import Path


# It sees no process of ours, and no mount that we make.
ELSEWHERE: Final = ("unshare", "--pid", "--mount", "--uts", "--ipc", "--mount-proc", "--fork", "--kill-child=KILL")


class Clients:
    """The process that forks. Its home is a directory of its own, so that nobody shares state with it."""

    def __init__(self, url: str, home: Path, *, elsewhere: bool = False) -> None:
        home.mkdir(exist_ok=True)
        command = [*(ELSEWHERE if elsewhere else ()), sys.executable, "-m", "tests.aws.forked", url]
        env = os.environ | {"HOME": str(home), "XDG_STATE_HOME": str(home / "state")}
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env)
        assert self._process.stdout is not None
        self._process.stdout.readline()  # it is there: what a test finds new later is the test's

    def run(self, **case: Any) -> dict[str, Any]:
        """Run a case, and return what became of it."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(json.dumps(case).encode() + b"\n")
        stdin.flush()
        answer: dict[str, Any] = json.loads(stdout.readline())
        return answer

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(20)
        self._process.stdout.close()


def act(url: str, case: dict[str, Any]) -> dict[str, Any]:
    """Do what a case says, in the process that may be killed for it."""
    hurry()
    if case["do"] == "sweep":
        swept = sweep(clouds.session(url), idle=0.0, bucket=clouds.BUCKET, **case.get("more", {}))
        return {"removed": swept.removed, "kept": swept.kept, "left": swept.left}
    faults = Faults(*case.get("fault", ()), always=bool(case.get("always")))
    try:
        scenario.live(scenario.provider(clouds.session(url, faults), **case.get("more", {})), case["nodes"])
    except SkywardError as error:
        return {"error": type(error).__name__, "text": str(error), "happened": faults.happened}
    return {"happened": faults.happened, "cases": faults.cases()}


def hurry() -> None:
    """Wait for a cloud of this machine's own as long as is sensible there."""
    api.PAUSE = 0.01  # type: ignore[misc]  # a test's own process
    network.LOOK = launching.QUICKLY = 0.02  # type: ignore[misc]  # the same
    launching.SLOWEST = 0.2  # type: ignore[misc]  # the same


def main() -> None:
    """Fork a process for each case."""
    # So that no fork has to read botocore's files.
    api.Api(session := clouds.session(sys.argv[1]), api.region_of(session, None)).close()
    print("ready", flush=True)
    for line in sys.stdin:
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                answer = act(sys.argv[1], json.loads(line))
            except BaseException:
                answer = {"bug": traceback.format_exc()}
            os.write(write, json.dumps(answer).encode())
            os._exit(0)
        os.close(write)
        with os.fdopen(read, "rb") as pipe:
            said = pipe.read()
        _, status = os.waitpid(pid, 0)
        answer = json.loads(said or b"{}") | {"signal": os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
