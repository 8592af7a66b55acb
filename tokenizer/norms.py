"""Normalization within one frame. Statistics over time would leak later frames into earlier ones."""

from collections.abc import Callable

import torch
from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor, nn

from .context import WHOLE, Context

EPSILON = 1e-6

MakeNorm = Callable[[int], nn.Module]
"""Constructor of a norm for a number of channels."""


class FrameGroupNorm(nn.GroupNorm):
    """Group normalization of each frame.

    There are 32 groups, or fewer so that a group has at least four channels: a group of one channel would lose its
    mean.
    """

    def __init__(self, width: int, *, affine: bool = True) -> None:
        most = max(1, min(32, width // 4))
        groups = max(groups for groups in range(1, most + 1) if width % groups == 0)
        super().__init__(groups, width, eps=EPSILON, affine=affine)

    def forward(self, input: Float[Tensor, "b c t h w"], context: Context = WHOLE) -> Float[Tensor, "b c t h w"]:
        frames = rearrange(input, "b c t h w -> (b t) c h w")
        return rearrange(super().forward(frames), "(b t) c h w -> b c t h w", b=input.shape[0])


class ChannelNorm(nn.Module):
    """RMS normalization over the channels, independently at each position."""

    def __init__(self, width: int, *, affine: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width)) if affine else None
        self.bias = nn.Parameter(torch.zeros(width)) if affine else None

    def forward(self, input: Float[Tensor, "b c t h w"], context: Context = WHOLE) -> Float[Tensor, "b c t h w"]:
        normed = input * (input.square().mean(dim=1, keepdim=True) + EPSILON).rsqrt()
        if self.weight is None or self.bias is None:
            return normed
        scale, shift = (rearrange(value, "c -> c 1 1 1") for value in (self.weight, self.bias))
        return torch.addcmul(shift, normed, scale)


NORMS = {"group": FrameGroupNorm, "channel": ChannelNorm}


class ConditionedNorm(nn.Module):
    """Norm whose scale and shift are computed from the condition. Initially they are 1 and 0."""

    def __init__(self, norm: nn.Module, width: int, dim_cond: int) -> None:
        super().__init__()
        self.norm = norm
        self.to_scale_and_shift = nn.Linear(dim_cond, 2 * width)
        nn.init.zeros_(self.to_scale_and_shift.weight)
        nn.init.zeros_(self.to_scale_and_shift.bias)

    def forward(self, input: Float[Tensor, "b c t h w"], context: Context = WHOLE) -> Float[Tensor, "b c t h w"]:
        assert context.condition is not None
        scale, shift = rearrange(
            self.to_scale_and_shift(context.condition), "b (two c) -> two b c 1 1 1", two=2
        ).unbind()
        return torch.addcmul(shift, self.norm(input, context), 1 + scale)


class AdaptiveNorm(nn.Module):
    """Norm whose scale and shift are computed from the quantized latents at each position (MAGVIT-v2, section 3.2).

    They are computed on the grid of the latents and repeated to that of the input. Initially they are 1 and 0.
    """

    def __init__(self, norm: nn.Module, width: int, latent_channels: int) -> None:
        super().__init__()
        self.norm = norm
        self.to_scale = nn.Conv3d(latent_channels, width, 1)
        self.to_shift = nn.Conv3d(latent_channels, width, 1)
        for convolution in (self.to_scale, self.to_shift):
            nn.init.zeros_(convolution.weight)
            nn.init.zeros_(convolution.bias)  # type: ignore[arg-type]

    def forward(self, input: Float[Tensor, "b c T H W"], context: Context = WHOLE) -> Float[Tensor, "b c T H W"]:
        assert context.quantized is not None
        scale, shift = (
            repeat_to(to_value(context.quantized), input, begins=context.begins)
            for to_value in (self.to_scale, self.to_shift)
        )
        return torch.addcmul(shift, self.norm(input, context), 1 + scale)


def repeat_to(
    coarse: Float[Tensor, "b c t h w"], fine: Float[Tensor, "b d T H W"], *, begins: bool
) -> Float[Tensor, "b c T H W"]:
    """Repeat each position of `coarse` to the resolution of `fine`.

    The first latent frame of a video stands for one frame, so surplus frames at the start are dropped.

    Args:
        begins: as in `Context`.
    """
    num_frames, height, width = fine.shape[2:]
    t, h, w = coarse.shape[2:]
    frames = max(1, (num_frames - begins) // max(1, t - begins))
    grown = repeat(coarse, "b c t h w -> b c (t r) (h p) (w q)", r=frames, p=height // h, q=width // w)
    return grown[:, :, grown.shape[2] - num_frames :]
