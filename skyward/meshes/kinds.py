"""Providers by the names that `skyward.toml`, mesh files and commands give them."""

from __future__ import annotations

import difflib
import inspect
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

from skyward.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from skyward.providers.base import Provider

HOMES: Final = {
    "aws": ("skyward.providers.aws.provider", "AWS"),
    "local": ("skyward.providers.local", "Local"),
    "ssh": ("skyward.providers.ssh", "SSH"),
    "static": ("skyward.providers.static", "Static"),
}


def names() -> tuple[str, ...]:
    """Return the names of the providers that there are."""
    return tuple(name for name, (module, _) in HOMES.items() if find_spec(module) is not None)


def class_of(kind: str) -> type[Provider]:
    """Return the provider of this name; raises `ConfigError`."""
    if kind not in names():
        raise ConfigError(f"there is no provider {kind!r}: there are {', '.join(names())}")
    module, name = HOMES[kind]
    found: type[Provider] = getattr(import_module(module), name)
    return found


def mistake(kind: str, settings: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return which setting a provider does not have, or lacks, and why that is a mistake; None if all is well."""
    provider = class_of(kind)
    known = inspect.signature(provider).parameters
    for name in settings:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(known) or 'none'}"
            return name, f"is no setting of sky.{provider.__name__}; {hint}"
    for name, parameter in known.items():
        several = parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
        if parameter.default is parameter.empty and not several and name not in settings:
            return name, f"is missing: sky.{provider.__name__} needs it"
    return None


def make(kind: str, settings: Mapping[str, Any]) -> Provider:
    """Return a provider with these settings; raises `ConfigError`."""
    if (wrong := mistake(kind, settings)) is not None:
        raise ConfigError(" ".join(wrong))
    provider = class_of(kind)
    try:
        return provider(**settings)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"sky.{provider.__name__} does not take these settings: {error}") from error
