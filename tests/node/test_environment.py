"""The variables a worker starts with."""

from __future__ import annotations

import pytest

from skyward_node.executors.environment import THREAD_VARIABLES, worker_environment


def environment(**values: object) -> dict[str, str]:
    """Return the variables for a worker that is alone, but for what is given."""
    defaults: dict[str, object] = {
        "cpus": 8, "slots": 1, "index": 0, "workers": 1, "accelerators": (), "divided": False, "environ": {},
    }  # fmt: skip
    return worker_environment(**(defaults | values))  # type: ignore[arg-type]  # a dict of mixed values


@pytest.mark.rule("R50")
@pytest.mark.parametrize(("cpus", "slots", "threads"), [(8, 1, "8"), (8, 3, "2"), (8, 8, "1"), (2, 100, "1")])
def test_numeric_libraries_share_the_cpus(cpus: int, slots: int, threads: str) -> None:
    """Each worker's thread pools have CPUs ÷ slots threads, and at least one."""
    assert environment(cpus=cpus, slots=slots) == dict.fromkeys(THREAD_VARIABLES, threads)


@pytest.mark.rule("R50")
def test_what_the_user_has_set_stays() -> None:
    """A variable of the user's is left alone; OMP_NUM_THREADS speaks for the libraries that fall back to it."""
    added = environment(environ={"MKL_NUM_THREADS": "4"})
    assert "MKL_NUM_THREADS" not in added
    assert added["OMP_NUM_THREADS"] == "8"
    assert environment(environ={"OMP_NUM_THREADS": "3"}) == {}


@pytest.mark.rule("R50")
@pytest.mark.parametrize(
    ("workers", "expected"),
    [
        (2, ["0,1", "2,3"]),
        (3, ["0", "1", "2,3"]),
        (4, ["0", "1", "2", "3"]),
        (8, ["0", "0", "1", "1", "2", "2", "3", "3"]),
    ],
)
def test_each_worker_sees_its_share_of_the_accelerators(workers: int, expected: list[str]) -> None:
    """Devices are dealt out evenly, shared by neighbours when there are too few, and a lent worker wraps around."""
    shares = [
        environment(workers=workers, index=index, accelerators=("0", "1", "2", "3"))["CUDA_VISIBLE_DEVICES"]
        for index in range(workers + 1)
    ]
    assert shares == [*expected, expected[0]]


def test_a_single_worker_sees_all_accelerators() -> None:
    """Nothing is set when there is nothing to divide."""
    assert "CUDA_VISIBLE_DEVICES" not in environment(accelerators=("0", "1"))
    assert "CUDA_VISIBLE_DEVICES" not in environment(workers=4)


@pytest.mark.rule("R50")
def test_a_single_worker_sees_its_nodes_share() -> None:
    """When the node is not alone on the machine it says to its worker which devices are not another's."""
    assert environment(accelerators=("0", "1"), divided=True) == environment() | {"CUDA_VISIBLE_DEVICES": "0,1"}
    assert "CUDA_VISIBLE_DEVICES" not in environment(divided=True)
