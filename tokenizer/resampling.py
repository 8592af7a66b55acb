"""Changes of resolution: learned upsampling, and folding of pixels into channels."""

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
    """Channels to blocks of frames and pixels. The repeated frames of `Fold` are dropped.

    Blocks of the size of a patch are placed next to each other, which is the inverse of `Fold`. Blocks of twice the
    size overlap by half and are added; what lies outside the frame is dropped.
    """

    def __init__(self, patch_size: tuple[int, int, int], block_size: tuple[int, int, int]) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.overlaps = tuple(block // patch - 1 for patch, block in zip(patch_size[1:], block_size[1:], strict=True))

    def forward(self, folded: Float[Tensor, "b d t h w"], context: Context = WHOLE) -> Float[Tensor, "b c T H W"]:
        r, p, q = self.patch_size
        down, right = self.overlaps
        parts = rearrange(
            folded, "b (c r i p j q) t h w -> (i j) b (c r p q) t h w", r=r, p=p, q=q, i=1 + down, j=1 + right
        )
        places = [(i, j) for i in range(1 + down) for j in range(1 + right)]
        # Each part of a block lies on the same grid of patches, which is half a patch larger on each side.
        grids = [F.pad(part, (j, right - j, i, down - i)) for part, (i, j) in zip(parts, places, strict=True)]
        grid = sum(grids[1:], start=grids[0])
        video = rearrange(grid, "b (c r p q) t h w -> b c (t r) (h p) (w q)", r=r, p=p, q=q)
        height, width = folded.shape[3] * p, folded.shape[4] * q
        top, left = down * (p // 2), right * (q // 2)
        return video[:, :, r - 1 if context.begins else 0 :, top : top + height, left : left + width]
