"""Discriminators: convolutional networks that classify clips as real or reconstructed.

`VideoDiscriminator` is the network of the paper. `DetailDiscriminator` is cheaper and learns within a hundred steps.
"""

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from einops import rearrange, reduce
from jaxtyping import Float
from torch import Tensor, nn

from ..devices import built_once

WIDTHS_AFTER_BLOCKS = (
    2,
    4,
    4,
    4,
    4,
)  # multiples of the first width: 128 -> 256 -> 512 -> 512 -> 512 -> 512 in the paper
NEGATIVE_SLOPE = 0.2
BLUR_TAPS = (1.0, 3.0, 3.0, 1.0)

Sight = Literal["pixels", "details"]
DETAIL_WIDTHS = (1, 2, 4)  # multiples of the first width: two blocks
DETAIL_TAPS = (1.0, 2.0, 1.0)
DETAIL_GAIN = 6.0  # the standard deviation of the shipped clips is 0.06 for details, 0.58 for pixels


@dataclass(frozen=True, kw_only=True)
class DiscriminatorConfig:
    """Config of one discriminator. Several can be used together at different time scales."""

    width: int = 128
    """Channels after the first convolution. The widest layers have four times as many."""
    frame_stride: int = 1
    """The discriminator sees every `frame_stride`-th frame of a clip."""
    patch_size: int = 1
    """Rows and columns of pixels folded into channels before the first convolution. 1: the network of the paper. 2:
    about a quarter of its cost."""
    weight: float = 1.0
    """Factor of its adversarial loss in the total loss, multiplied by `loss_weights.adversarial` of the tokenizer."""
    sees: Sight = "pixels"
    """`pixels`: a `VideoDiscriminator`; `details`: a `DetailDiscriminator`."""

    def __post_init__(self) -> None:
        for name in ("width", "frame_stride", "patch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.weight <= 0:
            raise ValueError(f"weight must be positive, got {self.weight}")
        if self.sees not in get_args(Sight):
            raise ValueError(f"sees must be one of {', '.join(get_args(Sight))}, got {self.sees!r}")


Logits = Float[Tensor, "b *places"]  # one for each clip, or several


class FrameDiscriminator(nn.Module):
    """Base class of the discriminators: selects the frames that a discriminator sees. Subclasses implement `logits`."""

    def __init__(self, config: DiscriminatorConfig) -> None:
        super().__init__()
        self.config = config
        self.network = logits_of  # a function of the module, so that a copy of the module calls its own

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Compile `logits` as one graph. Compiled with it, the selection of frames would add a graph for each phase.

        Args:
            args, kwargs: arguments of `torch.compile`.
        """
        self.network = torch.compile(logits_of, *args, **kwargs)

    def forward(self, video: Float[Tensor, "b c T H W"], phase: int = 0) -> Logits:
        """Return the logits of clips of any size.

        Args:
            phase: offset of the frames that a frame stride selects. If it increases with every step, all frames are
                used in turn.
        """
        return self.network(self, frames_seen(video, self.config.frame_stride, phase))

    def logits(self, seen: Float[Tensor, "b c t H W"]) -> Logits:
        """Return the logits of the frames that the discriminator sees."""
        raise NotImplementedError


def logits_of(discriminator: FrameDiscriminator, seen: Float[Tensor, "b c t H W"]) -> Logits:
    return discriminator.logits(seen)


class VideoDiscriminator(FrameDiscriminator):
    """3D blur-pool network of MAGVIT-v2: one logit for each clip, high for real clips. It is not causal.

    It consists of a 3x3x3 convolution, five residual blocks that halve time, height and width (a size of 1 stays 1), a
    3x3x3 convolution and two linear layers. The paper flattens the features before the linear layers, which fixes the
    size of clips. Here they are averaged over all positions, so images, short clips and any resolution can be
    classified. For the clips of the paper this is an average over one frame of 4 x 4 positions.
    """

    def __init__(self, config: DiscriminatorConfig, channels: int = 3) -> None:
        super().__init__(config)
        widths = [config.width, *(config.width * factor for factor in WIDTHS_AFTER_BLOCKS)]
        self.stem = convolution(channels * config.patch_size**2, config.width)
        self.blocks = nn.Sequential(
            *(DownBlock(before, after) for before, after in pairwise(widths)),
            convolution(widths[-1], widths[-1]),
        )
        self.judge = nn.Sequential(
            nn.Linear(widths[-1], widths[-1]), nn.LeakyReLU(NEGATIVE_SLOPE), nn.Linear(widths[-1], 1)
        )

    def logits(self, seen: Float[Tensor, "b c t H W"]) -> Float[Tensor, " b"]:
        features = self.blocks(self.stem(fold(seen, self.config.patch_size)))
        return self.judge(reduce(features, "b c t h w -> b c", "mean"))[:, 0]


class DetailDiscriminator(FrameDiscriminator):
    """Network on the details of clips: one logit for each position of a coarse grid, high for real clips.

    Its input is the high-frequency part of the frames at half the resolution. `VideoDiscriminator` has one logit for
    each clip and sees mainly colors and light, which reconstructions get right, so it learns almost nothing in the
    first hundred steps. Half the resolution removes the finest grain; otherwise a decoder would imitate the grain by
    the same pattern in all patches.
    """

    def __init__(self, config: DiscriminatorConfig, channels: int = 3) -> None:
        super().__init__(config)
        widths = [config.width * factor for factor in DETAIL_WIDTHS]
        self.stem = convolution(channels * config.patch_size**2, widths[0])
        self.blocks = nn.Sequential(*(DownBlock(before, after) for before, after in pairwise(widths)))
        self.judge = nn.Conv3d(widths[-1], 1, 1)

    def logits(self, seen: Float[Tensor, "b c t H W"]) -> Float[Tensor, "b n"]:
        """Return the logits of the frames. A position covers about 8 x 8 pixels times the patch size."""
        features = self.blocks(self.stem(fold(details(seen), self.config.patch_size)))
        return rearrange(self.judge(features), "b 1 t h w -> b (t h w)")


def new_discriminator(config: DiscriminatorConfig, channels: int = 3) -> VideoDiscriminator | DetailDiscriminator:
    """Return the discriminator of a config, with random weights."""
    return (DetailDiscriminator if config.sees == "details" else VideoDiscriminator)(config, channels)


def frames_seen(video: Float[Tensor, "b c T H W"], stride: int, phase: int) -> Float[Tensor, "b c t H W"]:
    """Return every `stride`-th frame, with an offset of `phase`."""
    return video[:, :, phase % min(stride, video.shape[2]) :: stride]


def details(video: Float[Tensor, "b c T H W"]) -> Float[Tensor, "b c T h w"]:
    """Return the amplified high-frequency part of the frames at half the resolution, which is zero for flat frames."""
    height, width = (blur_matrix(size, video.dtype, video.device) for size in video.shape[3:])
    halved = height @ video @ width.T
    rows, columns = (smoothing_matrix(size, video.dtype, video.device) for size in halved.shape[3:])
    return DETAIL_GAIN * (halved - rows @ halved @ columns.T)


@built_once
def smoothing_matrix(size: int, dtype: torch.dtype, device: torch.device) -> Float[Tensor, "size size"]:
    """Return the matrix of a blur: row i averages the positions around i. The border is repeated."""
    taps = torch.tensor(DETAIL_TAPS, dtype=torch.float32) / sum(DETAIL_TAPS)
    identity = torch.eye(size, dtype=torch.float32)
    padded = torch.cat([identity[:1], identity, identity[-1:]])
    shifted = torch.stack([padded[first : first + size] for first in range(len(taps))])
    return torch.einsum("k, k i j -> i j", taps, shifted).to(device, dtype)


class DownBlock(nn.Module):
    """Residual block of two convolutions with a blur-pool between them. The skip connection is pooled and pointwise.

    Only the first convolution, with the smaller width, is at full resolution.
    """

    def __init__(self, in_width: int, out_width: int) -> None:
        super().__init__()
        self.fine = convolution(in_width, in_width)
        self.coarse = convolution(in_width, out_width)
        self.skip = nn.Linear(in_width, out_width, bias=False)

    def forward(self, input: Float[Tensor, "b c T H W"]) -> Float[Tensor, "b d t h w"]:
        # A pointwise convolution as a matrix product: for one clip on a CPU, conv3d misses its fast path.
        skip = torch.einsum("d c, b c t h w -> b d t h w", self.skip.weight, blur_pool(input))
        return (self.coarse(blur_pool(self.fine(input))) + skip) / math.sqrt(2)  # keeps the variance


def convolution(in_width: int, out_width: int) -> nn.Sequential:
    """Return a 3x3x3 convolution with activation, initialized to preserve the variance."""
    layer = nn.Conv3d(in_width, out_width, 3, padding=1)
    nn.init.kaiming_normal_(layer.weight, a=NEGATIVE_SLOPE)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return nn.Sequential(layer, nn.LeakyReLU(NEGATIVE_SLOPE, inplace=True))


def blur_pool(video: Float[Tensor, "b c T H W"]) -> Float[Tensor, "b c t h w"]:
    """Halve each size, rounded up, after a binomial blur (Zhang, 2019). A size of 1 stays 1.

    Blur and stride along an axis are one matrix product. On a CPU, three matrix products are about five times faster
    than depthwise convolutions, and so are their gradients.
    """
    num_frames, height, width = (blur_matrix(size, video.dtype, video.device) for size in video.shape[2:])
    pooled = rearrange(
        num_frames @ rearrange(video, "b c T H W -> b c T (H W)"), "... (H W) -> ... H W", H=height.shape[1]
    )
    return height @ pooled @ width.T


@built_once
def blur_matrix(size: int, dtype: torch.dtype, device: torch.device) -> Float[Tensor, "half size"]:
    """Return the matrix of blur and stride: row i averages the positions around 2i and 2i + 1 that are inside."""
    half = -(-size // 2)
    offset = torch.arange(size) - 2 * torch.arange(half)[:, None] + 1
    taps = torch.tensor(BLUR_TAPS, dtype=torch.float32)
    matrix = torch.where((offset >= 0) & (offset < len(taps)), taps[offset.clamp(0, len(taps) - 1)], 0.0)
    return (matrix / matrix.sum(dim=1, keepdim=True)).to(device, dtype)


def fold(video: Float[Tensor, "b c T H W"], patch_size: int) -> Float[Tensor, "b d T h w"]:
    """Fold blocks of pixels into channels. The last row and column are repeated to fill their blocks."""
    if patch_size == 1:
        return video
    rows, columns = (-size % patch_size for size in video.shape[3:])
    if rows or columns:
        video = F.pad(video, (0, columns, 0, rows, 0, 0), mode="replicate")
    return rearrange(video, "b c t (h p) (w q) -> b (c p q) t h w", p=patch_size, q=patch_size)
