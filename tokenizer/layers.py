"""Layers of the causal autoencoder: an output frame never depends on a later input frame."""

import math
from typing import ClassVar

import torch
import torch.nn.functional as F
from einops import parse_shape, rearrange, repeat
from jaxtyping import Float
from torch import Tensor, nn

from .rotary import rotate

HEAD_SIZE = 32
BRANCH_SCALE = 1e-3  # a residual branch starts close to zero, so a deep stack starts as a shallow one


class CausalConv3d(nn.Conv3d):
    """3D convolution whose output frame sees its own and earlier input frames only.

    All temporal padding (zeros) goes in front of the first frame, so an image is simply a one-frame
    video (MAGVIT-v2, section 3.2). Spatial padding is symmetric.
    """

    def __init__(
        self,
        in_width: int,
        out_width: int,
        kernel_size: tuple[int, int, int],
        stride: tuple[int, int, int] = (1, 1, 1),
    ) -> None:
        _, height, width = kernel_size
        super().__init__(in_width, out_width, kernel_size, stride, padding=(0, height // 2, width // 2))

    def forward(self, input: Float[Tensor, "b c T H W"]) -> Float[Tensor, "b d t h w"]:
        frames_in_front = self.kernel_size[0] - 1
        if frames_in_front:
            input = F.pad(input, (0, 0, 0, 0, frames_in_front, 0))
        return super().forward(input)


class FrameGroupNorm(nn.GroupNorm):
    """Group normalization of each frame by itself; statistics over time would leak the future.

    There are 32 groups, or fewer where that would leave a group less than four channels: a channel by itself would
    lose its mean.
    """

    def __init__(self, width: int) -> None:
        most = max(1, min(32, width // 4))
        super().__init__(max(groups for groups in range(1, most + 1) if width % groups == 0), width, eps=1e-6)

    def forward(self, input: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b c t h w"]:
        frames = rearrange(input, "b c t h w -> (b t) c h w")
        return rearrange(super().forward(frames), "(b t) c h w -> b c t h w", b=len(input))


class ResidualBlock(nn.Module):
    """A spatial, then a temporal convolution, each after norm and Swish, added to the input.

    At equal time the factorized pair learns far more than the paper's two 3x3x3 convolutions.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            FrameGroupNorm(width),
            nn.SiLU(),
            CausalConv3d(width, width, (1, 3, 3)),
            FrameGroupNorm(width),
            nn.SiLU(),
            start_small(CausalConv3d(width, width, (3, 1, 1))),
        )

    def forward(self, input: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b c t h w"]:
        return input + self.branch(input)


class Attention(nn.Module):
    """Multi-head self-attention with rotary positions; the subclasses say along which axes."""

    sequences: ClassVar[str]  # einops axes that are told apart
    places: ClassVar[tuple[str, ...]]  # axes along which places attend to each other
    is_causal: ClassVar[bool]

    def __init__(self, width: int) -> None:
        super().__init__()
        self.head_size = math.gcd(width, HEAD_SIZE)
        self.norm = FrameGroupNorm(width)
        self.to_queries_keys_values = CausalConv3d(width, 3 * width, (1, 1, 1))
        self.to_output = start_small(CausalConv3d(width, width, (1, 1, 1)))

    def forward(self, input: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b c t h w"]:
        sizes = parse_shape(input, "b _ t h w")
        grid = tuple(sizes[axis] for axis in self.places)
        in_rows = f"({self.sequences}) heads ({' '.join(self.places)}) d"
        queries, keys, values = rearrange(
            self.to_queries_keys_values(self.norm(input)),
            f"b (three heads d) t h w -> three {in_rows}",
            three=3,
            d=self.head_size,
        )
        attended = F.scaled_dot_product_attention(
            rotate(queries, grid), rotate(keys, grid), values, is_causal=self.is_causal
        )
        return input + self.to_output(rearrange(attended, f"{in_rows} -> b (heads d) t h w", **sizes))


class SpaceAttention(Attention):
    """Every place of a frame attends to every place of the same frame."""

    sequences, places, is_causal = "b t", ("h", "w"), False


class TimeAttention(Attention):
    """Every place attends to the same place in its own and all earlier frames."""

    sequences, places, is_causal = "b h w", ("t",), True


class SpaceUpsample(nn.Sequential):
    """Twice the height and width, by a pointwise convolution and depth-to-space."""

    def __init__(self, in_width: int, out_width: int) -> None:
        super().__init__(CausalConv3d(in_width, 4 * out_width, (1, 1, 1)))

    def forward(self, input: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b d t H W"]:
        return rearrange(super().forward(input), "b (d p q) t h w -> b d t (h p) (w q)", p=2, q=2)


class TimeUpsample(nn.Sequential):
    """1 + k frames become 1 + 2k, by a pointwise convolution and depth-to-time.

    The surplus first frame is dropped: the first latent frame always stands for one frame.
    """

    def __init__(self, in_width: int, out_width: int) -> None:
        super().__init__(CausalConv3d(in_width, 2 * out_width, (1, 1, 1)))

    def forward(self, input: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b d T h w"]:
        return rearrange(super().forward(input), "b (d r) t h w -> b d (t r) h w", r=2)[:, :, 1:]


class Fold(nn.Module):
    """Fold blocks of frames and pixels into channels; the first frame is repeated in front to fill its block."""

    def __init__(self, patch_size: tuple[int, int, int]) -> None:
        super().__init__()
        self.patch_size = patch_size

    def forward(self, video: Float[Tensor, "b c T H W"]) -> Float[Tensor, "b d t h w"]:
        r, p, q = self.patch_size
        first = repeat(video[:, :, 0], "b c H W -> b c r H W", r=r - 1)
        video = torch.cat([first, video], dim=2)
        return rearrange(video, "b c (t r) (h p) (w q) -> b (c r p q) t h w", r=r, p=p, q=q)


class Unfold(nn.Module):
    """The inverse of `Fold`: channels become blocks of frames and pixels, the repeated frames are dropped."""

    def __init__(self, patch_size: tuple[int, int, int]) -> None:
        super().__init__()
        self.patch_size = patch_size

    def forward(self, folded: Float[Tensor, "b d t h w"]) -> Float[Tensor, "b c T H W"]:
        r, p, q = self.patch_size
        video = rearrange(folded, "b (c r p q) t h w -> b c (t r) (h p) (w q)", r=r, p=p, q=q)
        return video[:, :, r - 1 :]


def start_small(convolution: CausalConv3d) -> CausalConv3d:
    """The last convolution of a residual branch, with weights scaled down and no bias at the start."""
    assert convolution.bias is not None
    with torch.no_grad():
        convolution.weight.mul_(BRANCH_SCALE)
        convolution.bias.zero_()
    return convolution
