"""What a client still does when it has said goodbye: nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from skyward.transport.links import Connection
from skyward.wire.messages import Bye, Refused

if TYPE_CHECKING:
    from tests.mesh.meshes import Mesh


@pytest.mark.rule("R40")
@pytest.mark.parametrize("how", ["refused", "broken"])
def test_goodbye_is_no_reason_to_greet_again(mesh: Mesh, how: str) -> None:
    """Whatever comes of the connection after it: a hello would open a session that nobody ends."""
    (node,) = mesh.open()
    mate = mesh.engine.crew.mates[0]
    link = mate.link
    assert link is not None
    link.broken = how == "broken"
    mesh.do(lambda: mesh.engine.talk.goodbye(mate))
    node.expect(Bye)
    if how == "refused":
        refusal = Refused("session", "who are you?", "3.11.0", 1)
        mesh.do(lambda: mesh.engine.greeting.refused(mate, link, refusal))
    else:
        mesh.do(lambda: mesh.engine.reach.on_news(link, Connection.UP))
    assert (link.fresh, link.greeted) == (False, 0)
