"""What users hand in: numbers, one thing or several, names of files to write."""

import operator
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def whole_number(name: str, value: object, least: int) -> int:
    """`value` as an int: Python's, or one of NumPy's or a tensor's.

    Raises:
        ValueError: it is no whole number, or less than `least`.
    """
    try:
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise ValueError(f"{name} must be a whole number, got {value!r}") from None
    if isinstance(value, bool) or number < least:
        raise ValueError(f"{name} must be a whole number of at least {least}, got {value!r}")
    return number


def is_several(value: object) -> bool:
    """Whether it holds several things; a string, and an array without axes, is one."""
    return isinstance(value, Iterable) and not isinstance(value, str) and getattr(value, "ndim", 1) > 0


def as_list(value: Any) -> list[Any]:
    """One thing or several as a list."""
    return list(value) if is_several(value) else [value]


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
