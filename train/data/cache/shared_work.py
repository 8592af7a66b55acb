"""Files that several processes make together: whoever comes takes the next missing one, by a lock file next to it."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Event

from filelock import FileLock, Timeout

LOCK_ENDING = ".lock"
POLL = 0.05  # seconds


def make_together(
    paths: Sequence[Path],
    make: Callable[[Path], None],
    *,
    found: Callable[[Path], None] | None = None,
    stop: Event | None = None,
) -> None:
    """Make each file that does not exist and that no other process is making. Return when all exist.

    The lock of a process that is killed is released, so that another one makes its file.

    Args:
        make: makes a file, which appears when it is complete.
        found: called for each file that another process has made.
        stop: when set, return as soon as `make` does.
    """
    waiting = list(paths)
    while waiting:
        busy = []
        for path in waiting:
            if not make_if_free(path, make, found, stop):
                busy.append(path)
            if stop is not None and stop.is_set():
                return
        if len(busy) == len(waiting):
            time.sleep(POLL)
        waiting = busy


def make_if_free(
    path: Path, make: Callable[[Path], None], found: Callable[[Path], None] | None, stop: Event | None
) -> bool:
    """Make a file unless it exists. Return False if another process is making it."""
    lock_path = path.with_name(path.name + LOCK_ENDING)
    lock_path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(lock_path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return False
    try:
        if not path.is_file():
            make(path)
        elif found is not None:
            found(path)
        if path.is_file():
            lock_path.unlink(missing_ok=True)  # whoever still gets the lock sees the file
    finally:
        lock.release()
    return True
