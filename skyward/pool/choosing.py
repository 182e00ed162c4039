"""What a pool is made of, from what the user said: provider, nodes, image and options, each checked.

A name as provider, or as mesh, stands for what is written elsewhere: the description of a mesh in `skyward.toml`, whose
nodes are then the pool's own, or a mesh that runs. What the call says itself counts more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from skyward.config import merge_options
from skyward.errors import ConfigError
from skyward.image import Image
from skyward.model import Nodes
from skyward.providers.base import Provider

if TYPE_CHECKING:
    from skyward.config import Options

    Choice = tuple[Provider, Nodes, Image, Options]


def choose(
    provider: object, mesh: object, nodes: object, image: object, options: Options | None, spec: dict[str, Any]
) -> Choice:
    """Return what the arguments of ``sky.Compute`` mean; raises `TypeError`, `ConfigError`, `UnknownMeshError`."""
    if mesh is not None:
        if provider is not None:
            raise TypeError(f"the nodes are those of mesh={mesh!r}, or come from provider={provider!r}: not both")
        from skyward.meshes.attached import Attached

        attached = Attached(mesh)
        merged = attached.fitting(merge_options(options, spec))
        return attached, _nodes(attached, nodes), _checked_image(image), merged
    if isinstance(provider, str):
        return _described(provider, nodes, image, options, spec)
    chosen = _checked_provider(provider)
    return chosen, _nodes(chosen, nodes), _checked_image(image), merge_options(options, spec)


def _described(name: str, nodes: object, image: object, options: Options | None, spec: dict[str, Any]) -> Choice:
    from skyward.meshes import described, files

    runs = f"one of that name runs: sky.Compute(mesh={name!r}) attaches to it" if name in files.known() else ""
    said = described.load(name, runs)
    provider = said.provider()
    return (
        provider,
        _nodes(provider, said.nodes if nodes is None else nodes),
        said.image if image is None else _checked_image(image),
        merge_options(options, spec if options is not None else {**said.options, **spec}),
    )


def _nodes(provider: Provider, nodes: object) -> Nodes:
    wanted = provider.default_nodes() if nodes is None else Nodes.parse(nodes)
    if wanted is None:
        raise ConfigError(f"{provider!r} does not know how many nodes you want: say sky.Compute(nodes=...)")
    provider.check_nodes(wanted)
    return wanted


def _checked_provider(provider: object) -> Provider:
    if provider is None:
        from skyward.providers.local import Local

        return Local()
    if isinstance(provider, Provider):
        return provider
    if isinstance(provider, type) and issubclass(provider, Provider):
        raise TypeError(f"provider must be an instance: sky.{provider.__name__}(), not sky.{provider.__name__}")
    hint = (
        f"; a number of nodes is sky.Compute(nodes={provider!r})" if isinstance(provider, int | tuple | Nodes) else ""
    )
    raise TypeError(f"provider must be a provider such as sky.Local(), got {provider!r}{hint}")


def _checked_image(image: object) -> Image:
    if image is None:
        return Image()
    if not isinstance(image, Image):
        raise TypeError(f"image must be a sky.Image(...), got {image!r}")
    return image
