"""The root of every exception of ours; `skyward.errors` has all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

_ARGS: Final = vars(BaseException)["args"]  # where every exception has its own


def told(value: object, text: str) -> str:
    """Return the text with the number in it; what is no number is the text: tests make errors by hand."""
    try:
        return text.format(value)
    except (TypeError, ValueError):
        return str(value)


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

    if not TYPE_CHECKING:  # to whom they are the attribute that every exception has

        @property
        def args(self) -> tuple[Any, ...]:
            """Return the message or, where fields make the text, that text: it is what trackers of errors show."""
            given = _ARGS.__get__(self)
            return (str(self),) if given == ("",) else given

        @args.setter
        def args(self, args: tuple[Any, ...]) -> None:
            _ARGS.__set__(self, args)

    def __str__(self) -> str:
        return str(self.message)  # which may be another exception, as with any

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.message, self.__dict__.copy())
