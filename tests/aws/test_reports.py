"""What instances say of themselves."""

from __future__ import annotations

import pytest

import skyward as sky
from skyward.providers.aws.reports import Report, on_console, parse

SERVES = (
    "skyward-report 1\nnonce n1\ninstance i-1\n"
    'serves {"ready": {"endpoint": "tcp://0.0.0.0:7700", "public_key": "KEY", "pid": 9}}\n'
)
FAILED = "skyward-report 1\nnonce n1\ninstance i-1\nfailed the set-up failed\nlog\nfirst\nsecond\n"


def test_report_of_a_node_that_serves() -> None:
    """It has the node's key and port, in the daemon's own words or in those of the set-up."""
    expected = Report("n1", "i-1", "KEY", 7700)
    assert parse(SERVES) == expected
    assert parse(SERVES.replace('{"ready": ', "").replace("}}", "}")) == expected


def test_report_of_a_failure_has_the_log() -> None:
    """It says what has failed, and has the last lines."""
    assert parse(FAILED) == Report("n1", "i-1", failed="the set-up failed", log=("first", "second"))


@pytest.mark.parametrize(
    "text", ["", "hello", SERVES.replace("1", "2", 1), SERVES.replace("endpoint", "x"), "\0" * 100]
)
def test_nonsense_is_refused(text: str) -> None:
    """What makes no sense is an error that shows it."""
    with pytest.raises(sky.ProvisionError, match="makes no sense"):
        parse(text)


def test_report_is_found_on_a_console() -> None:
    """Among what others write there, with a terminal's line ends; only a whole one, of this launch."""
    lines = ["[    0.1] Linux", *[f"skyward| {line}" for line in SERVES.splitlines()], "login: skyward| end"]
    assert parse(on_console("\r\n".join(lines), "n1")) == parse(SERVES)
    assert on_console("\n".join(lines), "n2") == ""
    assert on_console("\n".join(lines[:-1]), "n1") == ""
