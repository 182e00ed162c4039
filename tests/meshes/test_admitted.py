"""Whom nodes admit that come later, by what was noted and what the others say."""

from __future__ import annotations

import pytest

from skyward.meshes.admitted import for_new_nodes, with_client, without_client

ADA, BOB = ("ada's key", "ada"), ("bob's key", "bob")


def test_list_has_each_client_once() -> None:
    """A second label replaces the first; whoever is not there cannot be taken away."""
    assert with_client((ADA, BOB), ADA[0], "countess") == (BOB, (ADA[0], "countess"))
    assert without_client((ADA, BOB), "ada") == without_client((ADA, BOB), ADA[0]) == (BOB,)
    assert without_client((ADA,), "bob") == (ADA,)


@pytest.mark.rule("R42")
def test_new_node_admits_whom_the_others_admit() -> None:
    """All of them, also by another's hand; or one of them, if it was noted here. Who was noted, if nobody says."""
    assert for_new_nodes((ADA,), []) == (ADA,)
    assert for_new_nodes((), [[ADA], [ADA, BOB]]) == (ADA,)
    assert for_new_nodes((ADA,), [[ADA, BOB], [BOB]]) == (ADA, BOB)


@pytest.mark.rule("R42")
def test_key_that_was_taken_away_stays_away() -> None:
    """Whether a node gave no answer then, or it was done with a copy of the file."""
    assert for_new_nodes((), [[ADA], []]) == ()
    assert for_new_nodes((ADA,), [[], [BOB]]) == ()
