"""Causal convolution: an output frame never depends on a later input frame."""

from typing import TypeVar

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from .context import WHOLE, Context
from .entropy import at_least_float32
from .memory_format import is_channels_last

Convolution = TypeVar("Convolution", bound=nn.Conv3d)

BRANCH_SCALE = 1e-3  # a residual branch starts close to zero, so a deep stack starts as a shallow one


class Sequence(nn.Sequential):
    """Layers one after the other; each is handed the context."""

    def forward(self, input: Float[Tensor, "b c T H W"], context: Context = WHOLE) -> Float[Tensor, "b d t h w"]:
        for layer in self:
            input = layer(input, context)
        return input


class Swish(nn.SiLU):
    def forward(self, input: Float[Tensor, "b c t h w"], context: Context = WHOLE) -> Float[Tensor, "b c t h w"]:
        return super().forward(input)


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

    def forward(self, input: Float[Tensor, "b c T H W"], context: Context = WHOLE) -> Float[Tensor, "b d t h w"]:
        input = after_past(self, input, context, self.kernel_size[0] - 1, self.kernel_size[0] - self.stride[0])
        time, *space = self.kernel_size
        if time > 1 and space == [1, 1] and self.stride[1:] == (1, 1):
            # The same sum as a 2D convolution over time and places, which on a CPU is twice as fast.
            rows = F.conv2d(in_rows(input), self.weight[..., 0], self.bias, (self.stride[0], 1))
            return rows.unflatten(3, input.shape[3:])
        if time == self.stride[0] == 1 and is_channels_last(input):
            if space == [1, 1] and self.stride[1:] == (1, 1):  # a product of matrices
                return F.linear(input.movedim(1, -1), self.weight.flatten(1), self.bias).movedim(-1, 1)
            frames = rearrange(input, "b c t h w -> (b t) c h w")
            frames = F.conv2d(frames, self.weight[:, :, 0], self.bias, self.stride[1:], self.padding[1:])
            return rearrange(frames, "(b t) c h w -> b c t h w", b=input.shape[0])
        return super().forward(input)


class OverChannels(nn.Conv3d):
    """A pointwise convolution of rows of channels, as a product of matrices."""

    def __init__(self, in_width: int, out_width: int) -> None:
        super().__init__(in_width, out_width, 1)

    def forward(self, input: Float[Tensor, "*places c"]) -> Float[Tensor, "*places d"]:
        return F.linear(input, self.weight.flatten(1), self.bias)


class Blur(nn.Module):
    """Binomial low-pass (1, 2, 1) / 4 along the axes that `stride` makes coarser, before it does (Zhang, 2019).

    Along time it is causal. The border is repeated, so that a constant stays what it is.
    """

    def __init__(self, stride: tuple[int, int, int]) -> None:
        super().__init__()
        self.reach = tuple(int(size > 1) for size in stride)

    def forward(self, input: Float[Tensor, "b c t h w"], context: Context = WHOLE) -> Float[Tensor, "b c t h w"]:
        time, height, width = self.reach
        if time:
            input = after_past(self, input, context, 2, 2, repeat_first=True)
        padded = F.pad(input, (width, width, height, height, 0, 0), mode="replicate")
        window = (1 + time, 1 + height, 1 + width)
        # On a CPU, pooling does not exist in bfloat16.
        blurred = F.avg_pool3d(F.avg_pool3d(at_least_float32(padded), window, stride=1), window, stride=1)
        return blurred.to(input.dtype)


class Downsample(CausalConv3d):
    """Strided causal convolution, after a blur where aliasing is to be avoided."""

    def __init__(
        self,
        in_width: int,
        out_width: int,
        kernel_size: tuple[int, int, int],
        stride: tuple[int, int, int],
        *,
        antialiased: bool,
    ) -> None:
        super().__init__(in_width, out_width, kernel_size, stride)
        self.blur = Blur(stride) if antialiased else None

    def forward(self, input: Float[Tensor, "b c T H W"], context: Context = WHOLE) -> Float[Tensor, "b d t h w"]:
        return super().forward(input if self.blur is None else self.blur(input, context), context)


def after_past(
    layer: nn.Module,
    input: Float[Tensor, "b c t h w"],
    context: Context,
    num_frames: int,
    num_kept: int,
    *,
    repeat_first: bool = False,
) -> Float[Tensor, "b c T h w"]:
    """`input` after the frames that `layer` has kept of the pieces before.

    Args:
        num_frames: how many are set in front of the first piece: zeros, or the first frame repeated.
        num_kept: how many the layer keeps for its next piece.
    """
    if num_frames == 0:
        return input
    if not context.begins:
        assert context.past is not None
        input = torch.cat([context.past[layer], input], dim=2)
    elif repeat_first:
        input = F.pad(input, (0, 0, 0, 0, num_frames, 0), mode="replicate")
    else:
        input = F.pad(input, (0, 0, 0, 0, num_frames, 0))
    if context.past is not None:
        context.past[layer] = input[:, :, input.shape[2] - num_kept :].clone()  # a view would keep the whole piece
    return input


def in_rows(videos: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b c t places"]:
    """The places of each frame in a row, as a view."""
    if is_channels_last(
        videos
    ):  # `flatten` would give a batch of one a stride that convolutions take for another format
        return videos.movedim(1, -1).flatten(2, 3).movedim(-1, 1)
    return videos.flatten(3)


def start_small(convolution: Convolution) -> Convolution:
    """The last convolution of a residual branch, with weights scaled down and no bias at the start."""
    assert convolution.bias is not None
    with torch.no_grad():
        convolution.weight.mul_(BRANCH_SCALE)
        convolution.bias.zero_()
    return convolution
