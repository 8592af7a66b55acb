"""Checks of arguments: options by name, integers, single values and lists."""

import operator
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from .messages import allowed_names, printable

T = TypeVar("T")


def chosen(options: Mapping[str, T], name: str, what: str) -> T:
    """Return the option called `name`.

    Args:
        what: kind of option for the error message, for example `preset`.

    Raises:
        ValueError: if there is no such option.
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
        raise ValueError(f"{name} must be an integer, got {printable(repr(value))}") from None
    if isinstance(value, bool) or number < least or (most is not None and number > most):
        allowed = f">= {least}" if most is None else f"from {least} to {most}"
        raise ValueError(f"{name} must be an integer {allowed}, got {printable(repr(value))}")
    return number


def is_several(value: object) -> bool:
    """Return whether a value is a collection. Strings and arrays without dimensions are single values."""
    return isinstance(value, Iterable) and not isinstance(value, str) and getattr(value, "ndim", 1) > 0


def as_list(value: Any) -> list[Any]:
    """Return a collection as a list, and a single value as a list of one element."""
    return list(value) if is_several(value) else [value]
