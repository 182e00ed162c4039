"""What tasks of these tests do. Apart from the tests, so that fresh workers need not import pytest."""

from __future__ import annotations

import ctypes
import os
import signal

import skyward as sky


@sky.function
def die(way: str, number: int) -> str:
    """End the worker in some way."""
    match way:
        case "signal":
            os.kill(os.getpid(), number)
            signal.pause()
        case "segfault":
            ctypes.string_at(0)
        case "exit":
            os._exit(number)
        case _:
            ctypes.PyDLL(None).pause()  # C code that keeps the GIL, for ever
    return "survived"
