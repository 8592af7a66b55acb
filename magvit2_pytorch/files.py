"""Files: paths as users write them, atomic writes, JSON, and checks of output paths."""

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from .messages import printable

MAX_JSON_BYTES = 2**24
MAX_HEADER_BYTES = 2**24
MAX_EXTENSION = 16  # characters; temporary files do not keep longer extensions


def as_path(path: str | os.PathLike[str]) -> Path:
    """Return a path with a leading `~` replaced by the home folder.

    Raises:
        ValueError: if it contains a null character, or if there is no home folder.
    """
    if "\0" in os.fspath(path):
        raise ValueError(f"a path must not contain a null character, got {printable(path)!r}")
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise ValueError(f"~ in {printable(path)!r} cannot be replaced: the home folder is unknown") from error


@contextmanager
def written_whole(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path that is renamed to `path` at the end of the block, and removed after an error.

    A crash leaves the old file or none, never a part of one. The temporary file has the same extension, because some
    writers choose the format by it.
    """
    path = as_path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    extension = path.suffix if len(path.suffix) <= MAX_EXTENSION else ""
    try:
        handle, name = tempfile.mkstemp(prefix=".unfinished-", suffix=extension, dir=path.parent)
    except OSError as error:
        error.filename = str(path)  # instead of the temporary name
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


@contextmanager
def utf8_name(path: Path) -> Iterator[str]:
    """Yield a path of an existing file in valid UTF-8: `path` itself, or `/dev/fd/N` if `path` is not valid UTF-8."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        with path.open("rb") as file:
            yield f"/dev/fd/{file.fileno()}"
    else:
        yield str(path)


def write_json(path: str | Path, content: Any) -> None:
    """Write `content` as indented JSON, atomically."""
    with written_whole(path) as aside:
        aside.write_text(json.dumps(content, indent=2) + "\n")


def read_json(path: str | Path, *, max_bytes: int = MAX_JSON_BYTES) -> dict[str, Any]:
    """Return the object in a JSON file of at most `max_bytes`.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is too large, is not valid JSON, contains NaN, infinity or a duplicate key, or does not
            contain an object.
    """
    path = as_path(path)
    if (size := path.stat().st_size) > max_bytes:
        raise ValueError(f"{path} has {size:,} bytes, at most {max_bytes:,} are allowed")
    try:
        text = path.read_text(encoding="utf-8")
        content = json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_as_object)
    except RecursionError as error:
        raise ValueError(f"{path} cannot be read as JSON: it is nested too deeply") from error
    except ValueError as error:  # JSONDecodeError, UnicodeDecodeError, an integer with too many digits
        raise ValueError(f"{path} is not a valid JSON file: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} must contain a JSON object, got {type(content).__name__}")
    return content


def check_tensor_file(path: Path) -> None:
    """Check the size of the header of a safetensors file before the header is read.

    Raises:
        ValueError: if it is larger than `MAX_HEADER_BYTES`.
    """
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
    if MAX_HEADER_BYTES < size <= path.stat().st_size:  # safetensors refuses a header beyond the end of the file
        raise ValueError(f"{path} has a header of {size:,} bytes, at most {MAX_HEADER_BYTES:,} are allowed")


def check_result_file(path: str | Path, *others: object) -> Path:
    """Check, before any work starts, that an output file can be written, and return its path.

    Args:
        others: inputs and other outputs. Those that are paths must be different files.

    Raises:
        ValueError: if it is a folder, is one of the others, or cannot be written.
    """
    path = as_path(path)
    if path.is_dir():
        raise ValueError(f"the output must be a file, but {path} is a folder")
    paths = [as_path(other) for other in others if isinstance(other, str | Path)]
    if any(os.path.realpath(other) == os.path.realpath(path) for other in paths):
        raise ValueError(f"the output {path} must differ from the inputs and the other outputs")
    nearest = next((folder for folder in path.absolute().parents if folder.exists()), Path.cwd())
    if not (nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK)):
        raise ValueError(f"the output {path} cannot be written: {nearest} is not a writable folder")
    return path


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not allowed")


def _as_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content: dict[str, Any] = {}
    for key, value in pairs:
        if key in content:
            raise ValueError(f"the key {printable(key)!r} occurs twice in one object")
        content[key] = value
    return content


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
