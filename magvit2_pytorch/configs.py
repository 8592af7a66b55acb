"""Config dataclasses to JSON and back. Unknown fields and wrong types are errors."""

import dataclasses
import json
import os
import reprlib
import sys
import types
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from .messages import allowed_names, printable

T = TypeVar("T")


def config_to_dict(config: Any) -> dict[str, Any]:
    """Return a config dataclass as JSON types: tuples become lists, paths become strings."""
    return json.loads(json.dumps(dataclasses.asdict(config), default=os.fspath))


def config_from_dict(config_class: type[T], values: dict[str, Any], *, where: str = "config") -> T:
    """Return the config that `values` describes; the inverse of `config_to_dict`. Missing fields take their default.

    Raises:
        ValueError: if a field is unknown or required and missing, or if a value has a wrong type or is out of range.
    """
    hints = get_type_hints(config_class)
    known = [field.name for field in dataclasses.fields(config_class) if field.init]  # type: ignore[arg-type]
    for name in values:
        if name not in known:
            raise ValueError(
                f"{where}: unknown field {printable(name)!r} of {config_class.__name__}: {allowed_names(name, known)}"
            )
    for field in dataclasses.fields(config_class):  # type: ignore[arg-type]
        is_required = field.default is field.default_factory is dataclasses.MISSING
        if field.init and is_required and field.name not in values:
            raise ValueError(f"{where}: the field {field.name!r} of {config_class.__name__} is missing")
    typed = {name: _typed(hints[name], value, f"{where}.{name}") for name, value in values.items()}
    try:
        return config_class(**typed)
    except ValueError as error:  # the class checks ranges
        raise ValueError(f"{where}: {error}") from error


def _typed(hint: Any, value: Any, where: str) -> Any:
    """Return `value` as the type `hint`: lists become tuples and objects become dataclasses."""
    if hint is int and type(value) is int and not -(2**63) <= value < 2**63:
        raise ValueError(f"{where} must fit into 64 bits, got an integer of {value.bit_length()} bits")
    if type(value) is hint and hint is not float:  # first, since the other checks may visit a long list
        return value
    origin, arguments = get_origin(hint), get_args(hint)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type) and isinstance(value, dict):
        return config_from_dict(hint, value, where=where)
    if origin in (Union, types.UnionType):
        for option in arguments:
            try:
                return _typed(option, value, where)
            except ValueError:
                continue
    elif origin is Literal and any(type(option) is type(value) and option == value for option in arguments):
        return value
    elif origin is tuple and isinstance(value, list | tuple):
        if len(arguments) == 2 and arguments[1] is ...:
            return tuple(_typed(arguments[0], item, f"{where}[{index}]") for index, item in enumerate(value))
        if len(arguments) == len(value):
            pairs = enumerate(zip(arguments, value, strict=True))
            return tuple(_typed(option, item, f"{where}[{index}]") for index, (option, item) in pairs)
    elif hint is float:
        if type(value) in (int, float) and abs(value) <= sys.float_info.max:  # neither NaN nor infinite
            return float(value)
    elif hint is Path and isinstance(value, str):
        return Path(value)
    elif hint is type(None) and value is None:
        return None
    expected = hint.__name__ if isinstance(hint, type) else str(hint).replace("typing.", "")
    if origin is Literal:
        expected = f"one of {', '.join(map(repr, arguments))}"
    raise ValueError(f"{where} must be {expected}, got {reprlib.repr(value)}")
