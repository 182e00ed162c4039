"""Where the memory of a buffer is, and whether two hold the same bytes, at the speed of the memory itself.

Python compares memoryviews element by element, and tells the address of none that is read-only.
"""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from skyward.wire.frames import Buffer


class _View(ctypes.Structure):
    """``Py_buffer``, part of the stable ABI since Python 3.11."""

    _fields_ = [
        ("buf", ctypes.c_void_p),
        ("obj", ctypes.c_void_p),
        ("len", ctypes.c_ssize_t),
        ("itemsize", ctypes.c_ssize_t),
        ("readonly", ctypes.c_int),
        ("ndim", ctypes.c_int),
        ("format", ctypes.c_void_p),
        ("shape", ctypes.c_void_p),
        ("strides", ctypes.c_void_p),
        ("suboffsets", ctypes.c_void_p),
        ("internal", ctypes.c_void_p),
    ]


_SIMPLE = 0  # PyBUF_SIMPLE: contiguous bytes, and nothing else is asked
_get_buffer = ctypes.pythonapi.PyObject_GetBuffer
_get_buffer.argtypes = [ctypes.py_object, ctypes.POINTER(_View), ctypes.c_int]
_release = ctypes.pythonapi.PyBuffer_Release
_release.argtypes = [ctypes.POINTER(_View)]
_release.restype = None
_memcmp = ctypes.CDLL(None).memcmp  # lets other threads run meanwhile
_memcmp.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t]


def locate(buffer: Buffer) -> tuple[int, int]:
    """Return the address and the length in bytes of contiguous memory, which holds as long as the buffer is used."""
    view = _View()
    _get_buffer(buffer, view, _SIMPLE)
    try:
        return view.buf or 0, view.len
    finally:
        _release(view)


def are_equal(one: Buffer, other: Buffer) -> bool:
    """Return whether two buffers hold the same bytes."""
    (here, length), (there, as_long) = locate(one), locate(other)
    return length == as_long and (here == there or _memcmp(here, there, length) == 0)
