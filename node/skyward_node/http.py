"""Just enough of HTTP/1.1 to answer whoever asks how a node is: one request, one answer, and the connection ends.

PURE: bytes in, bytes out.
"""

from __future__ import annotations

from typing import Final, NamedTuple

LONGEST: Final = 4_096  # bytes of a request with its headers: those of a scraper take some hundred
TEXT: Final = "text/plain; charset=utf-8"
REASONS: Final = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    431: "Request Header Fields Too Large",
    503: "Service Unavailable",
}


class Answer(NamedTuple):
    """What is said."""

    status: int
    text: str
    kind: str = TEXT


class Request(NamedTuple):
    """What is asked for."""

    method: str
    path: str


def read(data: bytes) -> Request | Answer | None:
    """Return the request, the answer to one that makes no sense, or None if more of it has to come."""
    head, end, _ = data.partition(b"\r\n\r\n")
    if not end:
        return Answer(431, "too long\n") if len(data) >= LONGEST else None
    words = head.split(b"\r\n", 1)[0].split(b" ")
    if len(words) != 3 or not words[2].startswith(b"HTTP/1.") or not words[1].startswith(b"/"):
        return Answer(400, "this is no request\n")
    method, target = words[0].decode("ascii", "replace"), words[1].decode("ascii", "replace")
    return Request(method, target.partition("?")[0])


def write(answer: Answer, *, head: bool = False) -> bytes:
    """Return the answer's bytes; without its text for a ``HEAD``."""
    body = answer.text.encode()
    lines = (
        f"HTTP/1.1 {answer.status} {REASONS[answer.status]}",
        f"Content-Type: {answer.kind}",
        f"Content-Length: {len(body)}",
        *(["Allow: GET, HEAD"] if answer.status == 405 else []),
        "Cache-Control: no-store",
        "Connection: close",
    )
    return "\r\n".join([*lines, "", ""]).encode() + (b"" if head else body)
