"""A pool's life, as far as AWS sees it: prepared, so many nodes launched side by side, closed."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import skyward as sky
from skyward.providers.base import LaunchSpec
from tests.aws import clouds

if TYPE_CHECKING:
    from skyward.providers.base import Launched

SPEC = LaunchSpec(client_key="rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7", start_timeout=30.0)


def provider(session: Any, **more: Any) -> sky.AWS:
    """Return an unused provider that talks to a cloud of ours."""
    arguments: dict[str, Any] = {"bucket": clouds.BUCKET, "allow": clouds.HERE, "session": session}
    return sky.AWS(**arguments | more)


def live(made: sky.AWS, nodes: int, spec: LaunchSpec = SPEC) -> list[Launched]:
    """Return the nodes that served; raises the first error, in whatever it happened. Nothing is left then."""
    launched: list[Launched] = []
    errors: list[BaseException] = []

    def launch(index: int) -> None:
        try:
            launched.append(made.launch(spec, index, threading.Event()))
        except BaseException as error:
            errors.append(error)

    try:
        made.prepare()
        threads = [threading.Thread(target=launch, args=[index]) for index in range(nodes)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        made.close()
    if errors:
        raise errors[0]
    return launched
