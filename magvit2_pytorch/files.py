"""Files: written whole or not at all, JSON, and the names of results."""

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def as_path(path: str | os.PathLike[str]) -> Path:
    """The path that a user means: a leading `~` is the home folder."""
    return Path(path).expanduser()


@contextmanager
def written_whole(path: str | Path) -> Iterator[Path]:
    """A path to write to in place of `path`, renamed to `path` at the end and removed after an error.

    Nobody ever sees half a file: a crash leaves the old one, or none. The ending stays the same,
    for writers that choose the format by it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=path.suffix, dir=path.parent)
    except OSError as error:
        error.filename = str(path)  # what was asked for
        raise
    os.close(handle)
    aside = Path(name)
    try:
        yield aside
        with aside.open("rb") as file:
            os.fsync(file.fileno())
        aside.chmod(0o666 & ~_umask())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def write_json(path: str | Path, content: Any) -> None:
    """Write `content` as indented JSON, whole or not at all."""
    with written_whole(path) as aside:
        aside.write_text(json.dumps(content, indent=2) + "\n")


def read_json(path: str | Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file holds no JSON object.
    """
    try:
        content = json.loads(Path(path).read_text())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} must hold a JSON object, got {type(content).__name__}")
    return content


def check_result_file(path: str | Path, *others: object) -> Path:
    """The path of a file to write, before the work that it is to hold.

    Args:
        others: what else the call reads or writes; of these, only paths are looked at.

    Raises:
        ValueError: it is a folder, one of the others, or in a place where nothing can be written.
    """
    path = Path(path)
    if path.is_dir():
        raise ValueError(f"{path} is a folder, not a file to write")
    if any(isinstance(other, str | Path) and os.path.realpath(other) == os.path.realpath(path) for other in others):
        raise ValueError(f"{path} is to hold the result, but it is also another file of this call: give it a new name")
    nearest = next((folder for folder in path.absolute().parents if folder.exists()), Path.cwd())
    if not (nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK)):
        raise ValueError(f"{path} cannot be written: nothing can be made in {nearest}")
    return path


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
