"""Normalization that looks at one frame at a time: statistics over time would leak the future."""

from collections.abc import Callable

import torch
from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor, nn

from .context import WHOLE, Context

EPSILON = 1e-6

MakeNorm = Callable[[int], nn.Module]
"""Makes the norm of a width. Without a condition of its own it has a learned scale and shift for each channel."""


class FrameGroupNorm(nn.GroupNorm):
    """Group normalization of each frame by itself.

    There are 32 groups, or fewer where that would leave a group less than four channels: a channel by itself would
    lose its mean.
    """

    def __init__(self, width: int, *, affine: bool = True) -> None:
        most = max(1, min(32, width // 4))
        groups = max(groups for groups in range(1, most + 1) if width % groups == 0)
        super().__init__(groups, width, eps=EPSILON, affine=affine)

    def forward(self, input: Float[Tensor, "b c t h w"], context: Context = WHOLE) -> Float[Tensor, "b c t h w"]:
        frames = rearrange(input, "b c t h w -> (b t) c h w")
        return rearrange(super().forward(frames), "(b t) c h w -> b c t h w", b=input.shape[0])


class ChannelNorm(nn.Module):
    """Each place divided by the root mean square of its channels; it sees nothing beside that place."""

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
    """A norm whose scale and shift come from the condition; at the start they change nothing."""

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
    """A norm whose scale and shift come from the quantized latents, place by place (MAGVIT-v2, section 3.2).

    They are worked out on the latents' grid and repeated up to the input's; at the start they change nothing.
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
    """Each place of a coarse grid repeated over the places of the fine one that it stands for.

    The first latent frame of a video stands for one frame: what is repeated too often is dropped in front.

    Args:
        begins: whether the grids begin with the video's first frame, and not with a later one of a stream.
    """
    num_frames, height, width = fine.shape[2:]
    t, h, w = coarse.shape[2:]
    frames = max(1, (num_frames - begins) // max(1, t - begins))
    grown = repeat(coarse, "b c t h w -> b c (t r) (h p) (w q)", r=frames, p=height // h, q=width // w)
    return grown[:, :, grown.shape[2] - num_frames :]
