"""The source of a module as it travels: `modules` finds out which are sent, and `loader` imports what has come."""

from __future__ import annotations

import json

from msgspec import Struct


class ModuleBlob(Struct, frozen=True):
    """The source of a module, as it travels. ``key`` is the hash of name and body."""

    key: bytes
    name: str
    body: bytes


class Source(Struct, frozen=True):
    """What `pack` packs: ``kind`` is ``module``, ``package`` or ``namespace``."""

    name: str
    path: str  # on the client; of a namespace package: its first directory
    kind: str
    needs: tuple[str, ...]  # the user's modules that it imports, and its parents
    code: bytes


def pack(source: Source) -> ModuleBlob:
    """Return a module's source as it travels."""
    from _blake2 import blake2b  # that of `hashlib`, which loads OpenSSL

    head = json.dumps([source.name, source.path, source.kind, source.needs], separators=(",", ":"))
    body = head.encode("ascii") + b"\n" + source.code
    return ModuleBlob(blake2b(body, digest_size=16).digest(), source.name, body)


def unpack(body: bytes) -> Source:
    """Return what `pack` has packed."""
    head, _, code = body.partition(b"\n")
    name, path, kind, needs = json.loads(head)
    return Source(name, path, kind, tuple(needs), code)
