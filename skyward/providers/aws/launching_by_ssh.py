"""A launch without a bucket: code goes to the instance by SSH, and its report comes back the same way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from skyward.errors import HostKeyError, HostUnreachableError, ProvisionError
from skyward.providers import bootstrap
from skyward.providers.aws import handover, instances, launching, reports
from skyward.providers.aws.handover import Handover
from skyward.providers.openssh import Patience

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

    from skyward.providers.aws.launching import Site
    from skyward.providers.base import LaunchSpec

ADVICE: Final = (
    f"let this machine reach port {handover.PORT} there by security_group= or allow=, or say sky.AWS(bucket=...), "
    "which needs no SSH"
)
TRIES: Final = 5  # connections: a server may not take any yet, nor the group let us in, when its key is on the console


class LaunchingBySsh(launching.Launching):
    """One launch."""

    def __init__(
        self, site: Site, spec: LaunchSpec, index: int, *, cancelled: threading.Event, tell: Callable[[str], None]
    ) -> None:
        super().__init__(site, spec, index, cancelled=cancelled, tell=tell)
        self._handover = Handover()

    def _way(self) -> dict[str, str]:
        return {"ssh_key": self._handover.public}

    def _await_report(self) -> reports.Report:
        self._waits_for = "its host key on the console"
        pause = launching.QUICKLY
        while not (key := handover.host_key(self._console(), self._nonce)):
            if text := self._reported():
                return self._believed(reports.parse(text))
            self._look(None)
            self._pause(pause)
            self._check()
            pause = min(pause * 1.2, launching.STATE)
        said = self._await_address()
        address = str(said.get("PublicIpAddress") or said.get("PrivateIpAddress", ""))
        return self._believed(reports.parse(self._hand_over(address, key)))

    def _hand_over(self, address: str, key: str) -> str:
        config = launching.config_of(self._spec).to_json() + b"\n"
        where = f"instance {self.instance}: handing the code over to {address} by SSH"
        patience = Patience(
            self._left(), where, cancelled=lambda: self.unwanted or self._cancelled.is_set(), option="start_timeout"
        )
        for tries_left in range(TRIES - 1, -1, -1):
            self._waits_for = "the code to be handed over by SSH"
            try:
                return self._handover.hand_over(address, key, config + self._site.bundle.data, patience, self._hear)
            except HostUnreachableError as error:
                if not tries_left:
                    raise HostUnreachableError(
                        f"instance {self.instance}: {error.message}; {ADVICE}", error.log
                    ) from error
            except HostKeyError as error:
                where = f"instance {self.instance}: who answers at {address} does not own the host key of its console"
                why = "it is another machine, or somebody is in between; nothing was sent there"
                raise HostKeyError(f"{where}: {why}", error.log) from error
            except ProvisionError as error:
                if text := self._reported():  # the session was cut, and its console says why
                    return text
                raise ProvisionError(f"instance {self.instance}: {error.message}", error.log) from error
            self._pause(launching.SLOWEST)
            self._check()
        raise AssertionError("the last try returns or raises")

    def _hear(self, line: str) -> None:
        if (said := bootstrap.understand(line)).kind == "step":
            self._waits_for = said.text
            self._tell(f"instance {self.instance}: {said.text}")

    def _console(self) -> str:
        return instances.console(self._site.api, self.instance)

    def _reported(self) -> str | None:
        return reports.on_console(self._console(), self._nonce) or None

    def _log(self) -> tuple[str, ...]:
        return reports.tail(self._console()) if self.instance else ()
