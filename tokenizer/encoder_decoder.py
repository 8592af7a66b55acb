"""Encoder and decoder, built from the `layers` tuple and its mirror image."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .config import TokenizerArchitecture
from .context import WHOLE, Context
from .convolution import CausalConv3d, Sequence, Swish
from .memory_format import CHANNELS_LAST, in_fastest_format, is_channels_last
from .resampling import Fold, Unfold, UnfoldOverlapping


class Encoder(nn.Sequential):
    """Video to latents. Sizes must be aligned to the strides (`VideoTokenizer.encode` pads)."""

    def __init__(self, config: TokenizerArchitecture) -> None:
        layers, parts = config.encoder_layers_resolved, config.parts
        width = layers[-1].width_after if layers else config.init_dim
        super().__init__(
            Stem(config),
            *(layer.kind.encode(layer, parts) for layer in layers),
            Sequence(parts.make_plain_norm(width), Swish(), CausalConv3d(width, config.latent_channels, (1, 1, 1))),
        )

    def forward(
        self, input: Float[Tensor, "b c T H W"], context: Context = WHOLE, *, checkpointing: bool = False
    ) -> Float[Tensor, "b k t h w"]:
        return run(self, input, context, checkpointing)


class Decoder(nn.Sequential):
    """Quantized latents to video."""

    def __init__(self, config: TokenizerArchitecture) -> None:
        layers, parts = config.decoder_layers_resolved, config.parts
        width = layers[-1].width_after if layers else config.init_dim
        super().__init__(
            CausalConv3d(config.latent_channels, width, (parts.frames, 3, 3)),
            *(layer.kind.decode(layer, parts) for layer in reversed(layers)),
            Head(config),
        )

    def forward(
        self, input: Float[Tensor, "b k t h w"], context: Context = WHOLE, *, checkpointing: bool = False
    ) -> Float[Tensor, "b c T H W"]:
        return run(self, input, context._replace(quantized=input), checkpointing)

    @property
    def last_weight(self) -> nn.Parameter:
        """Kernel of the last convolution, at which the gradients of losses are compared."""
        return self[-1][2].weight  # type: ignore[index, return-value]


class Stem(Sequence):
    """First layer: folds blocks of pixels into channels if there is a patch size, then a convolution."""

    def __init__(self, config: TokenizerArchitecture) -> None:
        folded = config.channels * math.prod(config.folding)
        super().__init__(Fold(config.folding), CausalConv3d(folded, config.init_dim, outer_kernel(config)))


class Head(Sequence):
    """Last layer: a convolution to pixels, then the inverse of folding."""

    def __init__(self, config: TokenizerArchitecture) -> None:
        width, channels, folding = config.init_dim, config.channels, config.folding
        to_pixels = (
            [CausalConv3d(width, channels * math.prod(folding), outer_kernel(config)), Unfold(folding)]
            if config.unfolding == folding
            else [UnfoldOverlapping(width, channels, folding, config.unfolding)]
        )
        super().__init__(config.parts.make_plain_norm(width), Swish(), *to_pixels)


def outer_kernel(config: TokenizerArchitecture) -> tuple[int, int, int]:
    """Return the kernel size of stem and head: 3x3x3 as in the paper, pointwise if pixels are folded into channels."""
    return (config.parts.frames, 3, 3) if math.prod(config.patch_size) == 1 else (1, 1, 1)


def run(layers: nn.Sequential, x: Tensor, context: Context, checkpointing: bool) -> Tensor:
    """Apply `layers` in order. The result has the memory format of `x`.

    Args:
        checkpointing: recompute the activations inside each layer in the backward pass.
    """
    given_format = CHANNELS_LAST if is_channels_last(x) else torch.contiguous_format
    for layer in layers:
        x = in_fastest_format(x)
        if checkpointing and torch.is_grad_enabled():
            x = checkpoint(layer, x, context, use_reentrant=False, preserve_rng_state=False)
        else:
            x = layer(x, context)
    return x.contiguous(memory_format=given_format)
