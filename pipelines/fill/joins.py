"""Joins: no visible steps between windows, or between given and generated pixels.

The reconstruction error of a tokenizer varies between latent frames. Within a video this looks like flicker, but next
to given pixels or pixels of another window it is a visible step.
"""

from collections.abc import Collection

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor

REACH = 1 / 8  # standard deviation of the blur of errors, as a share of the cell's size
KEPT = 0.9  # share of a correction that the next frame keeps
TOLERANCE = 0.2  # change between frames that reduces a correction to 1 / e
NEIGHBOURHOOD = 5  # rows and columns over which this change is averaged


def join_given(
    decoded: Float[Tensor, "b c T H W"],
    given: Float[Tensor, "b c T H W"],
    known: Bool[Tensor, "b T H W"],
    *,
    seams: Collection[int],
    cell: tuple[int, int, int],
) -> Float[Tensor, "b c T H W"]:
    """Return videos with the given pixels unchanged, and generated pixels corrected to continue them.

    Args:
        decoded: output of the tokenizer in [0, 1], including the known pixels.
        known: True where pixels are given.
        seams: first frame of each window except the first.
        cell: number of frames, rows and columns of pixels per code.
    """
    joined = torch.where(known[:, None], given, decoded + spread_error(decoded, given, known, cell[1:]))
    return smooth_seams(joined, known, seams=seams, cell=cell).clamp(0, 1)


def spread_error(
    decoded: Float[Tensor, "b c T H W"],
    given: Float[Tensor, "b c T H W"],
    known: Bool[Tensor, "b T H W"],
    cell: tuple[int, int],
) -> Float[Tensor, "b c T H W"]:
    """Return corrections of generated pixels from the errors of known pixels near them in the same frame.

    The correction is the mean error of the known pixels, weighted by a Gaussian around each place. It is applied in
    full where known pixels have at least half of the weight, as at a straight edge, and fades to 0 away from them.
    """
    weight = rearrange(known, "b T H W -> b 1 T H W").to(decoded.dtype)
    share_known = blur(weight, cell)
    full = (1 / share_known).clamp(max=2)
    return blur((given - decoded) * weight, cell) * full


def blur(values: Float[Tensor, "b c T H W"], cell: tuple[int, int]) -> Float[Tensor, "b c T H W"]:
    """Blur each frame by a Gaussian whose standard deviation is a share of the cell's size. Padding is 0."""
    frames = rearrange(values, "b c T H W -> (b c T) 1 H W")
    for axis, size in enumerate(cell):
        deviation = max(1.0, size * REACH)
        reach = round(3 * deviation)
        places = torch.arange(-reach, reach + 1, dtype=values.dtype, device=values.device)
        kernel = (-(places**2) / (2 * deviation**2)).exp()
        shape, padding = [1, 1, 1, 1], [0, 0]
        shape[2 + axis], padding[axis] = len(kernel), reach
        frames = F.conv2d(frames, (kernel / kernel.sum()).view(shape), padding=padding)
    return rearrange(frames, "(b c T) 1 H W -> b c T H W", b=values.shape[0], c=values.shape[1])


def smooth_seams(
    video: Float[Tensor, "b c T H W"],
    known: Bool[Tensor, "b T H W"],
    *,
    seams: Collection[int],
    cell: tuple[int, int, int],
) -> Float[Tensor, "b c T H W"]:
    """Reduce the steps at seams to the usual size of steps around them. Known pixels do not change.

    A step is the change of a pixel from one frame to the next. At a seam, its excess over the median step of the same
    region in the frames around is corrected: half on each side of the seam, or all of it on one side where the other
    is known. A correction fades out over the frames away from the seam, faster where the picture changes. Steady motion
    also makes large steps before and after the seam, and is not changed.

    Args:
        known: given pixels. There is also a seam where a pixel changes between known and unknown.
        seams: first frame of each window except the first.
        cell: number of frames, rows and columns of pixels per code, the range over which steps are compared.
    """
    num_frames = video.shape[2]
    is_free = rearrange(~known, "b T H W -> b 1 T H W").to(video.dtype)
    steps = local_mean(video.diff(dim=2).abs().mean(dim=1, keepdim=True), cell[1:])
    forwards, backwards = torch.zeros_like(video), torch.zeros_like(video)
    for frame in range(1, num_frames):
        before, after = is_free[:, :, frame - 1], is_free[:, :, frame]
        is_seam = torch.ones_like(after) if frame in seams else before != after
        around = range(max(1, frame - cell[0]), min(num_frames, frame + cell[0] + 1))
        others = [other - 1 for other in around if other != frame]
        if not others or not is_seam.any():
            continue
        usual = median(steps[:, :, others])
        excess = (1 - usual / steps[:, :, frame - 1]).nan_to_num(nan=0, neginf=0).clamp(min=0)
        correction = (video[:, :, frame - 1] - video[:, :, frame]) * excess * is_seam
        num_sides = (before + after).clamp(min=1)
        forwards[:, :, frame] = correction * after / num_sides
        backwards[:, :, frame - 1] = -correction * before / num_sides
    faded = fade(video, forwards, is_free) + fade(video.flip(2), backwards.flip(2), is_free.flip(2)).flip(2)
    return video + faded


def fade(
    video: Float[Tensor, "b c T H W"], corrections: Float[Tensor, "b c T H W"], is_free: Float[Tensor, "b 1 T H W"]
) -> Float[Tensor, "b c T H W"]:
    """Continue the correction of each frame into the following frames, up to the first known pixel."""
    changes = local_mean(video.diff(dim=2).abs().mean(dim=1, keepdim=True), (NEIGHBOURHOOD, NEIGHBOURHOOD))
    kept = KEPT * (-changes / TOLERANCE).exp()
    faded = [corrections[:, :, 0]]
    for frame in range(1, video.shape[2]):
        taken_over = faded[-1] * kept[:, :, frame - 1]
        faded.append((taken_over + corrections[:, :, frame]) * is_free[:, :, frame])
    return torch.stack(faded, dim=2)


def local_mean(values: Float[Tensor, "b c T H W"], size: tuple[int, int]) -> Float[Tensor, "b c T H W"]:
    """Return the mean over a window around each pixel, `size` rows and columns rounded up to odd numbers."""
    reach = (size[0] // 2, size[1] // 2)
    frames = rearrange(values, "b c T H W -> (b T) c H W")
    kernel = (2 * reach[0] + 1, 2 * reach[1] + 1)
    means = F.avg_pool2d(frames, kernel, stride=1, padding=reach, count_include_pad=False)
    return rearrange(means, "(b T) c H W -> b c T H W", b=len(values))


def median(values: Float[Tensor, "b c n H W"]) -> Float[Tensor, "b c H W"]:
    """Return the median over n; the mean of the middle two for even n. (`torch.quantile` refuses large tensors.)"""
    in_order, number = values.sort(dim=2).values, values.shape[2]
    return (in_order[:, :, (number - 1) // 2] + in_order[:, :, number // 2]) / 2
