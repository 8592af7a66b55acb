"""Limits of Linux control groups (cgroups), with which containers and batch systems restrict their processes.

A process belongs to a group, and the limits of all groups above it apply to it as well. Version 2 of cgroups has one
hierarchy of groups, version 1 has one for each controller, such as `cpu` and `memory`.
"""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

ROOT = Path("/")


def cpu_quota(root: Path = ROOT) -> float | None:
    """Return the number of processor cores that this process may use on average, or None without a limit.

    Args:
        root: folder that contains `proc` and `sys`.
    """
    quotas = []
    for group in groups("cpu", root):
        values = words(group / "cpu.max") or words(group / "cpu.cfs_quota_us") + words(group / "cpu.cfs_period_us")
        match values:
            case [quota, period] if quota.isdigit():  # version 2 writes `max` for no limit, version 1 writes -1
                quotas.append(int(quota) / int(period))
    return min(quotas, default=None)


def memory_limit(root: Path = ROOT) -> int | None:
    """Return the number of bytes of memory that this process may use, or None without a limit.

    Args:
        root: folder that contains `proc` and `sys`.
    """
    limits = []
    for group in groups("memory", root):
        match words(group / "memory.max") or words(group / "memory.limit_in_bytes"):
            case [limit] if limit.isdigit():  # without a limit, version 1 writes a number of about 2^63
                limits.append(int(limit))
    return min(limits, default=None)


def groups(controller: str, root: Path) -> Iterator[Path]:
    """Yield the folders of the groups of this process, each followed by the groups above it.

    A container may see the path of its group outside, but only the content of its own group, at the top. So folders
    that do not exist are among them.
    """
    mounts = root / "sys/fs/cgroup"
    for line in lines(root / "proc/self/cgroup"):  # hierarchy:controllers:path
        _, controllers, path = line.split(":", maxsplit=2)
        if controllers == "":  # version 2
            mount = mounts
        elif controller in controllers.split(","):
            mount = mounts / controller  # also if it is mounted as `cpu,cpuacct`: there are links
        else:
            continue
        relative = PurePosixPath(path.lstrip("/"))
        yield from (mount / folder for folder in (relative, *relative.parents))


def words(path: Path) -> list[str]:
    return " ".join(lines(path)).split()


def lines(path: Path) -> list[str]:
    """Return the lines of a file, none if it cannot be read."""
    try:
        return path.read_text().splitlines()
    except OSError:
        return []
