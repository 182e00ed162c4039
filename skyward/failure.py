"""The root of every exception of ours; `skyward.errors` has all of them."""

from __future__ import annotations

from typing import Any


def _rebuild(cls: type[SkywardError], message: str, fields: dict[str, Any]) -> SkywardError:
    error = cls.__new__(cls)
    BaseException.__init__(error, message)
    error.__dict__.update(fields)
    return error


class SkywardError(Exception):
    """Root of everything skyward raises by itself."""

    message: str

    def __init__(self, message: str = "") -> None:
        super().__init__(message)
        self.message = message

    def __str__(self) -> str:
        return self.message

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.message, self.__dict__.copy())
