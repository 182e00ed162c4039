"""`AWS`: nodes on EC2, as users hold them.

A pool has an id. Everything it makes carries that as a tag: instances with their disks and interfaces, one security
group, and objects in one folder of a bucket. `sweeping` finds all of it by that, with or without this process.
"""

from __future__ import annotations

import os
import platform
import threading
import time
import uuid
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, ClassVar, Final

from skyward.errors import ProvisionError
from skyward.image import Image
from skyward.providers.aws import (
    garbage,
    handover,
    instances,
    network,
    planning,
    reports,
    sealing,
    standing,
    sweeping,
    tags,
)
from skyward.providers.aws.api import Api, new_session, region_of
from skyward.providers.aws.attempts import places
from skyward.providers.aws.failures import CallFailed, Kind, public
from skyward.providers.aws.journal import Journal
from skyward.providers.aws.launching import Launching, Site
from skyward.providers.aws.launching_by_ssh import LaunchingBySsh
from skyward.providers.aws.requests import Blueprint
from skyward.providers.aws.rules import MESH_PORT
from skyward.providers.aws.settings import EVERYONE, Settings, subnets
from skyward.providers.aws.storage import MOST_LOG, Storage
from skyward.providers.aws.tags import Owner, check_mesh
from skyward.providers.base import Provider

if TYPE_CHECKING:
    from collections.abc import Collection, Generator
    from typing import Self

    from skyward.providers.aws.planning import Plan
    from skyward.providers.aws.settings import Allocation, Architecture
    from skyward.providers.base import Launched, LaunchSpec, Quote
    from skyward.providers.bundle import Bundle
    from skyward.transport.keys import KeyPair

CLEARINGS: Final = 3  # times that everything is removed, until it is gone
FRESH: Final = 60.0  # seconds after its launch in which EC2 may not know an instance


class AWS(Provider):
    """Nodes on EC2: ``sky.Compute(sky.AWS(region="eu-central-1", bucket="my-bucket"), nodes=4)``.

    ``region``, credentials and profile come from where every AWS tool has them, unless a ``session`` (of boto3) is
    given. The machine is an ``instance_type`` (default ``m6i.large``), or the smallest with ``vcpus``, ``memory_gb``
    and ``accelerator`` (``"T4"``, ``"T4:4"``), of an ``architecture``, ``"x86_64"`` or ``"arm64"``. ``allocation`` is
    ``"on-demand"`` (default), ``"spot"``, or ``"spot-if-available"``.

    ``bucket`` is where code travels, over links that expire; without one it goes by SSH. ``ami`` is an image, or the
    name of a public SSM parameter (default: Amazon Linux 2023; Ubuntu 24.04 if the pool's image has Debian packages).
    ``subnet`` is one or several (default: those of the default network). ``security_group`` is an existing group
    (default: one of the pool's own, open to its nodes and to ``allow``). ``allow`` is a network (default: this
    machine's address alone). ``disk_gb`` is the size of the disk. ``max_life`` are the seconds without a client after
    which a machine ends itself, whatever else fails.
    """

    name: ClassVar[str] = "aws"
    start_timeout: ClassVar[float] = 300.0  # a machine boots, and is set up
    log_pause: ClassVar[float] = 5.0  # each look is two calls

    def __init__(
        self,
        region: str | None = None,
        *,
        instance_type: str | None = None,
        vcpus: int | None = None,
        memory_gb: float | None = None,
        accelerator: str | None = None,
        architecture: Architecture | None = None,
        allocation: Allocation = "on-demand",
        ami: str | None = None,
        subnet: str | list[str] | tuple[str, ...] | None = None,
        security_group: str | None = None,
        bucket: str | None = None,
        allow: str | None = None,
        disk_gb: int = 20,
        max_life: float = 86_400.0,
        session: Any = None,
    ) -> None:
        """Check the arguments; nothing is called yet. Raises `ConfigError`."""
        settings = Settings(
            region=region, instance_type=instance_type, vcpus=vcpus, memory_gb=memory_gb, accelerator=accelerator,
            architecture=architecture, allocation=allocation, ami=ami, subnet=subnets(subnet),
            security_group=security_group, bucket=bucket, allow=allow, disk_gb=disk_gb, max_life=max_life,
        )  # fmt: skip
        self._begin(settings, session, "")

    def _begin(self, settings: Settings, session: Any, mesh: str) -> None:
        self.settings = settings
        self._session = session
        pool = f"mesh-{mesh}" if mesh else uuid.uuid4().hex[:12]
        self.owner = Owner(pool=pool, mesh=mesh, bucket=settings.bucket or "")
        self._lock = threading.Condition()  # of all that follows; notified when a launch is over
        self._making = threading.Lock()  # held by the thread that connects, or makes what launches need
        self._api: Api | None = None
        self._journal: Journal | None = None
        self._plan: Plan | None = None
        self._groups: tuple[str, ...] = ()
        self._bundles: dict[Image, Bundle] = {}  # by what is in it
        self._image = Image()
        self._root = ""
        self._launches: set[Launching] = set()
        self._nodes: dict[str, tuple[str, float]] = {}  # token, and when it was launched, by instance
        self._mortal: set[str] = set()  # instances that end with this provider
        self._ended: set[str] = set()
        self._guests: set[str] = set()  # pools that are not this one, of which nodes were ended
        self._persists = bool(mesh)  # what is not this pool's alone, or outlives it, is removed with its last instance
        self._stop = threading.Event()
        self._beat: threading.Thread | None = None
        self._touched = False  # something was made, or may have been
        self._closing = False
        self._closed = False
        self._pid = os.getpid()

    def _like_this(self, mesh: str) -> Self:
        made = object.__new__(type(self))
        made._begin(self.settings, self._session, mesh)
        return made

    def __repr__(self) -> str:
        return f"sky.AWS({', '.join(f'{name}={value!r}' for name, value in self.settings.said().items())})"

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle and copy the settings alone."""
        return self.settings.maker(type(self), self._session), ()

    def for_pool(self) -> Self:
        """Return an unused provider with the same settings."""
        return self._like_this(self.owner.mesh)

    def for_mesh(self, mesh: str) -> Self:
        """Return an unused provider whose nodes carry the name of a mesh, and share its group; raises `ConfigError`."""
        return self._like_this(check_mesh(mesh))

    def recipe(self) -> dict[str, Any]:
        """Return the settings with the region, which may have come from this process's environment."""
        return standing.recipe(self.settings, self._session)

    def quote(self, spec: LaunchSpec, count: int) -> Quote:
        """Return which instances these would be, and what they cost on demand."""
        with self._publicly(count):
            return standing.quote(self.settings, self._session, count)

    @classmethod
    def remembered(cls) -> list[dict[str, Any]]:
        """Return the regions and buckets of pools of this machine whose clients are not seen to live."""
        return standing.remembered()

    def sweep(self, mesh: str = "", *, keep: Collection[str] = (), dry_run: bool = False) -> tuple[str, ...]:
        """Remove what belongs to a mesh, or to pools whose clients are dead: never to meshes that were not named."""
        return standing.sweep(self.settings, self._session, mesh, dry_run=dry_run)

    def undo(self, mesh: str) -> tuple[str, ...]:  # noqa: D102 - as the base says
        return self.sweep(mesh) if self._touched else ()  # a bucket that there is not cannot be looked into

    def keys(self) -> KeyPair | None:
        """Return a pair of its own for every pool, which is never written anywhere."""
        from skyward.transport.keys import make_pair

        return make_pair()

    def accept(self, image: Image) -> None:
        """Raise unless nodes can have what the image describes: its files are here, its Python is the client's."""
        from skyward.providers import bundle

        bundle.check(image, planning.platform("x86_64"))
        list(image.files(os.getcwd()))
        if image.env and self.settings.bucket:  # else they go by SSH
            sealing.require()
        self._image = image

    # --- before the first launch -------------------------------------------------------------

    def prepare(self) -> None:
        """Look up and make what all launches need: the plan, the group, the bundle; raises `ProvisionError`."""
        if not self.settings.bucket:
            handover.require()  # before anything is called, or costs anything
        with self._making, self._publicly():
            self._prepare()

    def _connect(self) -> Api:
        with self._lock:
            if self._closed:
                raise ProvisionError("this provider was closed with its pool; make another one")
            if self._api is None:
                session = new_session(self._session)
                self._api = Api(session, region_of(session, self.settings.region))
            return self._api

    def _prepare(self) -> Plan:
        api = self._connect()
        if self._plan is not None:
            return self._plan
        settings = self.settings
        if settings.bucket:
            Storage(api, self.owner).check()
        plan = planning.look_up(api, settings, self._image)
        self._root = self._root or os.getcwd()
        if self._journal is None:  # before anything is made
            self._journal = Journal(self.owner.pool, api.region, self.owner.bucket)
        if settings.security_group is not None:
            world = settings.allow == EVERYONE
            network.check_group(api, settings.security_group, MESH_PORT, world=world)
            self._groups = (settings.security_group,)
        else:
            allow = settings.allow or network.own_address()
            self._touched = True
            ports = (MESH_PORT,) if settings.bucket else (MESH_PORT, handover.PORT)
            self._groups = (network.make_group(api, self.owner, plan.vpc, allow, ports),)
        self._touched = True
        self._bundle(api, plan, self._image)
        self._plan = plan
        self._beat = threading.Thread(target=self._show_life, name="skyward-aws-alive", daemon=True)
        self._beat.start()
        return plan

    def _bundle(self, api: Api, plan: Plan, image: Image) -> Bundle:
        if image not in self._bundles:
            from skyward.providers import bundle

            made = bundle.make_bundle(image, root=self._root, platform=planning.platform(plan.architecture))
            if self.settings.bucket:
                Storage(api, self.owner).put(made.name, made.data)
            self._bundles[image] = made
        return self._bundles[image]

    def _show_life(self) -> None:
        """Say now and then that this client lives, where `garbage` looks for it."""
        while not self._stop.wait(garbage.BEAT):
            with suppress(CallFailed, ProvisionError):
                self._say_alive(self._connect())

    def _say_alive(self, api: Api) -> None:
        if self._journal is not None:
            self._journal.touch()
        group = self._groups if self.settings.security_group is None else ()
        standing.say_alive(api, self.owner, group, sorted(self._nodes.keys() - self._ended))

    # --- launching ---------------------------------------------------------------------------

    def launch(self, spec: LaunchSpec, index: int, cancelled: threading.Event) -> Launched:
        """Start an instance and return when its node serves; raises `ProvisionError`."""
        with self._publicly(spec.nodes):
            launching = self._begin_launch(spec, index, cancelled)
            try:
                launched = launching.run()
                with self._lock:
                    self._nodes[launched.ident] = launching.token, time.monotonic()
                    if not spec.persist:
                        self._mortal.add(launched.ident)
                    if self._closing:
                        raise ProvisionError("its pool was closed")
            except BaseException:
                with suppress(CallFailed):
                    launching.clear_away()
                raise
            finally:
                with self._lock:
                    self._launches.discard(launching)
                    self._lock.notify_all()
            return launched

    def _begin_launch(self, spec: LaunchSpec, index: int, cancelled: threading.Event) -> Launching:
        with self._making:
            plan, api = self._prepare(), self._connect()
            bundle = self._bundle(api, plan, spec.image)
        assert self._journal is not None
        site = Site(
            api=api, owner=self.owner, journal=self._journal,
            blueprint=Blueprint(
                image=plan.image, instance_type=plan.machine.name, root_device=plan.root_device,
                disk_gb=plan.disk_gb, groups=self._groups,
            ),
            places=places(plan.subnets, self.settings.allocation), bundle=bundle,
            python=".".join(platform.python_version_tuple()[:2]), max_life=self.settings.max_life,
        )  # fmt: skip
        kind = Launching if self.settings.bucket else LaunchingBySsh
        launching = kind(site, spec, index, cancelled=cancelled, tell=self.tell)
        with self._lock:
            if self._closing:
                raise ProvisionError("this provider was closed with its pool; make another one")
            self._persists = self._persists or spec.persist
            self._launches.add(launching)
        return launching

    def log_tail(self, launched: Launched) -> tuple[str, ...]:
        """Return the last lines of a node's log, a few seconds old; without a bucket those of its console."""
        token, _ = self._nodes.get(launched.ident, ("", 0.0))
        if self._closed:
            return ()
        with suppress(CallFailed, ProvisionError):
            api = self._connect()
            token = token or standing.token_of(api, launched.ident)
            text = Storage(api, self.owner).get(f"{token}/log", MOST_LOG) if token and self.owner.bucket else ""
            return reports.tail(text or instances.console(api, launched.ident))
        return ()

    # --- ending ------------------------------------------------------------------------------

    def terminate(self, launched: Launched) -> None:
        """End an instance, also of another process's launch, and return when nothing can bring it back."""
        if os.getpid() != self._pid or self._closed:
            return
        with self._publicly():
            api = self._connect()
            token, since = self._nodes.get(launched.ident, ("", 0.0))
            if not token and (said := instances.look(api, launched.ident)) is not None:
                pool = tags.read(said.get("Tags")).get(tags.POOL)
                if pool and pool != self.owner.pool:
                    self._guests.add(pool)
            fresh = bool(token) and time.monotonic() - since < FRESH
            instances.end(api, [launched.ident], fresh=fresh)
            self._ended.add(launched.ident)

    def close(self) -> None:
        """End all instances and remove all that was made for them; raises `ProvisionError` that names what is left.

        Nodes that persist, and what they need, stay. In a forked child it does nothing.
        """
        if os.getpid() != self._pid:
            return
        with self._lock:
            if self._closing:
                return
            self._closing = True
            for launching in self._launches:
                launching.unwanted = True
            self._lock.wait_for(lambda: not self._launches)
        self._stop.set()
        with self._making:
            left = True
            try:
                self._clear_away()
                left = False
            finally:
                with self._lock:
                    self._closed = True
                if self._beat is not None:
                    self._beat.join()
                if self._api is not None:
                    self._api.close()
                if self._journal is not None:
                    self._journal.close(keep=left)

    def _clear_away(self) -> None:
        api = self._api
        if api is None:
            return
        for tries_left in range(CLEARINGS - 1, -1, -1):
            try:
                self._clear_once(api)
                break
            except CallFailed as failure:  # all of it may be done again
                if not tries_left or failure.kind in (Kind.CREDENTIALS, Kind.ACCESS):
                    raise self._what_is_left(failure) from failure

    def _clear_once(self, api: Api) -> None:
        if self._touched:
            instances.end(api, self._mortal - self._ended)
            self._clear_pool(api, self.owner.pool, ours=not self._persists)
        for pool in sorted(self._guests):
            self._clear_pool(api, pool, ours=False)

    def _clear_pool(self, api: Api, pool: str, *, ours: bool) -> None:
        """Remove all that belongs to a pool; unless it is ``ours``, only if it has no instance any more."""
        buckets = [self.owner.bucket] if pool == self.owner.pool and self.owner.bucket else []
        found = sweeping.belongings(api, tags.filters(pool), buckets, pool=pool).get(pool)
        if found is not None and (ours or not found.instances):
            sweeping.teardown(api, found)

    def _what_is_left(self, failure: CallFailed) -> Exception:
        groups = self._groups if self.settings.security_group is None else ()
        left = [name for name in self._nodes if name not in self._ended]
        return standing.what_is_left(failure, self.owner, left, groups)

    @contextmanager
    def _publicly(self, wanted: int = 1) -> Generator[None]:
        """Let nothing out but errors of ours."""
        try:
            yield
        except CallFailed as failure:
            raise public(failure, got=len(self._nodes.keys() - self._ended), wanted=max(wanted, 1)) from failure
