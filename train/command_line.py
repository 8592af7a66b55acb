"""Command lines from config dataclasses: a preset's name, then options that change it."""

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import tyro
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

from ..pretrained import config_from_dict, read_json
from ..tokenizer.layer_kinds import LAYER_KINDS, LayerSpec
from .session import RunConfig

Run = TypeVar("Run", bound=RunConfig)

registry = ConstructorRegistry()


def parse_run(presets: Mapping[str, Run], *, description: str, arguments: Sequence[str] | None = None) -> Run:
    """The run that a command line describes: `[PRESET | --config FILE] [--option value ...]`.

    The first preset is the default. `--config` takes the `config.json` of an earlier run as the starting point.
    An unknown option stops the program and names the nearest one.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    names = list(presets)
    base = presets[names[0]]
    if given and given[0] == "--config":
        if len(given) < 2:
            sys.exit("error: --config takes the config.json of a run")
        base = config_from_dict(type(base), read_json(given[1]), where=given[1])
        base = replace(base, resume=False, stop_after=None)
        given = given[2:]
    elif given and not given[0].startswith("-"):
        if given[0] not in presets:
            sys.exit(f"error: there is no preset {given[0]!r}, allowed are {', '.join(names)}")
        base = presets[given[0]]
        given = given[1:]
    usage = (
        f"{description}\n\nPresets: {', '.join(names)} (the first is the default). "
        "`--config FILE` starts from the config.json of a run."
    )
    with registry:
        return tyro.cli(type(base), default=base, args=given, description=usage, config=(tyro.conf.FlagCreatePairsOff,))


def parse_layers(text: str) -> tuple[LayerSpec, ...]:
    """`residual,compress_space:128` as ('residual', ('compress_space', 128)).

    Raises:
        ValueError: another form.
    """
    layers: list[LayerSpec] = []
    for part in text.split(","):
        match = re.fullmatch(r"([a-z_]+)(?::(\d+))?", part.strip())
        if match is None:
            raise ValueError(
                f"layers are written like residual,compress_space:128 (kinds: {', '.join(LAYER_KINDS)}), got {text!r}"
            )
        name, width = match.groups()
        layers.append(name if width is None else (name, int(width)))
    return tuple(layers)


def format_layers(layers: Sequence[LayerSpec]) -> str:
    """The inverse of `parse_layers`."""
    return ",".join(spec if isinstance(spec, str) else ":".join(str(part) for part in spec) for spec in layers)


@registry.primitive_rule
def layers_rule(type_info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
    """Left alone, tyro would take `residual compress_space 128` as three layer kinds without a word."""
    if type_info.type != tuple[LayerSpec, ...]:
        return None
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar="KIND[:WIDTH],...",
        instance_from_str=lambda strings: parse_layers(strings[0]),
        is_instance=lambda value: isinstance(value, tuple),
        str_from_instance=lambda value: [format_layers(value)],
    )
