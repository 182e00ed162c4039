"""What commands want of EC2 that look after meshes: a provider made anew elsewhere, a price, and teardown by tags."""

from __future__ import annotations

import json
from dataclasses import fields
from math import nan
from typing import TYPE_CHECKING, Any

from skyward.errors import ProvisionError
from skyward.providers.aws import failures, garbage, instances, planning, sweeping, tags
from skyward.providers.aws.api import Api, new_session, region_of
from skyward.providers.aws.failures import CallFailed
from skyward.providers.aws.journal import forget, left_behind
from skyward.providers.aws.settings import Settings
from skyward.providers.base import Quote

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from skyward.errors import SkywardError
    from skyward.providers.aws.tags import Owner


def recipe(settings: Settings, session: Any) -> dict[str, Any]:
    """Return the arguments of `AWS` that are not the default, and the region, wherever that came from."""
    usual = Settings()
    said = {each.name: getattr(settings, each.name) for each in fields(Settings)}
    kept = {name: value for name, value in said.items() if value != getattr(usual, name)}
    if "subnet" in kept:
        kept["subnet"] = list(kept["subnet"])
    return kept | {"region": region_of(new_session(session), settings.region)}


def quote(settings: Settings, session: Any, count: int) -> Quote:
    """Return what ``count`` instances are, and cost on demand as far as that can be learnt; raises `CallFailed`."""
    session = new_session(session)
    api = Api(session, region_of(session, settings.region))
    try:
        kind = planning.find_machine(api, settings).name
        hourly = price(api, kind)
    finally:
        api.close()
    how = "" if settings.allocation == "on-demand" else f", {settings.allocation} (the price is that of on demand)"
    return Quote(f"{count} × {kind} in {api.region}{how}", count * hourly)


def price(api: Api, kind: str) -> float:
    """Return the US dollars that an instance costs an hour on demand; nan if that cannot be learnt."""
    wanted = {
        "instanceType": kind, "regionCode": api.region, "operatingSystem": "Linux", "tenancy": "Shared",
        "preInstalledSw": "NA", "capacitystatus": "Used",
    }  # fmt: skip
    filters = [{"Type": "TERM_MATCH", "Field": name, "Value": value} for name, value in wanted.items()]
    try:
        return read_price(api.prices(filters))
    except (CallFailed, KeyError, TypeError, ValueError):  # a price is a courtesy, and stops nothing
        return nan


def read_price(products: Iterable[str]) -> float:
    """Return the hourly price in what the price list says of an instance; nan if there is none."""
    for product in products:
        for term in json.loads(product)["terms"].get("OnDemand", {}).values():
            for dimension in term["priceDimensions"].values():
                if dimension["unit"] == "Hrs" and (dollars := float(dimension["pricePerUnit"]["USD"])):
                    return dollars
    return nan


def remembered() -> list[dict[str, Any]]:
    """Return the arguments of `AWS` to look with for what clients of this machine have left that were killed."""
    found = [{"region": left.region, **({"bucket": left.bucket} if left.bucket else {})} for left in left_behind()]
    return [each for index, each in enumerate(found) if each not in found[:index]]


def what_is_left(failure: CallFailed, owner: Owner, nodes: Iterable[str], groups: Iterable[str]) -> SkywardError:
    """Return the error of a client that could not clear up."""
    left = [f"instance {name}" for name in nodes] + [f"security group {name}" for name in groups]
    left += [f"objects in s3://{owner.bucket}/{owner.folder}"] if owner.bucket else []
    return failures.public(
        failure,
        where=f"perhaps left: {', '.join(left)}; instances without a client end themselves, and `skyward-mesh gc` "
        "removes the rest",
    )


def token_of(api: Api, instance: str) -> str:
    """Return the token by which an instance was asked for; "" if it has none, or there is no such instance."""
    said = instances.look(api, instance)
    return "" if said is None else tags.read(said.get("Tags")).get(tags.TOKEN, "")


def sweep(settings: Settings, session: Any, mesh: str, keep: Collection[str] = (), *, dry_run: bool) -> tuple[str, ...]:
    """Remove what belongs to a mesh, or without a name to nobody; raises `ProvisionError` if something stays.

    ``keep``: instances of the mesh that stay, with all else that they need.
    """
    session = new_session(session)
    if keep:
        return sweeping.end_others(session, region=settings.region, mesh=mesh, keep=keep, dry_run=dry_run)
    region, bucket = region_of(session, settings.region), settings.bucket or ""
    theirs = [left for left in left_behind() if left.region == region and left.bucket in ("", bucket)]
    gone = [left.pool for left in theirs if left.gone]
    swept = sweeping.sweep(session, region=region, mesh=mesh, bucket=bucket, gone=gone, dry_run=dry_run)
    if swept.left:
        raise ProvisionError(f"not everything could be removed: {'; '.join(swept.left)}; do it again in a minute")
    for left in theirs if not dry_run else ():
        if left.pool == f"mesh-{mesh}" if mesh else left.gone or left.silent > garbage.IDLE:
            forget(left)
    return swept.removed
