"""Numbers that users hand in: whole ones, one or several."""

import operator
from collections.abc import Iterable
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
