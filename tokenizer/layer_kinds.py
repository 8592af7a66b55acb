"""The kinds of layer that a `layers` tuple may name: one entry builds the encoder's half and the decoder's half."""

import difflib
from collections.abc import Callable, Iterable
from typing import NamedTuple

from torch import nn

from .layers import CausalConv3d, ResidualBlock, SpaceAttention, SpaceUpsample, TimeAttention, TimeUpsample

LayerSpec = str | tuple[str, int]


class LayerKind(NamedTuple):
    encode: Callable[[int, int], nn.Module]  # from the width before the layer to the width after it
    decode: Callable[[int, int], nn.Module]  # the way back: from the width after it to the width before it
    changes_width: bool = False
    temporal_stride: int = 1
    spatial_stride: int = 1


LAYER_KINDS = {
    "residual": LayerKind(
        encode=lambda width, _: ResidualBlock(width),
        decode=lambda width, _: ResidualBlock(width),
    ),
    "attend_space": LayerKind(
        encode=lambda width, _: SpaceAttention(width),
        decode=lambda width, _: SpaceAttention(width),
    ),
    "attend_time": LayerKind(
        encode=lambda width, _: TimeAttention(width),
        decode=lambda width, _: TimeAttention(width),
    ),
    "compress_space": LayerKind(
        encode=lambda before, after: CausalConv3d(before, after, (1, 3, 3), stride=(1, 2, 2)),
        decode=SpaceUpsample,
        changes_width=True,
        spatial_stride=2,
    ),
    "compress_time": LayerKind(
        encode=lambda before, after: CausalConv3d(before, after, (3, 1, 1), stride=(2, 1, 1)),
        decode=TimeUpsample,
        changes_width=True,
        temporal_stride=2,
    ),
}


class Layer(NamedTuple):
    """A layer of the tuple with its widths worked out."""

    kind: LayerKind
    width_before: int
    width_after: int


def resolve_layers(init_dim: int, layers: Iterable[LayerSpec]) -> list[Layer]:
    """Kind and widths of each layer; a bare name keeps the width that reaches it.

    Raises:
        ValueError: an unknown kind, or a width that the kind does not take or that is not positive.
    """
    resolved = []
    width = init_dim
    for spec in layers:
        name, *arguments = (spec,) if isinstance(spec, str) else spec
        if name not in LAYER_KINDS:
            nearest = difflib.get_close_matches(str(name), LAYER_KINDS, n=1)
            hint = f"; perhaps you meant {nearest[0]!r}" if nearest else ""
            raise ValueError(f"unknown layer kind {name!r}, allowed are {', '.join(LAYER_KINDS)}{hint}")
        kind = LAYER_KINDS[name]
        if arguments and not kind.changes_width:
            raise ValueError(f"layer kind {name!r} keeps the width and takes none, got {spec!r}")
        if len(arguments) > 1 or any(type(value) is not int or value < 1 for value in arguments):
            raise ValueError(f"a layer is {name!r} or ({name!r}, width) with a positive width, got {spec!r}")
        width_after = arguments[0] if arguments else width
        resolved.append(Layer(kind, width, width_after))
        width = width_after
    return resolved
