"""Nodes of this machine: what they are as processes, and what workers find around them (R31)."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import psutil
import pytest

import skyward as sky
from skyward.machine.cpus import usable_cpus
from tests.rules.processes import daemons, script
from tests.rules.work import meet, place

if TYPE_CHECKING:
    from pathlib import Path

LOOK = (
    "@sky.function\n"
    "def look(_):\n"
    "    old = os.umask(0)\n"
    "    os.umask(old)\n"
    "    return os.getcwd(), os.environ.get('WORD'), [p for p in sys.path if 'marked' in p], oct(old), os.getpid()\n"
)


@pytest.mark.rule("R31")
def test_every_slot_is_a_worker_below_its_daemon(tmp_path: Path) -> None:
    """The daemons are children of the client, the workers their descendants; daemons run no task."""
    with sky.Compute(nodes=2, concurrency=2) as pool:
        met = sky.gather(*[meet(str(tmp_path), str(i), 4) for i in range(4)]) >> pool
        nodes = daemons(pool)
        below = [{child.pid for child in node.children(recursive=True)} for node in nodes]
        workers = {pid for _, pid in met}
        assert len(workers) == 4
        assert [len(workers & pids) for pids in below] == [2, 2]
        assert workers.isdisjoint({node.pid for node in nodes})
        assert {node.ppid() for node in nodes} == {os.getpid()}
        assert all("skyward-node" in node.cmdline() for node in nodes)


@pytest.mark.rule("R31")
@pytest.mark.parametrize("bound", [True, False], ids=["one", "all"])
def test_default_is_one_node_per_usable_cpu(bound: bool) -> None:
    """Of one slot, at most eight; a client that is bound to one CPU gets one."""
    mask = os.sched_getaffinity(0)
    try:
        if bound:
            os.sched_setaffinity(0, {max(mask)})
        expected = 1 if bound else min(8, usable_cpus())
        with sky.Compute() as pool:
            assert (pool.current_nodes(), pool.concurrency) == (expected, 1)
            assert [(value, rank) for value, _, rank in place("x") @ pool] == [("x", i) for i in range(expected)]
    finally:
        os.sched_setaffinity(0, mask)


@pytest.mark.rule("R31")
def test_replacement_has_the_surroundings_of_open(tmp_path: Path) -> None:
    """What the client changes after `open` is seen by no worker, however late it starts."""
    process = script(
        "import os, signal, sys, time\nimport skyward as sky\n" + LOOK + "os.environ['WORD'] = 'then'\n"
        "os.umask(0o027)\nsys.path.append('/marked/then')\n"
        "pool = sky.Compute(nodes=2).open()\n"
        "home = os.getcwd()\n"
        "os.chdir('/')\nos.environ['WORD'] = 'now'\nos.umask(0o077)\nsys.path.append('/marked/now')\n"
        "first = look(1) @ pool\n"
        "for node in pool.snapshot().nodes:\n    os.kill(node.pid, signal.SIGKILL)\n"
        "second = [look(i).with_retries(5) >> pool for i in range(2)]\n"
        "assert not {row[-1] for row in first} & {row[-1] for row in second}\n"
        "for row in first + second:\n"
        "    assert row[:-1] == (home, 'then', ['/marked/then'], '0o27'), row\n"
        "pool.close()\n"
        "print(len(first), len(second))\n",
        cwd=tmp_path,
    )
    out, err = process.communicate(timeout=60)
    assert out == "2 2\n", err


@pytest.mark.rule("R31")
def test_stdin_stays_the_clients(tmp_path: Path) -> None:
    """A task that reads finds nothing; what is typed waits for the client."""
    source = (
        "import os, sys\nimport skyward as sky\n"
        "@sky.function\ndef read(word):\n    return word, os.readlink('/proc/self/fd/0'), sys.stdin.read()\n"
        "with sky.Compute(nodes=2) as pool:\n    print(read('a') @ pool)\nprint(sys.stdin.read())\n"
    )
    process = subprocess.run(
        [sys.executable, "-c", source],
        input="typed",
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        timeout=60,
    )
    expected = [("a", "/dev/null", "")] * 2
    assert process.stdout == f"{expected}\ntyped\n", process.stderr


@pytest.mark.rule("R31")
@pytest.mark.parametrize("way", ["script", "module", "stdin"])
def test_main_program_is_imported_by_nobody(tmp_path: Path, way: str) -> None:
    """Without a guard it runs just once, also when a worker dies or uses the script's own functions and modules."""
    (tmp_path / "helper.py").write_text("def double(x):\n    return 2 * x\n")
    source = (
        "with open('imports', 'a') as file:\n    file.write('x')\n"
        "import os\nimport skyward as sky\nimport helper\n"
        "def inner(x):\n    return helper.double(x)\n"
        "@sky.function\ndef work(x):\n    return inner(x), os.getpid()\n"
        "@sky.function\ndef die(x):\n    os._exit(x)\n"
        "pool = sky.Compute(nodes=2).open()\n"
        "first = work(4) @ pool\n"
        "for rank in range(2):\n"
        "    try:\n        die(7).on(rank) >> pool\n"
        "    except sky.WorkerCrashedError as error:\n        assert error.exitcode == 7\n"
        "second = work(4) @ pool\n"
        "assert len({pid for _, pid in first + second}) == 4\n"
        "print([value for value, _ in first + second])\npool.close()\n"
    )
    (tmp_path / "program.py").write_text(source)
    arguments = {"script": ["program.py"], "module": ["-m", "program"], "stdin": ["-"]}[way]
    process = subprocess.run(
        [sys.executable, *arguments],
        input=source if way == "stdin" else "",
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        timeout=60,
    )
    assert process.stdout == "[8, 8, 8, 8]\n", process.stderr
    assert (tmp_path / "imports").read_text() == "x"


@pytest.mark.rule("R31")
def test_pools_side_by_side_share_nothing() -> None:
    """Each has daemons and workers of its own."""
    with sky.Compute(nodes=1) as one, sky.Compute(nodes=1) as two:
        (a,), (b,) = daemons(one), daemons(two)
        assert a.pid != b.pid
        pids = [(place(name) >> pool)[:2] for name, pool in (("one", one), ("two", two))]
        assert [name for name, _ in pids] == ["one", "two"]
        for (_, pid), daemon in zip(pids, (a, b), strict=True):
            assert daemon.pid in {parent.pid for parent in psutil.Process(pid).parents()}
