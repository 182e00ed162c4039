"""Counting the CPUs that may really be used."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from skyward.machine.cpus import cpus_within, usable_cpus

if TYPE_CHECKING:
    from pathlib import Path

V1 = "4:cpu,cpuacct:/docker/abc\n2:memory:/docker/abc\n"
V2 = "0::/user/job\n"


def write(folder: Path, **files: str) -> None:
    """Write files of a cgroup."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text + "\n")


@pytest.mark.rule("R31")
@pytest.mark.parametrize(
    ("quota", "cpus"),
    [("200000 100000", 2), ("150000 100000", 2), ("10000 100000", 1), ("max 100000", 8), ("1600000 100000", 8)],
)
def test_quota_of_version_2_counts(tmp_path: Path, quota: str, cpus: int) -> None:
    """A quota is rounded up to CPUs, and is never less than one or more than the affinity."""
    write(tmp_path / "user" / "job", cpu__max=quota)
    assert cpus_within(8, V2, str(tmp_path)) == cpus


@pytest.mark.rule("R31")
@pytest.mark.parametrize(("quota", "cpus"), [("300000", 3), ("-1", 8), ("50000", 1)])
def test_quota_of_version_1_counts(tmp_path: Path, quota: str, cpus: int) -> None:
    """The older files say the same in two numbers; -1 means no quota."""
    write(tmp_path / "cpu,cpuacct" / "docker" / "abc", cpu__cfs_quota_us=quota, cpu__cfs_period_us="100000")
    assert cpus_within(8, V1, str(tmp_path)) == cpus


def test_quota_of_a_parent_counts(tmp_path: Path) -> None:
    """The tightest quota on the way to the root wins."""
    write(tmp_path / "user" / "job", cpu__max="600000 100000")
    write(tmp_path / "user", cpu__max="400000 100000")
    assert cpus_within(8, V2, str(tmp_path)) == 4


def test_container_sees_its_quota_at_the_root(tmp_path: Path) -> None:
    """Where the named folder is not mounted the root holds the quota."""
    write(tmp_path, cpu__max="300000 100000")
    write(tmp_path / "cpu", cpu__cfs_quota_us="200000", cpu__cfs_period_us="100000")
    assert cpus_within(8, V2, str(tmp_path)) == 3
    assert cpus_within(8, V1, str(tmp_path)) == 2


def test_absent_or_strange_files_mean_no_quota(tmp_path: Path) -> None:
    """Without cgroups, or with files of another form, affinity alone counts."""
    assert cpus_within(5, "", str(tmp_path)) == 5
    write(tmp_path, cpu__max="")
    assert cpus_within(5, V2 + "rubbish\n", str(tmp_path)) == 5


@pytest.mark.rule("R31")
def test_affinity_counts() -> None:
    """A process that is bound to one CPU uses one."""
    mask = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(mask)})
    try:
        assert usable_cpus() == 1
    finally:
        os.sched_setaffinity(0, mask)
