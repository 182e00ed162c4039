"""A value as one JSON document, whatever it is. PURE."""

from __future__ import annotations

import json
import math
from typing import Any


def document(value: Any) -> str:
    """Return the value as JSON; parts of it that are no JSON, such as objects, NaN and keys, as their repr."""
    try:
        return json.dumps(value, default=repr, allow_nan=False)
    except (TypeError, ValueError, RecursionError):  # it is known that there is such a part, and not which
        pass
    try:
        return json.dumps(_plain(value))
    except RecursionError:  # a part of it is the whole again
        return json.dumps(repr(value))


def _plain(value: Any) -> Any:
    """Return the value with all its parts as JSON has them."""
    if _is(value, float):
        return value if math.isfinite(value) else float.__repr__(value)
    if _is(value, dict):
        return {_key(key): _plain(each) for key, each in value.items()}
    if _is(value, list, tuple):
        return [_plain(each) for each in value]
    return value if _is(value, str, int, type(None)) else repr(value)


def _key(value: Any) -> Any:
    """Return what stands for a key; of some numbers, and of None, JSON makes one itself."""
    return _plain(value) if _is(value, str, int, float, type(None)) else repr(value)


def _is(value: object, *kinds: type) -> bool:  # which leaves its type alone: that of the parts is not known
    return isinstance(value, kinds)
