"""What users hand in by name or number: options, whole numbers, one thing or several."""

import operator
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
