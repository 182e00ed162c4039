"""The pool's security group and the client's address: who may reach the nodes."""

from __future__ import annotations

import ipaddress
import time
from typing import TYPE_CHECKING, Any, Final

from skyward.errors import ConfigError, ProvisionError
from skyward.providers.aws import rules, tags
from skyward.providers.aws.failures import CallFailed, Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from skyward.providers.aws.api import Api
    from skyward.providers.aws.tags import Owner

WHO_AM_I: Final = "checkip.amazonaws.com"  # AWS's own, and what its documents recommend
PATIENCE: Final = 5.0  # seconds for it to answer
INVISIBLE: Final = 60.0  # seconds that what was just made may not be found yet (F48)
LOOK: Final = 1.0  # seconds between looks
LEAVING: Final = 300.0  # seconds that a group may be in use by instances that are gone


def own_address() -> str:
    """Return the address under which this machine is seen on the internet, as a network of one."""
    import http.client

    connection = http.client.HTTPSConnection(WHO_AM_I, timeout=PATIENCE)
    try:
        connection.request("GET", "/")
        said = connection.getresponse().read(64).decode("ascii", "replace").strip()
        return str(ipaddress.ip_network(said))
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise ProvisionError(
            f"cannot find out this machine's address on the internet, which the nodes shall be open to: {WHO_AM_I}: "
            f"{error}; say it: sky.AWS(allow='203.0.113.7/32')"
        ) from error
    finally:
        connection.close()


def make_group(api: Api, owner: Owner, vpc: str, allow: str, ports: Iterable[int] = (rules.MESH_PORT,)) -> str:
    """Return the id of the pool's group, which is made with its rules if it is not there; raises `CallFailed`."""
    group = _find(api, owner) or _create(api, owner, vpc)
    for rule in rules.ingress(group, allow, ports):  # one by one: another client of the mesh has made some
        _authorize(api, group, rule)
    return group


def _create(api: Api, owner: Owner, vpc: str) -> str:
    name = f"skyward-{owner.mesh or owner.pool}"
    marks = tags.specifications(["security-group"], owner.tags(time.time()))
    try:
        made = api.write(
            "ec2", "create_security_group", GroupName=name, Description="nodes of skyward and their client",
            VpcId=vpc, TagSpecifications=marks,
        )  # fmt: skip
    except CallFailed as failure:
        # Made, and the answer was lost; or by another client of the mesh.
        found = _await(api, owner) if failure.kind in (Kind.UNSURE, Kind.EXISTS) else ""
        if not found:
            raise
        return found
    return str(made["GroupId"])


def _find(api: Api, owner: Owner) -> str:
    return next((str(each["GroupId"]) for each in groups(api, tags.filters(pool=owner.pool))), "")


def _await(api: Api, owner: Owner, patience: float = 5.0) -> str:
    deadline = time.monotonic() + patience
    while not (found := _find(api, owner)) and time.monotonic() < deadline:
        time.sleep(LOOK)
    return found


def groups(api: Api, filters: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the groups that fit."""
    return list(api.pages("ec2", "describe_security_groups", "SecurityGroups", Filters=filters))


def _authorize(api: Api, group: str, rule: dict[str, Any]) -> None:
    def authorize() -> None:
        api.write("ec2", "authorize_security_group_ingress", GroupId=group, IpPermissions=[rule])

    _insist(authorize, fine=Kind.EXISTS, again=Kind.ABSENT, patience=INVISIBLE)


def _insist(call: Callable[[], object], *, fine: Kind, again: Kind, patience: float) -> None:
    """Call until it succeeds, or fails in the way that is ``fine``; as long as it fails in the way that passes."""
    deadline = time.monotonic() + patience
    while True:
        try:
            call()
        except CallFailed as failure:
            if failure.kind is fine:
                return
            if failure.kind not in (again, Kind.UNSURE) or time.monotonic() > deadline:
                raise
            if failure.kind is Kind.UNSURE:
                deadline = min(deadline, time.monotonic() + 5 * LOOK)
            time.sleep(LOOK)
        else:
            return


def check_group(api: Api, group: str, port: int, *, world: bool) -> None:
    """Raise unless the user's own group is there, and not open to everyone; `CallFailed`, `ConfigError`."""
    [found] = api.read("ec2", "describe_security_groups", GroupIds=[group])["SecurityGroups"]
    if not world and rules.opens_to_the_world(found.get("IpPermissions", ()), port):
        raise ConfigError(
            f"security group {group} lets the whole world reach port {port}: narrow its rule, or say "
            "sky.AWS(allow='the whole world')"
        )


def remove_group(api: Api, group: str, patience: float = LEAVING) -> None:
    """Remove a group, as soon as nothing uses it any more; raises `CallFailed`. One that is gone is fine."""

    def remove() -> None:
        api.write("ec2", "delete_security_group", GroupId=group)

    _insist(remove, fine=Kind.ABSENT, again=Kind.BUSY, patience=patience)
