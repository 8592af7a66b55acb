"""Processor cores that this process may use."""

import os
import sys

from ..cgroups import cpu_quota


def available_cores() -> int:
    """Return the number of cores that this process may use.

    A container may have a share of all cores instead of a set of its own. It is rounded down, since the system pauses
    all threads of a process that uses more. From Python 3.13 on, PYTHON_CPU_COUNT replaces the number of cores that the
    process may run on.
    """
    quota = cpu_quota()
    return cores_of_process() if quota is None else max(1, min(cores_of_process(), int(quota)))


def cores_of_process() -> int:
    """Return the number of cores that the system may run this process on."""
    if sys.version_info >= (3, 13):
        return os.process_cpu_count() or 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processes_here() -> int:
    """Return the number of processes of this run on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
