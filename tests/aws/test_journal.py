"""What this client has, and is about to ask for, on disk; and what is done with it when the client is gone."""

from __future__ import annotations

import os
import stat
import threading
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

import skyward as sky
from skyward.providers.aws import garbage, journal, standing
from skyward.providers.aws.journal import Journal, left_behind
from skyward_scripts.cli import main
from skyward_scripts.meshes.diagnosis import check_meshes
from tests.aws import scenario
from tests.aws.clouds import BUCKET, REGION

if TYPE_CHECKING:
    from pathlib import Path

    from tests.aws.clouds import Cloud


@pytest.fixture
def place(state: Path) -> Path:
    """Return where journals are kept, for this test."""
    return state


def abandoned(pool: str = "p1", bucket: str = "") -> str:
    """Write the journal of a client that died while it waited for an answer; return its path."""
    written = Journal(pool, REGION, bucket)
    written.note("t1", "asked")
    written.note("t2", "asked")
    written.note("t1", "i-1")
    written.close(keep=True)
    return f"{journal.home()}/{pool}.jsonl"


def gc(*arguments: str) -> str:
    """Return what the command prints."""
    done = CliRunner().invoke(main, ["gc", *arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_token_is_on_disk_before_the_call(place: Path) -> None:
    """Whoever comes after our death finds where we were, and the calls that had no answer."""
    file = abandoned(bucket="b")
    [left] = left_behind()
    assert (left.pool, left.region, left.bucket, left.unanswered) == ("p1", REGION, "b", ("t2",))
    assert left.gone
    assert left.silent < 60
    assert stat.S_IMODE(os.stat(file).st_mode) == 0o600


@pytest.mark.rule("F46")
def test_client_that_lives_is_not_left_behind(place: Path) -> None:
    """Its lock says so; and a file whose client has not got that far is nobody's."""
    written = Journal("p1", REGION)
    (place / "p2.jsonl").write_text("")
    assert left_behind() == ()
    other = Journal("p1", REGION)  # of the same mesh
    written.close()
    assert left_behind() == ()
    other.close(keep=True)
    assert [left.pool for left in left_behind()] == ["p1"]


@pytest.mark.rule("F46")
def test_client_of_another_machine_may_live(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Homes are shared, and not every file system shares locks."""
    abandoned()
    monkeypatch.setattr(journal, "_boot", lambda: "another")
    assert [left.gone for left in left_behind()] == [False]


def test_journal_goes_with_the_pool(place: Path) -> None:
    """Nothing is left of it, not even the directory."""
    written = Journal("p1", REGION)
    written.note("t1", "asked")
    written.touch()
    written.close()
    written.close()
    assert not place.exists()


def test_machine_that_cannot_keep_one_does_without(monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory that nobody can write ends no launch: tags are what counts."""
    monkeypatch.setenv("XDG_STATE_HOME", "/proc/nowhere")
    written = Journal("p1", REGION)
    written.note("t1", "asked")
    written.touch()
    assert written.tokens == {"t1": "asked"}
    assert left_behind() == ()
    written.close()


def test_half_a_line_is_no_obstacle(place: Path) -> None:
    """A machine that lost power may have written a part of an entry, or rubbish."""
    path = abandoned()
    with open(path, "a", encoding="utf-8") as file:
        file.write('[1]\n{"token": "t')
    assert left_behind()[0].unanswered == ("t2",)


def test_doctor_says_what_was_left(place: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With the number of calls that had no answer, and the command that clears up."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)
    abandoned()
    [found] = [finding for finding in check_meshes() if finding.name == "aws"]
    assert not found.ok
    assert found.text.endswith(f"it may have left pool p1 in {REGION}, 1 call without an answer")
    assert found.advice == "skyward-mesh gc"


@pytest.mark.rule("F46")
def test_gc_removes_at_once_what_a_dead_client_has_left(
    agents: Cloud, place: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Where its journal says, though its sign of life is no minute old, and with no word about where to look."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)
    made, lives = scenario.provider(agents.session()), scenario.provider(agents.session())
    monkeypatch.setattr(standing, "new_session", lambda _: agents.session())
    try:
        lives.prepare()
        made.prepare()
        made.launch(scenario.SPEC, 0, threading.Event())
        assert made._ground.journal is not None
        made._ground.journal.close(keep=True)  # as the kernel does it
        assert made.remembered() == [{"region": REGION, "bucket": BUCKET}]
        said = gc("--dry-run")
        assert all(instance in said for instance in made._fleet.standing())
        assert len(left_behind()) == 1
        assert "ended" in gc()
        assert left_behind() == ()
        assert agents.alive() == []
        assert any(lives._ground.groups[0] in line for line in agents.left())
    finally:
        made.close()
        lives.close()
    assert not place.exists()


@pytest.mark.rule("F46")
def test_journal_of_nobody_knows_whom_goes_with_his_sign_of_life(
    agents: Cloud, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When that is too old nothing of the pool is left after a look."""
    path = abandoned(bucket=BUCKET)
    monkeypatch.setattr(journal, "_boot", lambda: "another")
    looks = sky.AWS(REGION, bucket=BUCKET, session=agents.session())
    looks.sweep()
    assert os.path.exists(path)
    os.utime(path, (0, os.stat(path).st_mtime - garbage.IDLE - 1))
    looks.sweep(dry_run=True)
    assert os.path.exists(path)
    looks.sweep()
    assert not place.exists()
