"""Command lines from config dataclasses: the name of a preset, then options that change it."""

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, TypeVar

import tyro
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

from ..files import as_path
from ..messages import allowed_names, printable
from ..tokenizer import DiscriminatorConfig
from ..tokenizer.layer_kinds import LAYER_KINDS, LayerSpec
from .run_folder import read_config
from .session import RunConfig
from .task_mix import ALL_TASKS, WeightedTask, check_mix

Run = TypeVar("Run", bound=RunConfig)

LAYERS_FORM = "KIND[:ARGUMENT...],..."
TASKS_FORM = "TASK[:WEIGHT],..."
DISCRIMINATORS_FORM = "[details:]STRIDE[:WIDTH[:PATCH_SIZE[:WEIGHT]]],..."

registry = ConstructorRegistry()


def parse_run(presets: Mapping[str, Run], *, description: str, arguments: Sequence[str] | None = None) -> Run:
    """Return the run that a command line describes: `[PRESET | --config FILE] [--option value ...]`.

    The first preset is the default. `--config` starts from the `config.json` of an earlier run. An unknown option ends
    the process with a message that names the nearest option.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    given = [argument for argument in given if argument != "--resume"]  # of older versions; runs now always resume
    names = list(presets)
    base = presets[names[0]]
    if given and given[0] == "--config":
        if len(given) < 2:
            sys.exit("error: --config needs the config.json of a run")
        base = replace(read_config(as_path(given[1]), type(base)), restart_in=None, stop_after=None, dry_run=False)
        given = given[2:]
    elif given and not given[0].startswith("-"):
        if given[0] not in presets:
            sys.exit(f"error: unknown preset {printable(given[0])!r}: {allowed_names(given[0], names)}")
        base = presets[given[0]]
        given = given[1:]
    usage = (
        f"{description}\n\nPresets: {', '.join(names)} (the first is the default). "
        "`--config FILE` starts from the config.json of an earlier run."
    )
    with registry:
        return tyro.cli(type(base), default=base, args=given, description=usage, config=(tyro.conf.FlagCreatePairsOff,))


def spec_of(form: str, parse: Callable[[str], Any], write: Callable[[Any], str]) -> PrimitiveConstructorSpec[Any]:
    """Return how tyro reads a tuple from one argument of the form `form` and writes it back."""
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar=form,
        instance_from_str=lambda strings: parse(strings[0]),
        is_instance=lambda value: isinstance(value, tuple),
        str_from_instance=lambda value: [write(value)],
    )


def parse_layers(text: str) -> tuple[LayerSpec, ...]:
    """Parse `residual,compress:2x2x2:128` as ('residual', ('compress', (2, 2, 2), 128)).

    Raises:
        ValueError: if the text has another form.
    """
    layers: list[LayerSpec] = []
    for part in text.split(","):
        if re.fullmatch(r"[a-z_]+(:\d+(x\d+)*)*", part.strip()) is None:
            raise ValueError(
                f"layers must have the form {LAYERS_FORM}, for example residual,compress_space:128,compress:2x2x2 "
                f"(kinds: {', '.join(LAYER_KINDS)}), got {printable(text)!r}"
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
    """Read layers by `parse_layers`. By default, tyro would read `residual compress_space 128` as three layer kinds."""
    return spec_of(LAYERS_FORM, parse_layers, format_layers) if type_info.type == tuple[LayerSpec, ...] else None


def parse_discriminators(text: str) -> tuple[DiscriminatorConfig, ...]:
    """Parse `1:64,details:4` as a discriminator of width 64 for all frames and one for details of every fourth frame.

    Raises:
        ValueError: if the text has another form.
    """
    if text == "none":
        return ()
    discriminators = []
    for part in text.split(","):
        match = re.fullmatch(r"(details:)?(\d+)(?::(\d+)(?::(\d+)(?::(\d*\.?\d+))?)?)?", part.strip())
        if match is None:
            raise ValueError(
                f"discriminators must have the form {DISCRIMINATORS_FORM}, for example 1:64,2:64,4:32:2, or be none, "
                f"got {printable(text)!r}"
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


# Annotated, because tyro makes one option per field of a tuple of dataclasses without consulting the registry.
WrittenDiscriminators = Annotated[
    tuple[DiscriminatorConfig, ...], spec_of(DISCRIMINATORS_FORM, parse_discriminators, format_discriminators)
]


def parse_tasks(text: str) -> tuple[WeightedTask, ...]:
    """Parse `class_generation:2,frame_prediction` as a mix in which the first task is twice as frequent as the second.

    Raises:
        ValueError: if the text has another form, or if a task is unknown or named twice.
    """
    if text in NAMED_MIXES:
        return NAMED_MIXES[text]
    mix = []
    for part in text.split(","):
        match = re.fullmatch(r"([a-z_]+)(?::(\d*\.?\d+(?:e[+-]?\d+)?))?", part.strip())
        if match is None:
            raise ValueError(
                f"tasks must have the form {TASKS_FORM}, for example class_generation:2,frame_prediction, or be all or "
                f"none, got {printable(text)!r}"
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

WrittenTasks = Annotated[tuple[WeightedTask, ...], spec_of(TASKS_FORM, parse_tasks, format_tasks)]
