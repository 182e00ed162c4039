"""A machine that figures may have been measured on."""

from __future__ import annotations

from typing import Any, Final

FACTS: Final[dict[str, Any]] = {
    "date": "2030-01-01T00:00:00+00:00",
    "cpu": "Some CPU",
    "cpus": 2,
    "memory": 2**34,
    "system": "Linux 6",
    "python": "3.11.0",
    "libzmq": "4.3.5",
    "versions": {"skyward": "0.1.0", "numpy": ""},
    "commit": "abc",
    "load": 0.0,
}
