"""One contestant's process, seen from inside: it does what it is told, a JSON line at a time.

Orders come by the standard input and answers go by the standard output that the process was started with; both
are put away at once, so that nothing a library or a task prints gets between them.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from typing import IO, TYPE_CHECKING, Any

from skyward_scripts.bench.contestant import find
from skyward_scripts.bench.measures import MEASURES, PREPARATIONS
from skyward_scripts.bench.measures.setting import Setting

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import ModuleType

    from skyward_scripts.bench.contestant import Contestant


def main(tasks: ModuleType) -> None:
    """Serve until the orders end. The command line is where the contestant is, as ``module:class``."""
    orders, answers = _put_away()
    server = Server(find(sys.argv[1])(), tasks)
    for line in orders:
        order = json.loads(line)
        try:
            answer = {"value": server.obey(order)}
        except BaseException as error:
            traceback.print_exc()
            answer = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
        if order["do"] == "close":
            return


def _put_away() -> tuple[IO[str], IO[str]]:
    orders, answers = os.fdopen(os.dup(0), "r", encoding="utf-8"), os.fdopen(os.dup(1), "w", encoding="utf-8")
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)
    return orders, answers


class Server:
    """Does what orders say to a contestant."""

    def __init__(self, contestant: Contestant, tasks: ModuleType) -> None:
        self._contestant = contestant
        self._tasks = tasks
        self._workers = 0
        self._setting: Setting | None = None

    def obey(self, order: Mapping[str, Any]) -> Any:
        """Carry out one order and return what it yields."""
        match order["do"]:
            case "open":
                self._workers = order["workers"]
                self._contestant.open(self._workers)
            case "prepare":
                self._prepare(order)
            case "turn":
                assert self._setting is not None
                return MEASURES[self._setting.workload](self._setting, order["seed"])
            case "close":
                self._contestant.close()
            case unknown:
                raise ValueError(f"unknown order {unknown!r}")
        return None

    def _prepare(self, order: Mapping[str, Any]) -> None:
        workload, sizes = order["workload"], order["sizes"]
        self._setting = Setting(self._contestant, self._tasks, workload, sizes, self._workers, order["scratch"])
        self._setting.warm_up(order["warm"])
        if workload in PREPARATIONS:
            PREPARATIONS[workload](self._setting)
