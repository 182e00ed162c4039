"""Bringing meshes up, growing and shrinking them, ending them: nodes that come and go, and a file that always knows.

The file of a mesh is there before its first node, and after its last. Whatever goes wrong on the way, an interrupt
included, everything that was started is ended again; if the process is killed instead, the file says so, and the marks
of the nodes name the mesh: `down` and `gc` need no more.
"""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from skyward.config import merge_options
from skyward.errors import ConfigError, MeshExistsError, ProvisionError, SkywardError
from skyward.image import Image
from skyward.meshes import asking, described, files, kinds
from skyward.meshes.admitted import for_new_nodes
from skyward.meshes.attached import client_pair
from skyward.meshes.files import Mesh
from skyward.meshes.launches import GLANCE, Launches
from skyward.meshes.telling import Anyway, Teller
from skyward.model import Nodes
from skyward.providers.base import LaunchSpec, Quote
from skyward.transport.signals import Guard

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from skyward.meshes.described import Description
    from skyward.providers.base import Launched, Provider

LOG_LEVEL: Final = "info"  # of the nodes of a mesh: people read what they log


@dataclass(frozen=True, slots=True)
class Plan:
    """A mesh that could be brought up."""

    description: Description
    provider: Provider
    spec: LaunchSpec
    count: int
    quote: Quote


def plan(description: Description) -> Plan:
    """Return what `up` would do, which starts nothing; raises `ConfigError`, `ProvisionError`."""
    described.check_name(description.name)
    if description.kind == files.NOBODYS:
        raise ConfigError(f"mesh {description.name!r}: nodes of sky.Static run already; there is nothing to bring up")
    provider = description.provider().for_mesh(description.name)
    nodes = description.nodes or provider.default_nodes()
    if nodes is None:
        raise ConfigError(f"mesh {description.name!r}: say how many nodes it has (nodes = …, or --nodes)")
    provider.check_nodes(nodes)
    provider.accept(description.image)
    spec = _spec(description, provider, nodes.desired)
    return Plan(description, provider, spec, nodes.desired, provider.quote(spec, nodes.desired))


def _spec(description: Description, provider: Provider, count: int) -> LaunchSpec:
    options = merge_options(None, description.options)
    public = client_pair().public
    spec = LaunchSpec.of(options, count, provider=provider, image=description.image, client_key=public)
    return replace(spec, persist=True, mesh=description.name, log_level=LOG_LEVEL)


# --- up ------------------------------------------------------------------------------------------


def up(wanted: Plan, teller: Teller | None = None) -> Mesh:
    """Bring a mesh up and return it; raises `MeshExistsError`, `ProvisionError`, and then nothing is left of it."""
    said, provider, spec = wanted.description, wanted.provider, wanted.spec
    settings = provider.recipe()
    mesh = Mesh(
        name=said.name,
        kind=said.kind,
        settings=said.settings if settings is None else settings,
        state="starting",
        wanted=wanted.count,
        concurrency=spec.concurrency,
        executor=spec.executor,
        options=said.options,
        image=_noted(said.image),
        described=said.place,
        created=time.time(),
    )
    with files.locked(said.name):
        files.claim(mesh)
        grown = _grow(provider, spec, mesh, wanted.count, teller or Teller())
        grown = replace(grown, state="up")
        files.write(grown)
        return grown


def _grow(provider: Provider, spec: LaunchSpec, mesh: Mesh, count: int, teller: Teller) -> Mesh:
    """Return the mesh with so many more nodes; if that fails it is as before, or gone if it had none."""
    launches = Launches(provider, spec, mesh, teller)
    try:
        provider.listener = teller.say
        provider.adopt(mesh.nodes)
        provider.prepare()
        grown = launches.run(count)
        _prove(grown, teller)
        return grown
    except BaseException as error:
        with Guard(lambda: None):  # an interrupt waits until nothing is left
            anyway = Anyway(teller)
            provider.listener = anyway.say
            anyway.alert(f"{_brief(error)}: ending what was started{launches.left(mesh)}")
            launches.give_up(anyway)
            _take_back(provider, mesh, launches.mesh, anyway, error)
        raise
    finally:
        with Guard(lambda: None):
            provider.close()


def _brief(error: BaseException) -> str:
    return "interrupted" if isinstance(error, KeyboardInterrupt) else "it went wrong"


def _take_back(provider: Provider, before: Mesh, now: Mesh, teller: Teller, error: BaseException) -> None:
    """End the nodes that have come; raises `ProvisionError`, which begins with the error, if something may be left."""
    old = {node.ident for node in before.nodes}
    new = [node for node in now.nodes if node.ident not in old]
    if before.nodes:
        left = _end(provider, now, new, teller)
        files.write(replace(left, state="up"))
        return
    now = replace(now, state="ending")
    if problems := _end_all(provider, now, teller, provider.undo):  # launches may have failed half-way
        first = str(error) or _brief(error)
        raise ProvisionError(f"{first}\nand something of mesh {now.name!r} may be left: {problems}") from error
    files.remove(now.name)


def _prove(mesh: Mesh, teller: Teller) -> None:
    """See that every node serves us; raises `ProvisionError`."""
    teller.waiting("asking the nodes who they are")
    for report in asking.ask(mesh.nodes, client_pair()):
        if not report.ok:
            raise ProvisionError(
                f"node {report.number} at {report.node.endpoint} was started, and cannot be used: {report.problem}"
            )


# --- down ----------------------------------------------------------------------------------------


def down(name: str, teller: Teller | None = None, *, force: bool = False, only: str = "") -> Mesh:
    """End a mesh, and return what it was; raises `UnknownMeshError`, `ProvisionError` that says what is left.

    ``force`` forgets what cannot be reached, and tells what that is. ``only`` names the state in which alone it shall
    end; in another one it raises `MeshExistsError`.
    """
    teller = teller or Teller()
    with files.locked(name):
        mesh = files.load(name)
        if only and mesh.state != only:
            raise MeshExistsError(name, f"it is {mesh.state} by now")
        try:
            provider = provider_of(mesh)
        except ConfigError as error:  # also if they are somebody else's
            if not force:
                raise
            teller.say(f"forgotten, with what may run on: {error}")
            files.remove(name)
            return mesh
        files.write(replace(mesh, state="ending"))
        try:
            with Guard(lambda: None):
                provider.listener = teller.say
                problems = _end_all(provider, replace(mesh, state="ending"), teller, provider.sweep)
                if problems and not force:
                    raise ProvisionError(problems)
                if problems:
                    teller.say(f"forgotten, with what may run on: {problems.removesuffix(_advice(name))}")
                files.remove(name)
        finally:
            provider.close()
    return mesh


def _end_all(provider: Provider, mesh: Mesh, teller: Teller, sweep: Callable[[str], tuple[str, ...]]) -> str:
    """End all nodes, and what else is found of a mesh; return what may be left and what to do, or nothing."""
    problems: list[str] = []
    try:
        _end(provider, mesh, mesh.nodes, teller)
    except ProvisionError as error:
        problems.append(str(error))
    try:
        for line in _while_told(teller, "waiting for all else to be gone", partial(sweep, mesh.name)):
            teller.say(f"ended {line}")
    except SkywardError as error:  # nodes that could be ended are, all the same
        if not problems:
            files.write(replace(mesh, nodes=()))
        problems.append(f"cannot look for what is left of mesh {mesh.name!r}: {error}")
    return "\n".join(problems) + _advice(mesh.name) if problems else ""


def _advice(name: str) -> str:
    return (
        f"\nits file stays: say `skyward-mesh down {name}` once all of that can be reached, or "
        f"`skyward-mesh down {name} --force`, which forgets what cannot"
    )


def provider_of(mesh: Mesh) -> Provider:
    """Return a provider that can end the nodes of a mesh; raises `ConfigError`."""
    if mesh.kind == files.NOBODYS:
        raise ConfigError(f"the nodes of mesh {mesh.name!r} were started by somebody else: end them where they run")
    return kinds.make(mesh.kind, mesh.settings).for_mesh(mesh.name)


def _end(provider: Provider, mesh: Mesh, nodes: Sequence[Launched], teller: Teller) -> Mesh:
    """End some nodes side by side and return the mesh without them; raises `ProvisionError` that names the rest."""
    problems: dict[str, BaseException] = {}

    def end(node: Launched) -> None:
        try:
            provider.terminate(node)
        except BaseException as error:  # told below, for all of them
            problems[node.ident] = error

    threads = [threading.Thread(target=end, args=[node], name=f"skyward-end-{node.ident}") for node in nodes]
    for thread in threads:
        thread.start()
    for thread, node in zip(threads, nodes, strict=True):
        while thread.is_alive():
            thread.join(GLANCE)
            teller.waiting(f"waiting for node {node.ident} to end")
        if node.ident not in problems:
            teller.say(f"ended node {node.ident}")
    left = mesh.without({node.ident for node in nodes if node.ident not in problems})
    if problems:
        files.write(left)
        again = f"down {mesh.name}" if mesh.state == "ending" else f"resize {mesh.name} N"
        lines = [f"{ident}: {problem}" for ident, problem in problems.items()]
        raise ProvisionError(
            f"{len(problems)} nodes of mesh {mesh.name!r} could not be ended, and may run on; "
            f"`skyward-mesh {again}` tries again:\n" + "\n".join(f"  {line}" for line in lines)
        )
    return left


def _while_told(teller: Teller, text: str, work: Callable[[], tuple[str, ...]]) -> tuple[str, ...]:
    """Return what some work returns, and tell meanwhile what is waited for."""
    with ThreadPoolExecutor(1, "skyward-sweep") as threads:
        future = threads.submit(work)
        while not wait([future], GLANCE).done:
            teller.waiting(text)
        return future.result()


# --- other sizes -----------------------------------------------------------------------------------


def resize(
    name: str, count: int, teller: Teller | None = None, lists: Sequence[Iterable[tuple[str, str]]] = ()
) -> Mesh:
    """Give a mesh so many nodes, and return it. Those without work go first, and the first node last.

    If there shall not be fewer, those that are silent are replaced.
    ``lists`` are whom the nodes admit that were asked: new ones admit the same.
    """
    teller = teller or Teller()
    with files.locked(name):
        mesh = files.load(name)
        if not mesh.serves:
            raise ConfigError(f"mesh {name!r} is not up: `skyward-mesh down {name}` ends it")
        provider = provider_of(mesh)
        try:
            for line in unnoted(provider, mesh):
                teller.say(f"ended {line}, which a command that was killed had started")
            reports = asking.ask(mesh.nodes, client_pair())
            more = count - len(mesh.nodes)
            lost = [report.node for report in reports if report.silent] if more >= 0 else []
            if more + len(lost) > 0:
                provider.check_nodes(Nodes(count))
                mesh = replace(mesh, clients=for_new_nodes(mesh.clients, lists))
                spec = replace(_spec(_described_again(mesh), provider, count), clients=mesh.clients)
                mesh = _end(provider, mesh, lost, teller)  # new ones may need their places
                mesh = replace(mesh, state="growing")
                files.write(mesh)
                changed = _grow(provider, spec, mesh, more + len(lost), teller)
            else:
                changed = _end(provider, mesh, leaving(reports, -more), teller)
        finally:
            with Guard(lambda: None):
                provider.close()
        changed = replace(changed, state="up", wanted=count)
        files.write(changed)
        return changed


def unnoted(provider: Provider, mesh: Mesh, *, dry_run: bool = False) -> tuple[str, ...]:
    """End the nodes of a mesh that its file does not name: a command that was to note them was killed."""
    if mesh.state != "growing":
        return ()
    return provider.sweep(mesh.name, keep=[node.ident for node in mesh.nodes], dry_run=dry_run)


def leaving(reports: Sequence[asking.Report], count: int) -> list[Launched]:
    """Return which nodes go: those that give no answer, then the idle ones, the last one first; the first last."""
    order = sorted(reports, key=lambda each: (each.ok, each.number == 0, each.running + each.queued, -each.number))
    return [report.node for report in order[:count]]


def growth(name: str, count: int) -> Quote:
    """Return what it costs to give a mesh so many nodes."""
    mesh = files.load(name)
    provider, more = provider_of(mesh), count - len(mesh.nodes)
    if more >= 0:  # those that are silent are replaced
        more += sum(report.silent for report in asking.ask(mesh.nodes, client_pair()))
    return provider.quote(_spec(_described_again(mesh), provider, count), more) if more > 0 else Quote()


def _noted(image: Image) -> dict[str, Any]:
    """Return an image as a mesh file has it: of variables, which may be secret, the names."""
    said = {name: list(getattr(image, name)) for name in ("pip", "apt", "includes", "excludes", "env")}
    return {} if image.is_empty else {"python": image.python, **said}


def _described_again(mesh: Mesh) -> Description:
    """Return what a mesh was described as, for more nodes of the same kind; raises `ConfigError`."""
    image = dict(mesh.image)
    if image.pop("env", ()):  # their values are in the description alone
        if not mesh.described:
            raise ConfigError(f"mesh {mesh.name!r} has variables in its image, and only {described.FILE} can say which")
        made = described.File.read(mesh.described).mesh(mesh.name).image
    else:
        made = Image(**image)
    return described.Description(
        name=mesh.name, kind=mesh.kind, settings=mesh.settings, image=made, options=mesh.options
    )
