"""The little HTTP that whoever asks how a node is needs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skyward_node.http import LONGEST, Answer, Request, read, write


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", Request("GET", "/metrics")),
        (b"GET /metrics?a=b HTTP/1.0\r\n\r\nmore", Request("GET", "/metrics")),
        (b"POST / HTTP/1.1\r\n\r\n", Request("POST", "/")),
        (b"GET /metrics HTTP/1.1\r\n", None),
        (b"", None),
    ],
)
def test_request_is_read_when_its_head_is_there(data: bytes, expected: Request | None) -> None:
    """Headers are of no interest, nor is what follows them."""
    assert read(data) == expected


@pytest.mark.parametrize(
    "head", [b"GET / HTTP/2", b"GET http://x/ HTTP/1.1", b"hello", b"GET / HTTP/1.1 x", b"\xff\xfe", b""]
)
def test_nonsense_is_told(head: bytes) -> None:
    """With 400, whatever it is."""
    found = read(head + b"\r\n\r\n")
    assert isinstance(found, Answer)
    assert found.status == 400


def test_request_without_end_is_refused() -> None:
    """So that nobody fills our memory."""
    assert read(b"x" * (LONGEST - 1)) is None
    found = read(b"x" * LONGEST)
    assert isinstance(found, Answer)
    assert found.status == 431


@given(st.binary(max_size=200))
def test_anything_is_read_without_an_exception(data: bytes) -> None:
    """Whoever can connect can send whatever he likes."""
    found = read(data)
    assert found is None or isinstance(found, Answer | Request)


def test_answer_says_how_long_it_is_and_that_it_is_all() -> None:
    """A client need not guess; after a HEAD the text is left out."""
    answer = Answer(200, "ä\n")
    head, _, body = write(answer).partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    assert lines[0] == "HTTP/1.1 200 OK"
    assert {"Content-Length: 3", "Connection: close", "Content-Type: text/plain; charset=utf-8"} <= set(lines)
    assert body == "ä\n".encode()
    assert write(answer, head=True) == head + b"\r\n\r\n"
    assert b"Allow: GET, HEAD" in write(Answer(405, ""))
