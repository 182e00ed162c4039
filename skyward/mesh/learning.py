"""Code that tasks on a node bring for the calls that they make: taken in, shared among nodes, and named by calls."""

from __future__ import annotations

from typing import TYPE_CHECKING

from skyward.errors import ProtocolError
from skyward.wire.functions import FunctionBlob

if TYPE_CHECKING:
    from collections.abc import Iterable

    from skyward.mesh.mate import Mate
    from skyward.transport.links import Link
    from skyward.wire.frames import Buffer
    from skyward.wire.messages import Function, Submit
    from skyward.wire.sources import ModuleBlob


def learn(mate: Mate, message: Function, body: Buffer, mates: Iterable[Mate]) -> None:
    """Take in a function that a node has sent; ``mates`` are all nodes. Raises `ProtocolError`."""
    link = mate.link
    assert link is not None
    try:
        modules = tuple(_source(link, key) for key in message.modules)
    except KeyError as error:
        raise ProtocolError("a function needs a module that was never sent") from error
    link.brought.clear()
    blob = _shared(FunctionBlob(message.key, message.name, bytes(body), modules), mates)
    link.learned.put(blob.key, blob, len(blob.body), [(module.key, len(module.body)) for module in blob.modules])
    link.functions.add(message.key)
    link.modules.update(message.modules)


def named(link: Link, message: Submit) -> list[FunctionBlob]:
    """Return the functions that calls name, and give up what the node does not count on any more."""
    functions = [blob for key in message.functions if (blob := link.learned.use(key)) is not None]
    if len(functions) < len(message.functions):
        raise ProtocolError("nested calls of a function that was never sent")
    link.learned.trim()
    return functions


def _source(link: Link, key: bytes) -> ModuleBlob:
    """Return a module that has just come, or came with a function that we keep; raises `KeyError`."""
    if key in link.brought:
        return link.brought[key]
    if link.learned.has_module(key):
        return next(module for blob in link.learned.newest() for module in blob.modules if module.key == key)
    raise KeyError(key)


def _shared(blob: FunctionBlob, mates: Iterable[Mate]) -> FunctionBlob:
    """Return the same code as another node has sent it, so that a mesh costs no more than a node."""
    for mate in mates:
        known = mate.link.learned.peek(blob.key) if mate.link is not None else None
        if known is not None and known == blob:
            return known
    return blob
