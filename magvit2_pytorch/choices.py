"""What users hand in by name or number: options, whole numbers, one thing or several."""

import operator
import reprlib
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from .messages import allowed_names, printable

T = TypeVar("T")


def chosen(options: Mapping[str, T], name: str, what: str) -> T:
    """The option of that name.

    Args:
        what: is chosen, for the error.

    Raises:
        ValueError: there is none, naming the nearest.
    """
    if name not in options:
        raise ValueError(f"unknown {what} {printable(name)!r}: {allowed_names(name, options)}")
    return options[name]


def whole_number(name: str, value: object, least: int, most: int | None = None) -> int:
    """Return `value`, an integer of Python, NumPy or a tensor, as an int.

    Raises:
        ValueError: if it is not an integer, is less than `least` or is greater than `most`.
    """
    try:
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise ValueError(f"{name} must be a whole number, got {reprlib.repr(value)}") from None
    if isinstance(value, bool) or number < least or (most is not None and number > most):
        allowed = f"of at least {least}" if most is None else f"from {least} to {most}"
        raise ValueError(f"{name} must be a whole number {allowed}, got {reprlib.repr(value)}")
    return number


def is_several(value: object) -> bool:
    """Whether it holds several things; a string, and an array without axes, is one."""
    return isinstance(value, Iterable) and not isinstance(value, str) and getattr(value, "ndim", 1) > 0


def as_list(value: Any) -> list[Any]:
    """One thing or several as a list."""
    return list(value) if is_several(value) else [value]
