"""Table of the layer kinds for a `layers` tuple. Each entry builds a layer of the encoder and its mirror image."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, NamedTuple

from torch import nn

from ..choices import chosen, whole_number
from .attention import (
    LinearSpaceAttention,
    LocalSpaceAttention,
    LocalTimeAttention,
    SpaceAttention,
    TimeAttention,
)
from .context import WHOLE, Context
from .convolution import Downsample
from .convolution import Sequence as LayerSequence
from .norms import AdaptiveNorm, MakeNorm
from .resampling import Upsample
from .residual import PaperResidualBlock, ResidualBlock

LayerSpec = str | tuple[str, int] | tuple[str, tuple[int, int, int]] | tuple[str, tuple[int, int, int], int]

Argument = Literal["width", "number", "window", "factors"]
LARGEST_FACTOR = 3  # a kernel of three would skip positions at a larger stride
LARGEST_WIDTH, LARGEST_WINDOW = 2**16, 64
MAX_BLOCKS = 256  # of each half


class Layer(NamedTuple):
    """One layer of the tuple, with all its properties."""

    name: str
    kind: "LayerKind"
    width_before: int
    width_after: int
    factors: tuple[int, int, int] = (1, 1, 1)
    """Factors by which it divides frames, rows and columns."""
    number: int = 1
    """Number of blocks of `consecutive_...` kinds."""
    window: int = 0
    """Window of local attention."""


class Parts(NamedTuple):
    """Settings that all layers of a tokenizer share."""

    frames: int
    """Temporal size of kernels: 1 in an image tokenizer."""
    antialiased: bool
    latent_channels: int
    make_plain_norm: Callable[..., nn.Module]
    make_conditioned_norm: MakeNorm

    def make_norm(self, layer: Layer) -> MakeNorm:
        """Return the constructor of the norms of a layer."""
        return self.make_conditioned_norm if layer.name.startswith(CONDITIONED) else self.make_plain_norm


class LayerKind(NamedTuple):
    """Entry of the table."""

    encode: Callable[[Layer, Parts], nn.Module]
    """Make the layer of the encoder, from `width_before` to `width_after`."""
    decode: Callable[[Layer, Parts], nn.Module]
    """Make the layer of the decoder, from `width_after` to `width_before`."""
    arguments: tuple[Argument, ...] = ()
    """Arguments after the name, in order."""
    num_required: int = 0
    """Number of arguments that must be given."""
    factors: tuple[int, int, int] = (1, 1, 1)
    """Factors by which it divides frames, rows and columns, if they are not an argument."""
    default_window: int = 0
    reach: tuple[int, int] | None = (0, 0)
    """Number of neighbors in each spatial direction that a block depends on, in the encoder and in the decoder, without
    the attention window. None: the whole frame."""
    is_temporal: bool = False
    """Whether it mixes frames but not positions."""


class Identity(nn.Identity):
    """Return the input."""

    def forward(self, input: Any, context: Context = WHOLE) -> Any:
        return input


def _residual(layer: Layer, parts: Parts) -> nn.Module:
    return ResidualBlock(layer.width_before, parts.make_norm(layer), parts.frames)


def _consecutive_residual(layer: Layer, parts: Parts) -> nn.Module:
    return LayerSequence(*(_residual(layer, parts) for _ in range(layer.number)))


Triple = tuple[int, int, int]


def _resample(down: Triple, up: Triple, **options: Any) -> LayerKind:
    """Return a kind that changes the resolution, with kernel size `down` in the encoder and `up` in the decoder."""

    def sizes(kernel: Triple, layer: Layer, parts: Parts) -> tuple[Triple, Triple]:
        t, h, w = layer.factors
        return (min(kernel[0], parts.frames), *kernel[1:]), (t if parts.frames > 1 else 1, h, w)

    def encode(layer: Layer, parts: Parts) -> nn.Module:
        kernel, stride = sizes(down, layer, parts)
        return Downsample(layer.width_before, layer.width_after, kernel, stride, antialiased=parts.antialiased)

    def decode(layer: Layer, parts: Parts) -> nn.Module:
        return Upsample(layer.width_after, layer.width_before, *sizes(up, layer, parts))

    return LayerKind(encode, decode, **options)


def _adaptive_norm(layer: Layer, parts: Parts) -> nn.Module:
    norm = parts.make_plain_norm(layer.width_before, affine=False)
    return AdaptiveNorm(norm, layer.width_before, parts.latent_channels)


def _attend_time(layer: Layer, parts: Parts) -> nn.Module:
    make_norm = parts.make_norm(layer)
    if parts.frames == 1:  # an image tokenizer: each frame attends to itself
        return LocalTimeAttention(layer.width_before, make_norm, window=1)
    if layer.window:
        return LocalTimeAttention(layer.width_before, make_norm, layer.window)
    return TimeAttention(layer.width_before, make_norm)


def _same(make: Callable[[Layer, Parts], nn.Module], **options: Any) -> LayerKind:
    """Return a kind whose layers in encoder and decoder are the same."""
    return LayerKind(make, make, **options)


CONDITIONED = "cond_"

UNCONDITIONED_KINDS = {
    "residual": _same(_residual, reach=(1, 1)),
    "consecutive_residual": _same(_consecutive_residual, arguments=("number",), num_required=1, reach=(1, 1)),
    "paper_residual": LayerKind(
        lambda layer, parts: PaperResidualBlock(
            layer.width_before, layer.width_after, parts.make_norm(layer), parts.frames
        ),
        lambda layer, parts: PaperResidualBlock(
            layer.width_after, layer.width_before, parts.make_norm(layer), parts.frames
        ),
        arguments=("width",),
        reach=(2, 2),
    ),
    "attend_space": _same(lambda layer, parts: SpaceAttention(layer.width_before, parts.make_norm(layer)), reach=None),
    "linear_attend_space": _same(
        lambda layer, parts: LinearSpaceAttention(layer.width_before, parts.make_norm(layer)), reach=None
    ),
    "local_attend_space": _same(
        lambda layer, parts: LocalSpaceAttention(layer.width_before, parts.make_norm(layer), layer.window),
        arguments=("window",),
        default_window=7,
    ),
    "attend_time": _same(_attend_time, is_temporal=True),
    "local_attend_time": _same(_attend_time, arguments=("window",), default_window=8, is_temporal=True),
}

LAYER_KINDS = {
    **UNCONDITIONED_KINDS,
    **{CONDITIONED + name: kind for name, kind in UNCONDITIONED_KINDS.items()},
    "adaptive_norm": LayerKind(encode=lambda layer, parts: Identity(), decode=_adaptive_norm),
    "compress_space": _resample((1, 3, 3), (1, 1, 1), arguments=("width",), factors=(1, 2, 2), reach=(1, 0)),
    "compress_time": _resample((3, 1, 1), (1, 1, 1), arguments=("width",), factors=(2, 1, 1), is_temporal=True),
    "compress": _resample((3, 3, 3), (3, 3, 3), arguments=("factors", "width"), num_required=1, reach=(1, 1)),
}


def resolve_layers(init_dim: int, layers: Iterable[LayerSpec]) -> list[Layer]:
    """Return each layer with its widths and arguments. A name without width keeps the width of the layer before.

    Raises:
        ValueError: if a kind is unknown, if it does not take the given arguments, or if there are too many layers.
    """
    resolved = []
    width, num_blocks = init_dim, 0
    for spec in layers:
        name, *arguments = (spec,) if isinstance(spec, str) else spec
        kind = chosen(LAYER_KINDS, name, "layer kind")
        given = _arguments(spec, name, kind, arguments)
        num_blocks += given.get("number", 1)
        if num_blocks > MAX_BLOCKS:
            raise ValueError(f"layers must have at most {MAX_BLOCKS} blocks, got at least {num_blocks}")
        layer = Layer(
            name,
            kind,
            width_before=width,
            width_after=given.get("width", width),
            factors=given.get("factors", kind.factors),
            number=given.get("number", 1),
            window=given.get("window", kind.default_window),
        )
        resolved.append(layer)
        width = layer.width_after
    return resolved


def _arguments(spec: Any, name: str, kind: LayerKind, given: Sequence[Any]) -> dict[Argument, Any]:
    """Return the arguments of a layer by name."""
    limits = {"width": LARGEST_WIDTH, "number": MAX_BLOCKS, "window": LARGEST_WINDOW}
    if not kind.num_required <= len(given) <= len(kind.arguments):
        raise ValueError(f"layer kind {name!r} takes {_signature(kind)}, got {spec!r}")
    for argument, value in zip(kind.arguments, given, strict=False):
        where = f"the {argument} of layer {name!r}"
        if argument != "factors":
            whole_number(where, value, 1, limits[argument])
        elif not isinstance(value, tuple) or len(value) != 3:
            raise ValueError(f"{where} must be three integers (t, h, w), got {value!r}")
        else:
            for factor in value:
                whole_number(f"each of {where}", factor, 1, LARGEST_FACTOR)
    return dict(zip(kind.arguments, given, strict=False))


def _signature(kind: LayerKind) -> str:
    """Return the arguments of a kind as text.

    >>> _signature(LAYER_KINDS["compress"])
    'factors and optionally width'
    """
    required, optional = (
        " and ".join(arguments)
        for arguments in (kind.arguments[: kind.num_required], kind.arguments[kind.num_required :])
    )
    return " and ".join(filter(None, (required, optional and f"optionally {optional}"))) or "no argument"


def product_of_factors(layers: Sequence[Layer]) -> tuple[int, int, int]:
    """Return the factors by which `layers` together divide frames, rows and columns."""
    t, h, w = [math.prod([layer.factors[axis] for layer in layers]) for axis in range(3)]
    return t, h, w


def as_tuples(values: Sequence[Any]) -> tuple[Any, ...]:
    """Return nested lists as nested tuples."""
    return tuple(as_tuples(value) if isinstance(value, list | tuple) else value for value in values)
