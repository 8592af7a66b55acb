"""Command lines from config dataclasses: a preset's name, then options that change it."""

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, TypeVar

import tyro
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

from ..configs import config_from_dict
from ..files import read_json
from ..tokenizer import DiscriminatorConfig
from ..tokenizer.layer_kinds import LAYER_KINDS, LayerSpec
from .session import RunConfig
from .task_mix import ALL_TASKS, WeightedTask, check_mix

Run = TypeVar("Run", bound=RunConfig)

TASKS_FORM = "TASK[:WEIGHT],..."
DISCRIMINATORS_FORM = "[details:]STRIDE[:WIDTH[:PATCH_SIZE[:WEIGHT]]],..."

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
    """`residual,compress:2x2x2:128` as ('residual', ('compress', (2, 2, 2), 128)).

    Raises:
        ValueError: another form.
    """
    layers: list[LayerSpec] = []
    for part in text.split(","):
        if re.fullmatch(r"[a-z_]+(:\d+(x\d+)*)*", part.strip()) is None:
            raise ValueError(
                "layers are written like residual,compress_space:128,compress:2x2x2 "
                f"(kinds: {', '.join(LAYER_KINDS)}), got {text!r}"
            )
        name, *arguments = part.strip().split(":")
        values = (tuple(int(number) for number in argument.split("x")) for argument in arguments)
        spec: Any = (name, *(value[0] if len(value) == 1 else value for value in values))  # checked by the config
        layers.append(spec if arguments else name)
    return tuple(layers)


def format_layers(layers: Sequence[LayerSpec]) -> str:
    """The inverse of `parse_layers`."""

    def written(argument: str | int | tuple[int, ...]) -> str:
        return "x".join(map(str, argument)) if isinstance(argument, tuple) else str(argument)

    return ",".join(spec if isinstance(spec, str) else ":".join(map(written, spec)) for spec in layers)


@registry.primitive_rule
def layers_rule(type_info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
    """Left alone, tyro would take `residual compress_space 128` as three layer kinds without a word."""
    if type_info.type != tuple[LayerSpec, ...]:
        return None
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar="KIND[:ARGUMENT...],...",
        instance_from_str=lambda strings: parse_layers(strings[0]),
        is_instance=lambda value: isinstance(value, tuple),
        str_from_instance=lambda value: [format_layers(value)],
    )


def parse_discriminators(text: str) -> tuple[DiscriminatorConfig, ...]:
    """`1:64,4` as a discriminator of width 64 that sees every frame and one of the usual width that sees every fourth;
    `details:4:16` as one of width 16 that sees the details of every fourth.

    Raises:
        ValueError: another form.
    """
    if text == "none":
        return ()
    discriminators = []
    for part in text.split(","):
        match = re.fullmatch(r"(details:)?(\d+)(?::(\d+)(?::(\d+)(?::(\d*\.?\d+))?)?)?", part.strip())
        if match is None:
            raise ValueError(
                f"discriminators are written {DISCRIMINATORS_FORM}, like 1:64,2:64,4:32:2, or none, got {text!r}"
            )
        sees, stride, width, patch_size, weight = match.groups()
        given = {"frame_stride": stride, "width": width, "patch_size": patch_size}
        numbers: dict[str, Any] = {name: int(value) for name, value in given.items() if value is not None}
        if weight is not None:
            numbers["weight"] = float(weight)
        discriminators.append(DiscriminatorConfig(**numbers, sees="details" if sees else "pixels"))
    return tuple(discriminators)


def format_discriminators(discriminators: Sequence[DiscriminatorConfig]) -> str:
    """The inverse of `parse_discriminators`."""
    parts = [
        f"{'details:' if one.sees == 'details' else ''}{one.frame_stride}:{one.width}:{one.patch_size}:{one.weight}"
        for one in discriminators
    ]
    return ",".join(parts) or "none"


# A part of the type, since tyro would take a tuple of dataclasses apart before it asks the registry.
WrittenDiscriminators = Annotated[
    tuple[DiscriminatorConfig, ...],
    PrimitiveConstructorSpec(
        nargs=1,
        metavar=DISCRIMINATORS_FORM,
        instance_from_str=lambda strings: parse_discriminators(strings[0]),
        is_instance=lambda value: isinstance(value, tuple),
        str_from_instance=lambda value: [format_discriminators(value)],
    ),
]


def parse_tasks(text: str) -> tuple[WeightedTask, ...]:
    """`class_generation:2,frame_prediction` as a mix in which the first comes twice as often as the second.

    Raises:
        ValueError: another form, an unknown task, or one that comes twice.
    """
    if text in NAMED_MIXES:
        return NAMED_MIXES[text]
    mix = []
    for part in text.split(","):
        match = re.fullmatch(r"([a-z_]+)(?::(\d*\.?\d+(?:e[+-]?\d+)?))?", part.strip())
        if match is None:
            raise ValueError(
                f"tasks are written {TASKS_FORM}, like class_generation:2,frame_prediction, or all, none; got {text!r}"
            )
        name, weight = match.groups()
        mix.append(WeightedTask(name=name) if weight is None else WeightedTask(name=name, weight=float(weight)))
    check_mix(mix)
    return tuple(mix)


def format_tasks(mix: Sequence[WeightedTask]) -> str:
    """The inverse of `parse_tasks`."""
    for name, tasks in NAMED_MIXES.items():
        if tuple(mix) == tasks:
            return name
    return ",".join(f"{task.name}:{task.weight}" for task in mix)


NAMED_MIXES: dict[str, tuple[WeightedTask, ...]] = {"none": (), "all": ALL_TASKS}

WrittenTasks = Annotated[
    tuple[WeightedTask, ...],
    PrimitiveConstructorSpec(
        nargs=1,
        metavar=TASKS_FORM,
        instance_from_str=lambda strings: parse_tasks(strings[0]),
        is_instance=lambda value: isinstance(value, tuple),
        str_from_instance=lambda value: [format_tasks(value)],
    ),
]
