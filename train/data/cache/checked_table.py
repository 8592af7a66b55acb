"""Arrow tables in files that end with the SHA-256 of their content."""

import hashlib
import io
import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa

DIGEST_BYTES = 32
UNFINISHED = ".unfinished"


class DamagedFileError(Exception):
    """A file is not what was written."""


def write_table(path: Path, table: pa.Table) -> None:
    """Write a table to a file, which appears when it is complete."""
    buffer = io.BytesIO()
    with pa.ipc.new_stream(buffer, table.schema) as writer:
        writer.write_table(table)
    content = buffer.getvalue()
    with unfinished(path) as aside:
        with aside.open("wb") as file:
            file.write(content + hashlib.sha256(content).digest())
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)


def check_table(path: Path) -> None:
    """Check that a file has the content that was written.

    Raises:
        DamagedFileError: if it is not what was written.
        FileNotFoundError: if there is no such file.
    """
    content = path.read_bytes()
    payload = memoryview(content)[: max(0, len(content) - DIGEST_BYTES)]
    if hashlib.sha256(payload).digest() != content[len(payload) :]:
        raise DamagedFileError(f"{path} is damaged")


def open_table(path: Path) -> pa.Table:
    """Return the table in a file, memory-mapped and without a check of its content.

    Raises:
        DamagedFileError: if there is no table in it.
        FileNotFoundError: if there is no such file.
    """
    with path.open("rb") as file:
        try:
            content = pa.py_buffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
            return pa.ipc.open_stream(content.slice(0, max(0, len(content) - DIGEST_BYTES))).read_all()
        except (ValueError, OSError, pa.ArrowException) as error:
            raise DamagedFileError(f"{path} is damaged: {error}") from error


@contextmanager
def unfinished(path: Path) -> Iterator[Path]:
    """Yield a path for writing, next to the final one. What is left there at the end is deleted."""
    aside = path.with_name(path.name + UNFINISHED)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield aside
    finally:
        aside.unlink(missing_ok=True)
