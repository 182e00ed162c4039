"""A cloud of this machine's own: moto's server, and machines behind its instances.

    python -m tests.aws.cloud DIRECTORY MODE [CACHE]

MODE is ``machines`` (each instance is a `Machine`) or ``agents`` (each is an `Agent`). It says on stdout where it
serves, and ends with stdin. What moto does otherwise than EC2 is put right here: an instance shuts down for a moment
before it is gone, a group that is in use cannot be deleted, a console shows what the instance writes there.
"""

from __future__ import annotations

import base64
import os
import random
import shutil
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from moto.core.responses import ActionResult
from moto.core.types import Base64EncodedString
from moto.core.utils import utcnow
from moto.ec2.exceptions import DependencyViolationError
from moto.ec2.models import ec2_backends
from moto.ec2.models.instances import Instance, InstanceState
from moto.ec2.models.security_groups import SecurityGroupBackend
from moto.ec2.responses.general import General
from moto.server import ThreadedMotoServer

from tests.aws.cloud.agents import Agent, answering_port
from tests.aws.cloud.machine import Machine

LOOK = 0.03  # seconds between looks at what moto has
ACCOUNT = "123456789012"


class Cloud:
    """Keeps machines and moto's instances alike."""

    def __init__(self, directory: Path, mode: str, cache: str) -> None:
        self._directory = directory
        self._mode = mode
        self._cache = cache
        self._machines: dict[str, Machine | Agent] = {}
        self._network = f"10.{random.randrange(64, 250)}.{random.randrange(256)}"
        self._free = list(range(0, 248, 4))
        self._addresses: dict[str, int] = {}
        self._door = answering_port()
        self._looking = threading.Lock()
        self.server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        self.server.start()
        _, self.port = self.server.get_host_and_port()

    def run(self) -> None:
        """Look after all instances, for ever."""
        while True:
            with self._looking:
                for region in list(ec2_backends[ACCOUNT]):
                    for instance in list(ec2_backends[ACCOUNT][region].all_instances()):
                        with suppress(KeyError):
                            self._look_after(instance)
            time.sleep(LOOK)

    def forget(self) -> None:
        """Forget what is terminated: looking for hundreds of instances that are no more takes most of a long test."""
        with self._looking:
            for backend in ec2_backends[ACCOUNT].values():
                for name, reservation in list(backend.reservations.items()):
                    if all(each._state.name == "terminated" for each in reservation.instances):
                        del backend.reservations[name]
                        for each in reservation.instances:
                            self._machines.pop(each.id, None)

    def _look_after(self, instance: Any) -> None:
        machine = self._machines.get(instance.id)
        state = instance._state.name
        if machine is None and state in ("pending", "running"):
            self._start(instance)
        elif state == "shutting-down":
            self._stop(instance)
        elif isinstance(machine, Machine) and machine.is_off() and state in ("pending", "running"):
            instance.terminate()
            instance._reason = instance.state_reason.code = "Client.InstanceInitiatedShutdown"
            instance.state_reason.message = "Client.InstanceInitiatedShutdown: Instance initiated shutdown"

    def _start(self, instance: Any) -> None:
        user_data = base64.b64decode(str(instance.user_data)) if instance.user_data else b""
        if self._mode == "agents":
            _place(instance, "127.0.0.1")
            self._machines[instance.id] = Agent(instance.id, user_data.decode(), self._door.getsockname()[1])
            return
        block = self._free.pop(0)
        self._addresses[instance.id] = block
        own, gateway = f"{self._network}.{block + 2}", f"{self._network}.{block + 1}"
        _place(instance, own)
        box = self._directory / instance.id
        self._machines[instance.id] = Machine(box, user_data, own, gateway, self.port, self._cache)

    def _stop(self, instance: Any) -> None:
        machine = self._machines.get(instance.id)
        if isinstance(machine, Machine):
            machine.stop()
            if (block := self._addresses.pop(instance.id, None)) is not None:
                self._free.append(block)
        instance._state = InstanceState("terminated", 48)

    def close(self) -> None:
        """End all machines."""
        for machine in self._machines.values():
            if isinstance(machine, Machine):
                machine.stop()

    def console(self, instance: str) -> str:
        """Return what an instance has written on its console."""
        path = self._directory / instance / "console"
        return path.read_text(errors="replace") if path.exists() else ""


def _place(instance: Any, address: str) -> None:
    for interface in instance.nics.values():
        interface.private_ip_address = interface.private_ip_addresses[0]["PrivateIpAddress"] = address
        interface.public_ip = address
        if "Association" in interface.private_ip_addresses[0]:
            interface.private_ip_addresses[0]["Association"]["PublicIp"] = address


def put_right(cloud: Cloud) -> None:
    """Let moto do what EC2 does."""
    original = Instance.terminate
    delete = SecurityGroupBackend.delete_security_group

    def terminate(self: Any, *args: Any, **kwargs: Any) -> Any:
        if self._state.name in ("terminated", "shutting-down"):
            return self._state
        answer = original(self, *args, **kwargs)
        self._state = InstanceState("shutting-down", 32)
        return answer

    def delete_security_group(self: Any, name: Any = None, group_id: Any = None) -> Any:
        for instance in self.all_instances():
            groups = {group.id for nic in instance.nics.values() for group in nic.group_set}
            if instance._state.name != "terminated" and group_id in groups:
                raise DependencyViolationError(f"resource {group_id} has a dependent object")
        return delete(self, name, group_id)

    def get_console_output(self: Any) -> ActionResult:
        name = self.ec2_backend.get_instance(self._get_param("InstanceId")).id
        text = Base64EncodedString.from_raw_string(cloud.console(name))
        return ActionResult({"InstanceId": name, "Timestamp": utcnow(), "Output": text})

    Instance.terminate = terminate  # type: ignore[method-assign]  # that is the point
    SecurityGroupBackend.delete_security_group = delete_security_group  # type: ignore[method-assign]  # the same
    General.get_console_output = get_console_output  # type: ignore[method-assign]  # the same


def main() -> None:
    """Serve until stdin ends."""
    directory, mode, cache = Path(sys.argv[1]), sys.argv[2], (sys.argv[3] if len(sys.argv) > 3 else "")
    cloud = Cloud(directory, mode, cache)
    put_right(cloud)
    threading.Thread(target=cloud.run, daemon=True).start()
    print(cloud.port, flush=True)
    try:
        for _ in sys.stdin:  # one word is understood
            cloud.forget()
            print("forgotten", flush=True)
    finally:
        cloud.close()
        shutil.rmtree(directory, ignore_errors=True)
        os._exit(0)


if __name__ == "__main__":
    main()
