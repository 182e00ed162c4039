"""`AWS`: nodes on EC2, as users hold them.

A pool has an id. Everything it makes carries that as a tag: instances with their disks and interfaces, one security
group, and objects in one folder of a bucket. `sweeping` finds all of it by that, with or without this process.

A provider has a `Ground`, which is what all launches need, and a `Fleet`, its instances. Closing goes in this order: no
launch begins, those under way end, all is removed, nobody connects any more.
"""

from __future__ import annotations

import os
import uuid
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, ClassVar, Final

from skyward.errors import ProvisionError, SkywardError
from skyward.providers.aws import (
    alive,
    handover,
    instances,
    planning,
    reports,
    sealing,
    standing,
    sweeping,
    tags,
)
from skyward.providers.aws.alive import SignsOfLife
from skyward.providers.aws.failures import CallFailed, Kind, public
from skyward.providers.aws.fleet import Fleet
from skyward.providers.aws.ground import Ground
from skyward.providers.aws.launching import Launching
from skyward.providers.aws.launching_by_ssh import LaunchingBySsh
from skyward.providers.aws.settings import Settings, subnets
from skyward.providers.aws.storage import MOST_LOG, Storage
from skyward.providers.aws.tags import Owner, check_mesh
from skyward.providers.base import Provider

if TYPE_CHECKING:
    import threading
    from collections.abc import Collection, Generator
    from typing import Self

    from skyward.image import Image
    from skyward.providers.aws.api import Api
    from skyward.providers.aws.settings import Allocation, Architecture
    from skyward.providers.base import Launched, LaunchSpec, Quote
    from skyward.transport.keys import KeyPair

CLEARINGS: Final = 3  # times that everything is removed, until it is gone


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
        self._ground = Ground(settings, self.owner, session)
        self._fleet = Fleet(outlives=bool(mesh))
        self._signs = SignsOfLife(self._say_alive)
        self._guests: set[str] = set()  # pools that are not this one, of which nodes were ended
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
        return standing.sweep(self.settings, self._session, mesh, keep if mesh else (), dry_run=dry_run)

    def undo(self, mesh: str) -> tuple[str, ...]:  # noqa: D102 - as the base says
        return self.sweep(mesh) if self._ground.touched else ()  # a bucket that there is not cannot be looked into

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
        self._ground.image = image

    def prepare(self) -> None:
        """Look up and make what all launches need: the plan, the group, the bundle; raises `ProvisionError`."""
        if not self.settings.bucket:
            handover.require()  # before anything is called, or costs anything
        with self._ground.making, self._publicly():
            self._ground.prepare()
            self._signs.start()

    def _say_alive(self) -> None:
        with suppress(CallFailed, ProvisionError):
            api = self._ground.connect()
            if self._ground.journal is not None:
                self._ground.journal.touch()
            alive.say(api, self.owner, self._ground.own_groups, self._fleet.standing())

    # --- launching ---------------------------------------------------------------------------

    def launch(self, spec: LaunchSpec, index: int, cancelled: threading.Event) -> Launched:
        """Start an instance and return when its node serves; raises `ProvisionError`."""
        with self._publicly(spec.nodes):
            launching = self._begin_launch(spec, index, cancelled)
            try:
                launched = launching.run()
                self._fleet.add(launched.ident, launching.token, persist=spec.persist)
            except BaseException:
                with suppress(CallFailed):
                    launching.clear_away()
                raise
            finally:
                self._fleet.finish(launching)
            return launched

    def _begin_launch(self, spec: LaunchSpec, index: int, cancelled: threading.Event) -> Launching:
        with self._ground.making:
            site = self._ground.site(spec.image)
            self._signs.start()
        kind = Launching if self.settings.bucket else LaunchingBySsh
        launching = kind(site, spec, index, cancelled=cancelled, tell=self.tell)
        self._fleet.begin(launching, persist=spec.persist)
        return launching

    def log_tail(self, launched: Launched) -> tuple[str, ...]:
        """Return the last lines of a node's log, a few seconds old; without a bucket those of its console."""
        with suppress(SkywardError):
            return self.read_log(launched)
        return ()

    def read_log(self, launched: Launched) -> tuple[str, ...]:
        """Return the same; raises `ProvisionError`, `ConfigError` if it is out of reach."""
        with self._publicly():
            api = self._ground.connect()
            token = self._fleet.token(launched.ident) or standing.token_of(api, launched.ident)
            text = Storage(api, self.owner).get(f"{token}/log", MOST_LOG) if token and self.owner.bucket else ""
            return reports.tail(text or instances.read_console(api, launched.ident))

    # --- ending ------------------------------------------------------------------------------

    def terminate(self, launched: Launched) -> None:
        """End an instance, also of another process's launch, and return when nothing can bring it back."""
        if os.getpid() != self._pid or self._ground.is_closed:
            return
        with self._publicly():
            api, ident = self._ground.connect(), launched.ident
            if not self._fleet.token(ident) and (said := instances.look(api, ident)) is not None:
                pool = tags.read(said.get("Tags")).get(tags.POOL)
                if pool and pool != self.owner.pool:
                    self._guests.add(pool)
            instances.end(api, [ident], fresh=self._fleet.is_fresh(ident))
            self._fleet.end(ident)

    def close(self) -> None:
        """End all instances and remove all that was made for them; raises `ProvisionError` that names what is left.

        Nodes that persist, and what they need, stay. In a forked child it does nothing.
        """
        if os.getpid() != self._pid or not self._fleet.close():
            return
        with self._ground.making:
            left = True
            try:
                try:
                    self._signs.stop()  # one that came later could make anew what is removed
                finally:  # also if nobody waits for the last of them
                    self._clear_away()
                left = False
            finally:
                self._ground.close(keep=left)

    def _clear_away(self) -> None:
        if not self._ground.is_connected:
            return
        api = self._ground.connect()
        for tries_left in range(CLEARINGS - 1, -1, -1):
            try:
                self._clear_once(api)
                break
            except CallFailed as failure:  # all of it may be done again
                if not tries_left or failure.kind in (Kind.CREDENTIALS, Kind.ACCESS):
                    left = self._fleet.standing()
                    raise standing.what_is_left(failure, self.owner, left, self._ground.own_groups) from failure

    def _clear_once(self, api: Api) -> None:
        if self._ground.touched:
            instances.end(api, self._fleet.mortal())
            self._clear_pool(api, self.owner.pool, ours=not self._fleet.outlives)
        for pool in sorted(self._guests):
            self._clear_pool(api, pool, ours=False)

    def _clear_pool(self, api: Api, pool: str, *, ours: bool) -> None:
        """Remove all that belongs to a pool; unless it is ``ours``, only if it has no instance any more."""
        buckets = [self.owner.bucket] if pool == self.owner.pool and self.owner.bucket else []
        found = sweeping.belongings(api, tags.filters(pool), buckets, pool=pool).get(pool)
        if found is not None and (ours or not found.instances):
            sweeping.teardown(api, found)

    @contextmanager
    def _publicly(self, wanted: int = 1) -> Generator[None]:
        """Let nothing out but errors of ours."""
        try:
            yield
        except CallFailed as failure:
            raise public(failure, got=len(self._fleet.standing()), wanted=max(wanted, 1)) from failure
