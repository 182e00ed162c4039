"""Who takes part in what."""

from __future__ import annotations

import ast
import inspect
import re
from typing import TYPE_CHECKING

import pytest

from skyward_scripts.bench import marked, tasks
from skyward_scripts.bench.catalogue import PEER_NAMES, PEERS, REFERENCES, SKYWARD, choose
from skyward_scripts.bench.contestant import Contestant, find, has_operation
from skyward_scripts.bench.measures import MEASURES
from skyward_scripts.bench.workloads import WORKLOADS

if TYPE_CHECKING:
    from skyward_scripts.bench.catalogue import Entry
    from skyward_scripts.bench.workloads import Workload

ALL = (*SKYWARD, *REFERENCES, *PEERS)


def test_names_are_unique() -> None:
    """A row of a table is one contestant."""
    assert len({entry.name for entry in ALL}) == len(ALL)


@pytest.mark.parametrize("entry", ALL, ids=lambda entry: entry.name)
def test_contestant_takes_part_in_something(entry: Entry) -> None:
    """Its class is found without what it drives being installed."""
    assert any(entry.takes_part(workload) for workload in WORKLOADS)


@pytest.mark.parametrize("workload", WORKLOADS, ids=lambda workload: workload.name)
def test_workload_can_be_measured(workload: Workload) -> None:
    """It names an operation that exists, and there is a measure for it; skyward takes part in all."""
    assert hasattr(Contestant, workload.operation)
    assert workload.outside or workload.name in MEASURES
    assert SKYWARD[0].takes_part(workload)


def test_peers_are_pinned() -> None:
    """Two runs measure the same versions."""
    wanted = [requirement for entry in PEERS for requirement in entry.requirements]
    assert wanted
    assert [each for each in wanted if not re.fullmatch(r"[a-z]+==[\d.]+", each)] == []


def test_choice_of_peers_keeps_what_they_are_compared_with() -> None:
    """The project itself and the references always take part."""
    assert choose(None) == ALL
    assert choose(("none",)) == (*SKYWARD, *REFERENCES)
    assert [entry.name for entry in choose(("ray",)) if entry.kind == "peer"] == ["ray", "ray-actors"]
    assert {"executor", "multiprocessing", "loky", "joblib", "mpire", "ray", "dask", "ipyparallel", "parsl"} == set(
        PEER_NAMES
    )


def test_contestant_refuses_what_it_cannot_do() -> None:
    """An operation that is not defined says so, and counts as not there."""
    kind = find("skyward_scripts.bench.references.legs:OneLeg")
    assert has_operation(kind, "call")
    assert not has_operation(kind, "gather")
    with pytest.raises(NotImplementedError, match="OneLeg has no gather"):
        kind().gather([])


def test_marked_functions_are_the_plain_ones() -> None:
    """All contestants run the same."""
    bodies = [_functions(module) for module in (tasks, marked)]
    assert bodies[0] == bodies[1]
    assert len(bodies[0]) == 10


def _functions(module: object) -> dict[str, str]:
    tree = ast.parse(inspect.getsource(module))  # type: ignore[arg-type]  # it is a module
    found = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    return {node.name: ast.unparse([*node.body]) for node in found}  # type: ignore[arg-type]  # lists do, too
