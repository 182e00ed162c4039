"""EC2's instances: asked for, looked at, found by tag, ended."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from skyward.providers.aws import requests, tags
from skyward.providers.aws.failures import CallFailed, Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from skyward.providers.aws.api import Api
    from skyward.providers.aws.attempts import Attempts
    from skyward.providers.aws.journal import Journal
    from skyward.providers.aws.requests import Blueprint

INVISIBLE: Final = 60.0  # seconds that an instance may not be found after it was made (F48)
SETTLING: Final = 5.0  # seconds to look for what a call without an answer may have made
LOOK: Final = 0.5  # seconds between looks at what changes within seconds
TRIES: Final = 3  # times that instances are asked again to end
ENDING: Final = 300.0  # seconds that an instance may take to be gone: shutting down comes before
ALIVE: Final = (
    "pending",
    "running",
    "stopping",
    "stopped",
)  # the others, shutting down and terminated, do not come back, and cost nothing


class Asking:
    """Asks for one instance, in one place after the other, until there is one."""

    def __init__(self, api: Api, journal: Journal, token: str) -> None:
        self._api = api
        self._journal = journal
        self._token = token

    def ask(
        self, blueprint: Blueprint, attempts: Attempts, marks: list[dict[str, str]], user_data: str,
        check: Callable[[], None],
    ) -> str:  # fmt: skip
        """Return the id of an instance; raises `CallFailed`, and what ``check`` raises, which is called in between."""
        number = 0
        last: CallFailed | None = None
        while (place := attempts.place) is not None:
            check()
            number += 1  # a token stands for one wish: in another place it is another
            request = requests.run_instances(blueprint, place, f"{self._token}-{number}", marks, user_data)
            try:
                return self._run(request)
            except CallFailed as failure:
                if not attempts.refused(failure.kind, f"{failure.code}: {failure.said}"):
                    raise
                last = failure
        assert last is not None, "there is always a place to try"
        raise last

    def _run(self, request: dict[str, Any]) -> str:
        self._journal.note(self._token, "asked")
        try:
            return self._answered(request)
        except CallFailed as failure:
            if failure.kind is not Kind.UNSURE:
                self._journal.note(self._token, "none")
                raise
        # It may have been started. If it is not to be seen, the same token starts nothing twice.
        if found := self._find():
            return found
        return self._answered(request)

    def _answered(self, request: dict[str, Any]) -> str:
        [made] = self._api.write("ec2", "run_instances", **request)["Instances"]
        self._journal.note(self._token, str(made["InstanceId"]))
        return str(made["InstanceId"])

    def _find(self) -> str:
        deadline = time.monotonic() + SETTLING
        while True:
            found = [each["InstanceId"] for each in find(self._api, tags.filters(token=self._token))]
            if found or time.monotonic() > deadline:
                return str(found[0]) if found else ""
            time.sleep(LOOK)


def find(api: Api, filters: list[dict[str, Any]], states: tuple[str, ...] = ALIVE) -> list[dict[str, Any]]:
    """Return the instances that fit, in these states; raises `CallFailed`."""
    wanted = [*filters, {"Name": "instance-state-name", "Values": list(states)}]
    found = api.pages("ec2", "describe_instances", "Reservations", Filters=wanted)
    return [instance for reservation in found for instance in reservation["Instances"]]


def look(api: Api, instance: str) -> dict[str, Any] | None:
    """Return what EC2 says about an instance; None if it does not know it (yet); raises `CallFailed`."""
    try:
        found = api.read("ec2", "describe_instances", InstanceIds=[instance])["Reservations"]
    except CallFailed as failure:
        if failure.kind is Kind.ABSENT:
            return None
        raise
    said: list[dict[str, Any]] = [each for reservation in found for each in reservation["Instances"]]
    return said[0] if said else None


def state_of(said: dict[str, Any]) -> str:
    """Return the state of an instance."""
    return str(said.get("State", {}).get("Name", "pending"))


def end(api: Api, instances: Iterable[str], *, fresh: bool = False) -> None:
    """End instances, and return when all are on their way out; raises `CallFailed`.

    One that EC2 does not know is gone, unless it is ``fresh``: then it may only not be visible yet.
    """
    left = list(instances)
    invisible = time.monotonic() + (INVISIBLE if fresh else 0.0)
    tries = TRIES
    while left:
        try:
            api.write("ec2", "terminate_instances", InstanceIds=left)
        except CallFailed as failure:
            if failure.kind is Kind.ABSENT and len(left) > 1:  # then none was ended
                for each in left:
                    end(api, [each], fresh=fresh)
                return
            if failure.kind is Kind.ABSENT and time.monotonic() < invisible:
                time.sleep(LOOK)
                continue
            if failure.kind is Kind.ABSENT:
                return
            if failure.kind is not Kind.UNSURE or not tries:
                raise
        tries -= 1
        # The state is what counts, not the answer.
        left = [str(each["InstanceId"]) for each in find(api, [{"Name": "instance-id", "Values": left}])]
        if left and tries < 0:
            raise CallFailed("ec2:TerminateInstances", Kind.UNSURE, "StillThere", f"{', '.join(left)} still there")
        if left:
            time.sleep(LOOK)


def await_gone(api: Api, filters: list[dict[str, Any]], patience: float = ENDING) -> list[str]:
    """Return the instances that are not gone after so long; [] as soon as there are none; raises `CallFailed`."""
    deadline = time.monotonic() + patience
    while True:
        left = [str(each["InstanceId"]) for each in find(api, filters, (*ALIVE, "shutting-down"))]
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(LOOK)


def console(api: Api, instance: str) -> str:
    """Return what an instance has written on its console, as far as EC2 has it; "" if it has nothing."""
    with suppress(CallFailed):  # it is asked for when something is wrong already
        return read_console(api, instance)
    return ""


def read_console(api: Api, instance: str) -> str:
    """Return the same; raises `CallFailed`."""
    try:
        said = api.read("ec2", "get_console_output", InstanceId=instance, Latest=True)
    except CallFailed:  # only newer types show what was written a moment ago
        said = api.read("ec2", "get_console_output", InstanceId=instance)
    return str(said.get("Output", ""))
