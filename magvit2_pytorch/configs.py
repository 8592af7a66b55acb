"""Config dataclasses as JSON and back, strictly: unknown names and wrong types are refused."""

import dataclasses
import difflib
import json
import os
import types
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")


def config_to_dict(config: Any) -> dict[str, Any]:
    """A config dataclass as what JSON can hold: tuples become lists, paths become strings."""
    return json.loads(json.dumps(dataclasses.asdict(config), default=os.fspath))


def config_from_dict(config_class: type[T], values: dict[str, Any], *, where: str = "config") -> T:
    """The inverse of `config_to_dict`: unknown names and wrong types are refused, missing ones take the default.

    Raises:
        ValueError: naming the field, what was given and what is allowed.
    """
    hints = get_type_hints(config_class)
    known = {field.name for field in dataclasses.fields(config_class) if field.init}  # type: ignore[arg-type]
    for name in values:
        if name not in known:
            nearest = difflib.get_close_matches(name, known, n=1)
            hint = f"perhaps you meant {nearest[0]!r}" if nearest else f"its fields are {', '.join(sorted(known))}"
            raise ValueError(f"{where}: a {config_class.__name__} has no field {name!r}; {hint}")
    try:
        return config_class(**{name: _typed(hints[name], value, f"{where}.{name}") for name, value in values.items()})
    except TypeError as error:  # a required field is missing
        raise ValueError(f"{where}: {error}") from error


def _typed(hint: Any, value: Any, where: str) -> Any:
    """`value` as the type that `hint` names: JSON's lists become tuples and objects become dataclasses."""
    origin, arguments = get_origin(hint), get_args(hint)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type) and isinstance(value, dict):
        return config_from_dict(hint, value, where=where)
    if origin in (Union, types.UnionType):
        for option in arguments:
            try:
                return _typed(option, value, where)
            except ValueError:
                continue
    elif origin is Literal and value in arguments:
        return next(option for option in arguments if option == value and type(option) is type(value))
    elif origin is tuple and isinstance(value, list | tuple):
        if len(arguments) == 2 and arguments[1] is ...:
            return tuple(_typed(arguments[0], item, where) for item in value)
        if len(arguments) == len(value):
            return tuple(_typed(option, item, where) for option, item in zip(arguments, value, strict=True))
    elif hint is float and type(value) in (int, float):
        return float(value)
    elif hint is Path and isinstance(value, str):
        return Path(value)
    elif hint is type(None) and value is None:
        return None
    elif isinstance(hint, type) and type(value) is hint:
        return value
    expected = hint.__name__ if isinstance(hint, type) else str(hint)
    raise ValueError(f"{where} must be {expected}, got {value!r}")
