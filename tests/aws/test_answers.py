"""What comes back from an endpoint that is not AWS."""

from __future__ import annotations

from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING

import pytest

from skyward.providers.aws.api import Api
from skyward.providers.aws.failures import CallFailed, Kind
from tests.aws.clouds import REGION, session
from tests.serving import serving

if TYPE_CHECKING:
    from collections.abc import Iterator


class Page(BaseHTTPRequestHandler):
    """Answers everything like a proxy that has no way on."""

    def do_POST(self) -> None:
        """Say it in HTML."""
        page = b"<!doctype html><html><title>502</title><p>Either the server is overloaded or there is an error."
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(502)
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        self.wfile.write(page)

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing."""


@pytest.fixture
def proxy() -> Iterator[str]:
    """Yield where such a proxy listens."""
    with serving(HTTPServer(("127.0.0.1", 0), Page)) as server:
        yield f"http://127.0.0.1:{server.server_port}"


@pytest.mark.rule("F45")
def test_answer_that_is_none_of_aws_leaves_us_unsure(proxy: str) -> None:
    """It is an error of the call, by its name, as if none had come: nobody knows whether it was heard."""
    api = Api(session(proxy), REGION)
    with pytest.raises(CallFailed, match="ec2:TerminateInstances") as caught:
        api.write("ec2", "terminate_instances", InstanceIds=["i-1"])
    assert caught.value.kind is Kind.UNSURE
    api.close()
