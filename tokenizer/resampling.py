"""Changes of resolution: learned upsampling, and folding of pixels into channels."""

import math

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor, nn

from .context import WHOLE, Context
from .convolution import CausalConv3d, Sequence
from .memory_format import is_channels_last


class Upsample(Sequence):
    """Upsampling of frames, rows and columns by `factors`: a convolution, then depth-to-space.

    1 + k frames become 1 + r k: the first latent frame stands for one frame, so the surplus frames are dropped.
    """

    def __init__(
        self, in_width: int, out_width: int, kernel_size: tuple[int, int, int], factors: tuple[int, int, int]
    ) -> None:
        r, p, q = factors
        super().__init__(CausalConv3d(in_width, r * p * q * out_width, kernel_size))
        self.factors = factors

    def forward(self, input: Float[Tensor, "b c t h w"], context: Context = WHOLE) -> Float[Tensor, "b d T H W"]:
        r, p, q = self.factors
        deep = super().forward(input, context)
        if is_channels_last(deep):
            fine = rearrange(deep, "b (d r p q) t h w -> b (t r) (h p) (w q) d", r=r, p=p, q=q).movedim(-1, 1)
        else:
            fine = rearrange(deep, "b (d r p q) t h w -> b d (t r) (h p) (w q)", r=r, p=p, q=q)
        return fine[:, :, r - 1 :] if context.begins else fine


class Fold(nn.Module):
    """Fold blocks of frames and pixels into channels. The first frame is repeated to fill its block."""

    def __init__(self, patch_size: tuple[int, int, int]) -> None:
        super().__init__()
        self.patch_size = patch_size

    def forward(self, video: Float[Tensor, "b c T H W"], context: Context = WHOLE) -> Float[Tensor, "b d t h w"]:
        r, p, q = self.patch_size
        if context.begins and r > 1:
            first = repeat(video[:, :, 0], "b c H W -> b c r H W", r=r - 1)
            video = torch.cat([first, video], dim=2)
        return rearrange(video, "b c (t r) (h p) (w q) -> b (c r p q) t h w", r=r, p=p, q=q)


class Unfold(nn.Module):
    """Inverse of `Fold`: channels to blocks of frames and pixels. The repeated frames are dropped."""

    def __init__(self, patch_size: tuple[int, int, int]) -> None:
        super().__init__()
        self.patch_size = patch_size

    def forward(self, folded: Float[Tensor, "b d t h w"], context: Context = WHOLE) -> Float[Tensor, "b c T H W"]:
        r, p, q = self.patch_size
        video = rearrange(folded, "b (c r p q) t h w -> b c (t r) (h p) (w q)", r=r, p=p, q=q)
        return video[:, :, r - 1 :] if context.begins else video


class UnfoldOverlapping(nn.Conv3d):
    """Pointwise convolution to blocks of frames and pixels that overlap by half in space and are added.

    What lies outside the frame is dropped. This is a transposed convolution of each frame; the weights have the layout
    of the convolution before `Unfold`, with larger blocks.
    """

    def __init__(
        self, width: int, channels: int, patch_size: tuple[int, int, int], block_size: tuple[int, int, int]
    ) -> None:
        super().__init__(width, channels * math.prod(block_size), 1, bias=False)
        self.patch_size = patch_size
        self.block_size = block_size

    def forward(self, input: Float[Tensor, "b d t h w"], context: Context = WHOLE) -> Float[Tensor, "b c T H W"]:
        frames, *stride = self.patch_size
        rows, columns = self.block_size[1:]
        border = [patch // 2 if block > patch else 0 for block, patch in zip((rows, columns), stride, strict=True)]
        kernel = rearrange(self.weight, "(n p q) d 1 1 1 -> d n p q", p=rows, q=columns)
        blocks = rearrange(input, "b d t h w -> (b t) d h w")
        pixels = F.conv_transpose2d(blocks, kernel, stride=stride, padding=border)
        height, width = input.shape[3] * stride[0], input.shape[4] * stride[1]
        video = rearrange(pixels[..., :height, :width], "(b t) (c r) H W -> b c (t r) H W", b=input.shape[0], r=frames)
        return video[:, :, frames - 1 :] if context.begins else video
