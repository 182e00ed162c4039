"""What `sky.Compute` takes, as mypy and pyright see it. Never run, only checked; see ``operators.py``."""

from typing import Any, Literal, assert_type

import skyward as sky


def options(settings: dict[str, Any], executor: Literal["process", "thread"]) -> None:
    with sky.Compute(nodes=2, retries=0, timeout=None, heartbeat=1, concurrency=4, executor="thread") as pool:
        assert_type(pool, sky.Compute)
    sky.Compute(sky.Local(), (2, 8), worker=sky.Worker(concurrency=2), max_payload=2**30, window=None)
    sky.Compute("cluster", options=sky.Options(lease=60.0), executor=executor, reuse_processes=False)
    sky.Compute(mesh="cluster", **settings)
    sky.Compute(nodez=2)  # E: call-arg reportCallIssue
    sky.Compute(nodes="2")  # E: arg-type reportArgumentType
    sky.Compute(retrys=0)  # E: call-arg reportCallIssue
    sky.Compute(retries=0.5)  # E: arg-type reportArgumentType
    sky.Compute(executor="fiber")  # E: arg-type reportArgumentType
    sky.Compute(concurrency=None)  # E: arg-type reportArgumentType
    sky.Options(retrys=0)  # E: call-arg reportCallIssue
    sky.Options(retries="0")  # E: arg-type reportArgumentType
    sky.Worker(executor="fiber")  # E: arg-type reportArgumentType


def closing() -> None:
    pool = sky.Compute(nodes=2).open()
    assert_type(pool, sky.Compute)
    pool.close(cancel=1)  # E: arg-type reportArgumentType
    pool.shutdown()  # E: attr-defined reportAttributeAccessIssue
