"""Causal convolutions: an output frame does not depend on later input frames."""

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

BRANCH_SCALE = 1e-3  # initial scale of a residual branch, so that a deep network starts as a shallow one


class Sequence(nn.Sequential):
    """`nn.Sequential` that passes the context to each layer."""

    def forward(self, input: Float[Tensor, "b c T H W"], context: Context = WHOLE) -> Float[Tensor, "b d t h w"]:
        for layer in self:
            input = layer(input, context)
        return input


class Swish(nn.SiLU):
    """Swish activation."""

    def forward(self, input: Float[Tensor, "b c t h w"], context: Context = WHOLE) -> Float[Tensor, "b c t h w"]:
        return super().forward(input)


class CausalConv3d(nn.Conv3d):
    """3D convolution whose output frames depend only on their own and earlier input frames.

    All temporal padding (zeros) is in front of the first frame, so an image is a video of one frame (MAGVIT-v2, section
    3.2). Spatial padding is symmetric.
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
            # A 2D convolution over time and flattened positions is the same and twice as fast on a CPU.
            rows = F.conv2d(in_rows(input), self.weight[..., 0], self.bias, (self.stride[0], 1))
            return rows.unflatten(3, input.shape[3:])
        if time == self.stride[0] == 1 and is_channels_last(input):
            if space == [1, 1] and self.stride[1:] == (1, 1):  # a matrix product
                return F.linear(input.movedim(1, -1), self.weight.flatten(1), self.bias).movedim(-1, 1)
            frames = rearrange(input, "b c t h w -> (b t) c h w")
            frames = F.conv2d(frames, self.weight[:, :, 0], self.bias, self.stride[1:], self.padding[1:])
            return rearrange(frames, "(b t) c h w -> b c t h w", b=input.shape[0])
        return super().forward(input)


class OverChannels(nn.Conv3d):
    """Pointwise convolution of an input with the channels last, computed as a matrix product."""

    def __init__(self, in_width: int, out_width: int) -> None:
        super().__init__(in_width, out_width, 1)

    def forward(self, input: Float[Tensor, "*positions c"]) -> Float[Tensor, "*positions d"]:
        return F.linear(input, self.weight.flatten(1), self.bias)


class Blur(nn.Module):
    """Binomial low-pass filter (1, 2, 1) / 4 along the axes with a stride (Zhang, 2019).

    Along time it is causal. The border is repeated, so that a constant input does not change.
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
        # Pooling is not implemented in bfloat16 on a CPU.
        blurred = F.avg_pool3d(F.avg_pool3d(at_least_float32(padded), window, stride=1), window, stride=1)
        return blurred.to(input.dtype)


class Downsample(CausalConv3d):
    """Strided causal convolution, with a blur before it if `antialiased`."""

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
    """Prepend the earlier frames that `layer` needs: in a stream those of the previous piece, otherwise padding.

    Args:
        num_frames: number of frames of padding: zeros, or the first frame if `repeat_first`.
        num_kept: number of frames that the layer keeps for the next piece.
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
        context.past[layer] = input[
            :, :, input.shape[2] - num_kept :
        ].clone()  # a view would keep the whole piece in memory
    return input


def in_rows(videos: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b c t n"]:
    """Flatten the positions of each frame, without a copy."""
    if is_channels_last(videos):
        # For a batch of one, `flatten` returns strides that convolutions interpret as another memory format.
        return videos.movedim(1, -1).flatten(2, 3).movedim(-1, 1)
    return videos.flatten(3)


def start_small(convolution: Convolution) -> Convolution:
    """Scale down the initial weights of the last convolution of a residual branch, and zero its bias."""
    assert convolution.bias is not None
    with torch.no_grad():
        convolution.weight.mul_(BRANCH_SCALE)
        convolution.bias.zero_()
    return convolution
