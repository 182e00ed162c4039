"""What all launches of one provider need, made before the first: a connection, the plan, a group, the code.

It is made once, by the thread that holds `Ground.making`, which may take a minute, and everything that was made has
the owner's tags or lies in its folder. After `Ground.close` nobody gets a connection.
"""

from __future__ import annotations

import os
import platform
import threading
from typing import TYPE_CHECKING, Any

from skyward.errors import ProvisionError
from skyward.image import Image
from skyward.providers.aws import handover, network, planning
from skyward.providers.aws.api import Api, new_session, region_of
from skyward.providers.aws.attempts import places
from skyward.providers.aws.journal import Journal
from skyward.providers.aws.launching import Site
from skyward.providers.aws.requests import Blueprint
from skyward.providers.aws.rules import MESH_PORT
from skyward.providers.aws.settings import EVERYONE
from skyward.providers.aws.storage import Storage

if TYPE_CHECKING:
    from skyward.providers.aws.planning import Plan
    from skyward.providers.aws.settings import Settings
    from skyward.providers.aws.tags import Owner
    from skyward.providers.bundle import Bundle


class Ground:
    """What launches need. Whoever has anything made or removed holds ``making``; `connect` is for any thread."""

    def __init__(self, settings: Settings, owner: Owner, session: Any) -> None:
        """Call nothing yet."""
        self.making = threading.Lock()
        self.image = Image()  # of the pool; a launch may have another
        self.touched = False  # something was made, or may have been
        self.groups: tuple[str, ...] = ()
        self.journal: Journal | None = None  # from just before anything is made
        self._settings = settings
        self._owner = owner
        self._session = session
        self._connecting = threading.Lock()  # of the two that follow
        self._api: Api | None = None
        self.is_closed = False
        self._plan: Plan | None = None
        self._root = ""
        self._bundles: dict[Image, Bundle] = {}  # by what is in it

    @property
    def is_connected(self) -> bool:
        """Whether anything of EC2 was, or could have been, called."""
        return self._api is not None

    @property
    def own_groups(self) -> tuple[str, ...]:
        """The groups that were made here, and go with the provider."""
        return self.groups if self._settings.security_group is None else ()

    def connect(self) -> Api:
        """Return the connection; raises `ProvisionError` once this is closed."""
        with self._connecting:
            if self.is_closed:
                raise ProvisionError("this provider was closed with its pool; make another one")
            if self._api is None:
                session = new_session(self._session)
                self._api = Api(session, region_of(session, self._settings.region))
            return self._api

    def prepare(self) -> Plan:
        """Look up and make what is not there yet; raises `ProvisionError`, `CallFailed`."""
        api = self.connect()
        if self._plan is not None:
            return self._plan
        if self._settings.bucket:
            Storage(api, self._owner).check()
        plan = planning.look_up(api, self._settings, self.image)
        self._root = self._root or os.getcwd()
        if self.journal is None:
            self.journal = Journal(self._owner.pool, api.region, self._owner.bucket)
        self.groups = self._find_groups(api, plan)
        self.touched = True
        self._bundle(api, plan, self.image)
        self._plan = plan
        return plan

    def site(self, image: Image) -> Site:
        """Return what a launch with this image uses; raises as `prepare` does."""
        plan, api = self.prepare(), self.connect()
        assert self.journal is not None
        return Site(
            api=api, owner=self._owner, journal=self.journal,
            blueprint=Blueprint(
                image=plan.image, instance_type=plan.machine.name, root_device=plan.root_device,
                disk_gb=plan.disk_gb, groups=self.groups,
            ),
            places=places(plan.subnets, self._settings.allocation), bundle=self._bundle(api, plan, image),
            python=".".join(platform.python_version_tuple()[:2]), max_life=self._settings.max_life,
        )  # fmt: skip

    def _find_groups(self, api: Api, plan: Plan) -> tuple[str, ...]:
        settings = self._settings
        if settings.security_group is not None:
            network.check_group(api, settings.security_group, MESH_PORT, world=settings.allow == EVERYONE)
            return (settings.security_group,)
        allow = settings.allow or network.own_address()
        self.touched = True  # a call that fails may have made it
        ports = (MESH_PORT,) if settings.bucket else (MESH_PORT, handover.PORT)
        return (network.make_group(api, self._owner, plan.vpc, allow, ports),)

    def _bundle(self, api: Api, plan: Plan, image: Image) -> Bundle:
        if image not in self._bundles:
            from skyward.providers import bundle

            made = bundle.make_bundle(image, root=self._root, platform=planning.platform(plan.architecture))
            if self._settings.bucket:
                Storage(api, self._owner).put(made.name, made.data)
            self._bundles[image] = made
        return self._bundles[image]

    def close(self, *, keep: bool) -> None:
        """End the connection, and the journal with it unless something is left that it has to tell of (``keep``).

        What was made here has to be removed before.
        """
        with self._connecting:
            self.is_closed = True
        if self._api is not None:
            self._api.close()
        if self.journal is not None:
            self.journal.close(keep=keep)
