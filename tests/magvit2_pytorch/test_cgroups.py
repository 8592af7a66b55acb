"""Limits of control groups, in made files of both versions."""

from pathlib import Path

import pytest

from magvit2_pytorch.cgroups import cpu_quota, memory_limit

GIB = 2**30


def write(root: Path, files: dict[str, str]) -> None:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{content}\n")


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        pytest.param({}, None, id="another system"),
        pytest.param({"proc/self/cgroup": "0::/"}, None, id="top of version 2, which has no such files"),
        pytest.param({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "max 100000"}, None, id="no limit"),
        pytest.param({"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "250000 100000"}, 2.5, id="container"),
        pytest.param(
            {"proc/self/cgroup": "0::/docker/1", "sys/fs/cgroup/cpu.max": "100000 50000"}, 2.0, id="path outside"
        ),
        pytest.param(
            {
                "proc/self/cgroup": "0::/slurm/job:1/step",
                "sys/fs/cgroup/slurm/cpu.max": "800000 100000",
                "sys/fs/cgroup/slurm/job:1/cpu.max": "300000 100000",
                "sys/fs/cgroup/slurm/job:1/step/cpu.max": "max 100000",
                "sys/fs/cgroup/slurm/other/cpu.max": "100000 100000",
            },
            3.0,
            id="least of all groups above",
        ),
        pytest.param(
            {
                "proc/self/cgroup": "4:memory:/a\n3:cpuset:/\n2:cpu,cpuacct:/b\n0::/",
                "sys/fs/cgroup/cpu/b/cpu.cfs_quota_us": "150000",
                "sys/fs/cgroup/cpu/b/cpu.cfs_period_us": "100000",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
                "sys/fs/cgroup/cpuset/cpu.cfs_quota_us": "1000",
                "sys/fs/cgroup/cpuset/cpu.cfs_period_us": "100000",
            },
            1.5,
            id="version 1",
        ),
        pytest.param(
            {
                "proc/self/cgroup": "2:cpu:/",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
            },
            None,
            id="version 1 without a limit",
        ),
    ],
)
def test_the_quota_of_cores_is_the_least_of_the_groups(
    tmp_path: Path, files: dict[str, str], expected: float | None
) -> None:
    write(tmp_path, files)

    assert cpu_quota(tmp_path) == expected


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        pytest.param({}, None, id="another system"),
        pytest.param({"proc/self/cgroup": "0::/", "sys/fs/cgroup/memory.max": "max"}, None, id="no limit"),
        pytest.param(
            {
                "proc/self/cgroup": "0::/pod/container",
                "sys/fs/cgroup/pod/memory.max": str(4 * GIB),
                "sys/fs/cgroup/pod/container/memory.max": str(8 * GIB),
            },
            4 * GIB,
            id="version 2",
        ),
        pytest.param(
            {
                "proc/self/cgroup": "4:memory:/a\n0::/",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712",
                "sys/fs/cgroup/memory/a/memory.limit_in_bytes": str(2 * GIB),
            },
            2 * GIB,
            id="version 1",
        ),
    ],
)
def test_the_limit_of_memory_is_the_least_of_the_groups(
    tmp_path: Path, files: dict[str, str], expected: int | None
) -> None:
    write(tmp_path, files)

    assert memory_limit(tmp_path) == expected
