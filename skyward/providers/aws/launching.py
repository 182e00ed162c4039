"""One node from nothing to serving: the instance asked for, what it says of itself read and checked, its port tried.

Whatever goes wrong, and whenever, the instance is ended, and it is looked whether it is gone.
"""

from __future__ import annotations

import math
import socket
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from skyward.errors import ProvisionError, SkywardError
from skyward.providers import bootstrap
from skyward.providers.aws import instances, reports, sealing, tags, userdata
from skyward.providers.aws.attempts import Attempts
from skyward.providers.aws.failures import CallFailed, Kind, kind_of, public
from skyward.providers.aws.rules import MESH_PORT
from skyward.providers.aws.storage import LOG_LINK, MOST_LOG, Storage
from skyward.providers.base import KEYS, Launched

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

    from skyward.model import NodeConfig
    from skyward.providers.aws.api import Api
    from skyward.providers.aws.attempts import Place
    from skyward.providers.aws.journal import Journal
    from skyward.providers.aws.requests import Blueprint
    from skyward.providers.aws.tags import Owner
    from skyward.providers.base import LaunchSpec
    from skyward.providers.bundle import Bundle

GLANCE: Final = 0.1  # seconds between looks whether a launch is still wanted
QUICKLY: Final = 0.2  # seconds between the first looks for a report; they grow
SLOWEST: Final = 2.0  # seconds between the last ones
STATE: Final = 3.0  # seconds between looks whether the instance still is
CONSOLE: Final = 20.0  # seconds between looks at its console, which is minutes behind
KNOCK: Final = 15.0  # seconds for the port of a node that serves to answer
ALONE: Final = 60.0  # seconds beyond the lease without a client, after which a node ends itself
MARGIN: Final = 2  # minutes beyond `start_timeout` after which a machine ends itself that does not serve


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """What all launches of a pool use."""

    api: Api
    owner: Owner
    blueprint: Blueprint
    places: tuple[Place, ...]
    journal: Journal
    bundle: Bundle
    python: str  # version of the client, by two numbers
    max_life: float  # seconds


def config_of(spec: LaunchSpec) -> NodeConfig:
    """Return what the daemon of a node is told."""
    alone = 0.0 if spec.persist else spec.lease + ALONE
    return spec.node_config(bind=f"tcp://0.0.0.0:{MESH_PORT}", alone=alone, keys=KEYS if spec.persist else "")


class Launching:
    """One launch."""

    def __init__(
        self, site: Site, spec: LaunchSpec, index: int, *, cancelled: threading.Event, tell: Callable[[str], None]
    ) -> None:
        self._site = site
        self._spec = spec
        self._index = index
        self._cancelled = cancelled
        self._tell = tell  # hears how it goes on
        self._told = 0  # lines of the instance's log that were told, or were not worth it
        self.unwanted = False  # set by whoever closes the provider
        self._deadline = time.monotonic() + spec.start_timeout
        self.token = uuid.uuid4().hex
        self._storage = Storage(site.api, site.owner)
        self._nonce = uuid.uuid4().hex
        self.instance = ""
        self._waits_for = "EC2 to start an instance"

    def run(self) -> Launched:
        """Return the node that serves; raises `ProvisionError`, and then nothing of it is left."""
        try:
            self._check()
            self.instance = self._ask()
            self._tell(f"instance {self.instance} boots")
            report = self._await_report()
            return self._reached(self._await_address(), report)
        except BaseException:
            with suppress(CallFailed):  # whoever closes the pool looks again, and the instance ends itself
                self.clear_away()
            raise

    def clear_away(self) -> None:
        """End whatever this launch has started; raises `CallFailed`."""
        api, wanted = self._site.api, tags.filters(token=self.token)
        if self.instance:
            instances.end(api, [self.instance], fresh=True)
        others = [str(each["InstanceId"]) for each in instances.find(api, wanted)]
        instances.end(api, others)

    def _left(self) -> float:
        return max(0.0, self._deadline - time.monotonic())

    def _pause(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while not self.unwanted and not self._cancelled.wait(min(GLANCE, seconds)) and time.monotonic() < until:
            pass

    # --- asking ------------------------------------------------------------------------------

    def _check(self) -> None:
        if self._cancelled.is_set() or self.unwanted:
            raise ProvisionError("it was not wanted any more")
        if time.monotonic() >= self._deadline:
            where = f"instance {self.instance}: " if self.instance else ""
            raise ProvisionError(
                f"{where}waited start_timeout={self._spec.start_timeout:g} s for {self._waits_for}", self._log()
            )

    def _ask(self) -> str:
        site, spec = self._site, self._spec
        more = {tags.NODE: str(self._index), tags.TOKEN: self.token}
        if spec.persist:
            more[tags.PERSIST] = "yes"
        marks = site.owner.tags(time.time(), **more)
        asking = instances.Asking(site.api, site.journal, self.token)
        attempts = Attempts(site.places)
        try:
            return asking.ask(site.blueprint, attempts, marks, userdata.render(self._boot()), self._check)
        except CallFailed as failure:
            if len(attempts.refusals) > 1:
                said = "; ".join(attempts.refusals)
                raise CallFailed(failure.call, failure.kind, failure.code, f"tried {said}") from failure
            raise

    def _boot(self) -> userdata.Boot:
        site = self._site
        return userdata.Boot(
            bundle_hash=site.bundle.sha256,
            nonce=self._nonce,
            python=site.python,
            port=MESH_PORT,
            boot_minutes=math.ceil(self._spec.start_timeout / 60) + MARGIN,
            life_minutes=math.ceil(site.max_life / 60),
            **self._way(),
        )

    def _way(self) -> dict[str, str]:
        """Return the fields of the user data that say how code and news travel."""
        storage, sealed = self._storage, bool(self._spec.image.env)
        links = {
            "bundle_url": storage.link(self._site.bundle.name),
            "report_put": storage.link_to_write_once(f"{self.token}/report"),
            "log_put": storage.link(f"{self.token}/log", "put_object", LOG_LINK),
        }
        if not sealed:
            return links | {"config": config_of(self._spec).to_json().decode()}
        seal = {"seal_put": storage.link_to_write_once(f"{self.token}/seal")}
        return links | seal | {"seal_get": storage.link(f"{self.token}/sealed")}

    # --- waiting -----------------------------------------------------------------------------

    def _await_report(self) -> reports.Report:
        self._waits_for = "it to boot and to report"
        pause, sealed = QUICKLY, not self._spec.image.env
        looked = shown = time.monotonic()
        while True:
            self._check()
            if (text := self._reported()) is not None:
                return self._believed(reports.parse(text))
            now = time.monotonic()
            if now - looked >= STATE:
                looked = now
                self._look(None)
                self._tell_steps()
            if now - shown >= CONSOLE:
                shown = now
                if text := reports.on_console(instances.console(self._site.api, self.instance), self._nonce):
                    return self._believed(reports.parse(text))
            sealed = sealed or self._seal()
            self._pause(pause)
            pause = min(pause * 1.2, SLOWEST)

    def _reported(self) -> str | None:
        """Return the report of the instance, if it has written one."""
        return self._storage.get(f"{self.token}/report")

    def _tell_steps(self) -> None:
        """Tell what the instance does, as far as it has written its log to S3."""
        lines = (self._storage.get(f"{self.token}/log", MOST_LOG) or "").splitlines()
        for line in lines[self._told :]:
            if (said := bootstrap.understand(line)).kind == "step":
                self._waits_for = said.text
                self._tell(f"instance {self.instance}: {said.text}")
        self._told = max(self._told, len(lines))

    def _look(self, before: dict[str, Any] | None) -> dict[str, Any] | None:
        """Return what EC2 says about the instance; raises `ProvisionError` if it is no more."""
        said = instances.look(self._site.api, self.instance)
        if said is None:
            return before  # not visible yet; the deadline bounds this
        if instances.state_of(said) not in ("pending", "running"):
            # Its report, if there is one, says more than EC2 does.
            text = self._reported()
            report = reports.parse(text) if text else None
            raise self._failure(report) if report and report.failed else self._gone(said)
        return said

    def _gone(self, said: dict[str, Any]) -> SkywardError:
        reason = said.get("StateReason", {})
        code, words = str(reason.get("Code", "")), str(reason.get("Message", ""))
        if (kind := kind_of(code)) in (Kind.CAPACITY, Kind.QUOTA):
            return public(CallFailed("ec2:RunInstances", kind, code, words), where=f"instance {self.instance}")
        state = f"instance {self.instance} is {instances.state_of(said)}"
        return ProvisionError(f"{state} before it served: {words or 'EC2 does not say why'}", self._log())

    def _believed(self, report: reports.Report) -> reports.Report:
        if (report.nonce, report.instance) not in ((self._nonce, self.instance), (self._nonce, "unknown")):
            raise ProvisionError(
                f"what reports for instance {self.instance} is not that instance: nothing was sent to it"
            )
        if report.failed or report.instance != self.instance:
            raise self._failure(report)
        return report

    def _failure(self, report: reports.Report) -> SkywardError:
        return bootstrap.failure(f"instance {self.instance}", report.log, why=report.failed)

    def _seal(self) -> bool:
        """Send the configuration, sealed, if the instance has sent its certificate; return whether it has."""
        storage = self._storage
        text = storage.get(f"{self.token}/seal")
        if text is None:
            return False
        certificate = sealing.certificate_of(text, self._nonce, self.instance)
        line = config_of(self._spec).to_json() + b"\n"
        storage.put(f"{self.token}/sealed", sealing.seal(line, certificate))
        return True

    def _log(self) -> tuple[str, ...]:
        """Return the last lines of what the instance has said so far."""
        if not self.instance:
            return ()
        with suppress(CallFailed):
            if text := self._storage.get(f"{self.token}/log", MOST_LOG):
                return reports.tail(text)
        return reports.tail(instances.console(self._site.api, self.instance))

    # --- reaching ----------------------------------------------------------------------------

    def _await_address(self) -> dict[str, Any]:
        """Return what EC2 says about the instance, once it knows it: while it is pending it has no public address."""
        self._waits_for = "EC2 to say where it is"
        while not ((said := self._look(None)) and instances.state_of(said) == "running"):
            self._pause(QUICKLY)
            self._check()
        return said

    def _reached(self, said: dict[str, Any], report: reports.Report) -> Launched:
        private = str(said.get("PrivateIpAddress", ""))
        address = str(said.get("PublicIpAddress") or private)
        self._waits_for = f"its port tcp://{address}:{report.port} to answer"
        self._knock(address, report.port)
        return Launched(
            ident=self.instance,
            endpoint=f"tcp://{address}:{report.port}",
            public_key=report.public_key,
            address=address,
            private_address=private or address,
        )

    def _knock(self, address: str, port: int) -> None:
        patience = time.monotonic() + KNOCK
        while True:
            self._check()
            try:
                socket.create_connection((address, port), timeout=2.0).close()
            except OSError as error:
                if time.monotonic() > patience:
                    raise ProvisionError(
                        f"instance {self.instance} serves, and cannot be reached at tcp://{address}:{port}: {error}; "
                        "let this machine in by security_group= or allow=, or take a subnet with public addresses"
                    ) from error
                self._pause(QUICKLY)
            else:
                return
