"""No jump where windows meet, or where given pixels meet generated ones.

A tokenizer changes a picture a little differently in every latent frame. Inside a video that passes for flicker; where
one side is as it was given, or comes from another window, it is a jump, and the eye finds it.
"""

from collections.abc import Collection

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor

KEPT = 0.9  # share of a correction that the next frame takes over
TOLERANCE = 0.2  # change of the picture that leaves 1 / e of a correction
NEIGHBOURHOOD = 5  # width of the square of pixels over which that change is averaged


def smooth_seams(
    video: Float[Tensor, "b c T H W"],
    known: Bool[Tensor, "b T H W"],
    *,
    seams: Collection[int],
    cell: tuple[int, int, int],
) -> Float[Tensor, "b c T H W"]:
    """The video, its steps at seams no larger than those around them; known pixels as they are.

    What is too much of a step, in comparison with the steps of the same part of the picture into the frames around, is
    corrected: by half of it on each side of the seam, or in full beside known pixels. The correction fades out away
    from the seam, and sooner where the picture changes, since it belongs to what is seen at the seam. A motion that
    goes on makes steps before and after the seam, too, and is left alone.

    Args:
        known: given; where a pixel begins or ceases to be known there is a seam as well.
        seams: frames that follow the one before from another window.
        cell: frames, rows and columns of pixels that a code stands for: how far around a seam steps are compared.
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
        usual = middle(steps[:, :, others])
        too_much = (1 - usual / steps[:, :, frame - 1]).nan_to_num(nan=0, neginf=0).clamp(min=0)
        correction = (video[:, :, frame - 1] - video[:, :, frame]) * too_much * is_seam
        num_sides = (before + after).clamp(min=1)
        forwards[:, :, frame] = correction * after / num_sides
        backwards[:, :, frame - 1] = -correction * before / num_sides
    faded = fade(video, forwards, is_free) + fade(video.flip(2), backwards.flip(2), is_free.flip(2)).flip(2)
    return video + faded


def fade(
    video: Float[Tensor, "b c T H W"], corrections: Float[Tensor, "b c T H W"], is_free: Float[Tensor, "b 1 T H W"]
) -> Float[Tensor, "b c T H W"]:
    """Corrections of single frames with what of them reaches the frames after, as far as these are free."""
    changes = local_mean(video.diff(dim=2).abs().mean(dim=1, keepdim=True), (NEIGHBOURHOOD, NEIGHBOURHOOD))
    kept = KEPT * (-changes / TOLERANCE).exp()
    faded = [corrections[:, :, 0]]
    for frame in range(1, video.shape[2]):
        taken_over = faded[-1] * kept[:, :, frame - 1]
        faded.append((taken_over + corrections[:, :, frame]) * is_free[:, :, frame])
    return torch.stack(faded, dim=2)


def local_mean(values: Float[Tensor, "b c T H W"], size: tuple[int, int]) -> Float[Tensor, "b c T H W"]:
    """The mean over the pixels of the frame within half of `size` of each."""
    reach = (size[0] // 2, size[1] // 2)
    frames = rearrange(values, "b c T H W -> (b T) c H W")
    kernel = (2 * reach[0] + 1, 2 * reach[1] + 1)
    means = F.avg_pool2d(frames, kernel, stride=1, padding=reach, count_include_pad=False)
    return rearrange(means, "(b T) c H W -> b c T H W", b=len(values))


def middle(values: Float[Tensor, "b c n H W"]) -> Float[Tensor, "b c H W"]:
    """The median over n; of an even number the mean of the middle two. (`torch.quantile` refuses large tensors.)"""
    in_order, number = values.sort(dim=2).values, values.shape[2]
    return (in_order[:, :, (number - 1) // 2] + in_order[:, :, number // 2]) / 2


REACH = 1 / 8  # standard deviation of how far an error reaches in space, in widths of a cell


def join_given(
    drawn: Float[Tensor, "b c T H W"],
    given: Float[Tensor, "b c T H W"],
    known: Bool[Tensor, "b T H W"],
    *,
    seams: Collection[int],
    cell: tuple[int, int, int],
) -> Float[Tensor, "b c T H W"]:
    """The given pixels as they are, and the drawn ones without a jump beside them or at seams.

    Args:
        drawn: in [0, 1]; known pixels, too, as the tokenizer draws them.
        known: where pixels are given.
        seams: frames that follow the one before from another window.
        cell: frames, rows and columns of pixels that a code stands for.
    """
    joined = torch.where(known[:, None], given, drawn + spread_error(drawn, given, known, cell[1:]))
    return smooth_seams(joined, known, seams=seams, cell=cell).clamp(0, 1)


def spread_error(
    drawn: Float[Tensor, "b c T H W"],
    given: Float[Tensor, "b c T H W"],
    known: Bool[Tensor, "b T H W"],
    cell: tuple[int, int],
) -> Float[Tensor, "b c T H W"]:
    """What drawn pixels lack, as far as given ones near them in the same frame tell; 0 farther away.

    The mean error of the known pixels, weighted by a Gaussian around each place: in full where half of the weight or
    more is on known pixels, as it is at a straight edge.
    """
    weight = rearrange(known, "b T H W -> b 1 T H W").to(drawn.dtype)
    share_known = blur(weight, cell)
    full = (1 / share_known).clamp(max=2)
    return blur((given - drawn) * weight, cell) * full


def blur(values: Float[Tensor, "b c T H W"], cell: tuple[int, int]) -> Float[Tensor, "b c T H W"]:
    """Each frame blurred by a Gaussian whose width is a share of the cell's; there is nothing beyond the edges."""
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
