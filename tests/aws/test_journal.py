"""What this client is about to ask for, on disk."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

import pytest

from skyward.providers.aws import journal
from skyward.providers.aws.journal import Journal, unanswered

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return where journals are kept, for this test."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return tmp_path / "skyward" / "aws"


def test_token_is_on_disk_before_the_call(state: Path) -> None:
    """Whoever looks after our death finds the calls that had no answer."""
    written = Journal("p1", "eu-central-1")
    written.note("t1", "asked")
    written.note("t2", "asked")
    written.note("t1", "i-1")
    file = state / "p1.jsonl"
    assert unanswered(str(file)) == ("t2",)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_journal_goes_with_the_pool(state: Path) -> None:
    """Nothing is left of it, not even the directory."""
    written = Journal("p1", "eu-central-1")
    written.note("t1", "asked")
    written.close()
    written.close()
    assert not state.exists()


def test_machine_that_cannot_keep_one_does_without(monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory that nobody can write ends no launch: tags are what counts."""
    monkeypatch.setenv("XDG_STATE_HOME", "/proc/nowhere")
    written = Journal("p1", "eu-central-1")
    written.note("t1", "asked")
    assert written.tokens == {"t1": "asked"}
    assert unanswered("/proc/nowhere/p1.jsonl") == ()


def test_half_a_line_is_no_obstacle(state: Path) -> None:
    """A machine that lost power may have written a part of an entry."""
    Journal("p1", "eu-central-1").note("t1", "asked")
    path = f"{journal.home()}/p1.jsonl"
    with open(path, "a", encoding="utf-8") as file:
        file.write('{"token": "t')
    assert unanswered(path) == ("t1",)
