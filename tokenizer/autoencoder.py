"""Encoder and decoder: the `layers` tuple forwards, and its mirror."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .config import TokenizerConfig
from .layer_kinds import resolve_layers
from .layers import CausalConv3d, Fold, FrameGroupNorm, Unfold


class Encoder(nn.Sequential):
    """Video to latents; frames and sizes must be aligned to the strides (`VideoTokenizer.encode` pads)."""

    def __init__(self, config: TokenizerConfig) -> None:
        layers = resolve_layers(config.init_dim, config.layers)
        width = layers[-1].width_after if layers else config.init_dim
        super().__init__(
            Stem(config),
            *(layer.kind.encode(layer.width_before, layer.width_after) for layer in layers),
            nn.Sequential(FrameGroupNorm(width), nn.SiLU(), CausalConv3d(width, config.code_bits, (1, 1, 1))),
        )

    def forward(self, input: Float[Tensor, "b c T H W"], *, checkpointing: bool = False) -> Float[Tensor, "b k t h w"]:
        return run(self, input, checkpointing)


class Decoder(nn.Sequential):
    """Quantized latents to video."""

    def __init__(self, config: TokenizerConfig) -> None:
        layers = resolve_layers(config.init_dim, config.layers)
        width = layers[-1].width_after if layers else config.init_dim
        super().__init__(
            CausalConv3d(config.code_bits, width, (3, 3, 3)),
            *(layer.kind.decode(layer.width_after, layer.width_before) for layer in reversed(layers)),
            Head(config),
        )

    def forward(self, input: Float[Tensor, "b k t h w"], *, checkpointing: bool = False) -> Float[Tensor, "b c T H W"]:
        return run(self, input, checkpointing)


class Stem(nn.Sequential):
    """Pixels to the first width; with a patch size it folds blocks of them first."""

    def __init__(self, config: TokenizerConfig) -> None:
        folded = config.channels * patch_volume(config)
        super().__init__(Fold(config.patch_size), CausalConv3d(folded, config.init_dim, stem_kernel(config)))


class Head(nn.Sequential):
    """The first width back to pixels."""

    def __init__(self, config: TokenizerConfig) -> None:
        folded = config.channels * patch_volume(config)
        super().__init__(
            FrameGroupNorm(config.init_dim),
            nn.SiLU(),
            CausalConv3d(config.init_dim, folded, stem_kernel(config)),
            Unfold(config.patch_size),
        )


def patch_volume(config: TokenizerConfig) -> int:
    """Pixels of one colour channel that are folded into one place."""
    t, h, w = config.patch_size
    return t * h * w


def stem_kernel(config: TokenizerConfig) -> tuple[int, int, int]:
    """The paper's 3x3x3; over folded blocks a pointwise kernel, since a place then holds a neighbourhood."""
    return (3, 3, 3) if patch_volume(config) == 1 else (1, 1, 1)


def run(layers: nn.Sequential, x: Tensor, checkpointing: bool) -> Tensor:
    """Pass `x` through `layers`, keeping only what lies between them where `checkpointing` is on."""
    for layer in layers:
        if checkpointing and torch.is_grad_enabled():
            x = checkpoint(layer, x, use_reentrant=False, preserve_rng_state=False)
        else:
            x = layer(x)
    return x
