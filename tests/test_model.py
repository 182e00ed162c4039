"""Values that several parts share, and what they refuse."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from skyward.errors import ConfigError
from skyward.model import NodeConfig, Nodes


@pytest.mark.rule("R33")
def test_nodes_with_a_larger_max_are_elastic() -> None:
    """Larger than what the pool goes on to when it opens."""
    assert [Nodes.parse(value).are_elastic for value in (4, (2, 2), Nodes(3, min=1))] == [False] * 3
    assert [Nodes.parse(value).are_elastic for value in ((2, 3), (0, 1), Nodes(3, 1, 4))] == [True] * 3


@pytest.mark.rule("R33")
@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (4, (4, 4, 4)),
        (1, (1, 1, 1)),
        ((2, 8), (2, 2, 8)),
        ((0, 3), (0, 0, 3)),
        ((2, 2), (2, 2, 2)),
        (Nodes(3, 1, 5), (3, 1, 5)),
        (Nodes(3, min=1), (3, 1, 3)),
        (Nodes(3, max=5), (3, 3, 5)),
        (Nodes(0, max=1), (0, 0, 1)),
    ],
)
def test_nodes_are_said_in_three_ways(value: object, expected: tuple[int, int, int]) -> None:
    """A number is fixed; a pair is min and max, and starts at min; `Nodes` says all three."""
    nodes = Nodes.parse(value)
    assert (nodes.desired, nodes.least, nodes.most) == expected
    assert (nodes.desired, nodes.min, nodes.max) == expected


@pytest.mark.rule("R33")
@pytest.mark.parametrize(
    ("value", "message"),
    [
        (0, "at least one node"),
        (-1, "nodes must be at least 0, got -1"),
        ((0, 0), "at least one node"),
        ((-1, 2), "nodes min must be at least 0, got -1"),
        ((1, -2), "nodes max must be at least 0, got -2"),
        ((3, 2), "min ≤ desired ≤ max, got min=3, desired=3, max=2"),
    ],
)
def test_nodes_have_bounds(value: object, message: str) -> None:
    """What cannot be a number of nodes is a `ValueError` that says why."""
    with pytest.raises(ConfigError, match=message) as caught:
        Nodes.parse(value)
    assert isinstance(caught.value, ValueError)


@pytest.mark.rule("R33")
@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"desired": 2, "min": 3}, "got min=3, desired=2, max=2"),
        ({"desired": 2, "max": 1}, "got min=2, desired=2, max=1"),
        ({"desired": 2, "min": 0, "max": 0}, "at least one node"),
        ({"desired": 2, "min": -1}, "nodes min must be at least 0"),
        ({"desired": 2, "max": -1}, "nodes max must be at least 0"),
        ({"desired": -2}, "nodes must be at least 0"),
        ({"desired": 10**20}, "nodes must be at most 10000"),
        ({"desired": 1, "max": 10_001}, "nodes max must be at most 10000"),
    ],
)
def test_nodes_agree_with_each_other(fields: dict[str, int], message: str) -> None:
    """``min`` ≤ ``desired`` ≤ ``max``, and room for one."""
    with pytest.raises(ConfigError, match=message):
        Nodes(**fields)


@pytest.mark.rule("R33")
@pytest.mark.parametrize("value", [True, 2.0, "2", None, (1,), (1, 2, 3), [1, 2], (1.0, 2), (1, True)])
def test_nodes_of_another_type_are_refused(value: object) -> None:
    """A bool is no number of nodes, and neither is text."""
    with pytest.raises(TypeError):
        Nodes.parse(value)


@pytest.mark.parametrize("field", ["desired", "min", "max"])
def test_fields_of_nodes_are_ints(field: str) -> None:
    """Each by itself."""
    fields: dict[str, Any] = {"desired": 2, field: "2"}
    with pytest.raises(TypeError, match="must be an int, got '2'"):
        Nodes(**fields)


def test_nodes_are_frozen() -> None:
    """Nobody changes them, and equal ones are equal."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        Nodes(2).desired = 3  # type: ignore[misc]  # what is tried
    assert Nodes(2) == Nodes.parse(2) == Nodes.parse((2, 2))
    assert hash(Nodes(2)) == hash(Nodes(2, 2, 2))


@pytest.mark.parametrize(
    "config",
    [
        NodeConfig(bind="ipc:///tmp/sock"),
        NodeConfig(
            bind="tcp://0.0.0.0:0",
            concurrency=3,
            executor="thread",
            reuse_processes=False,
            lease=5.0,
            max_payload=9,
            ready_fd=3,
            lifeline_fd=4,
            parent=5,
            log_format="console",
            log_level="debug",
            cwd="/tmp/ü",
            umask=0o22,
            sys_path=("/a", ""),
            env={"A": "B"},
        ),
    ],
)
def test_node_config_survives_its_json(config: NodeConfig) -> None:
    """What a launcher writes is what a daemon reads."""
    assert NodeConfig.from_json(config.to_json()) == config


def test_node_config_of_another_version_is_refused() -> None:
    """A field that is not known is an error, not a surprise later."""
    with pytest.raises(TypeError, match="colour"):
        NodeConfig.from_json(b'{"bind": "ipc://x", "colour": 1}')
