"""Given pixels among drawn ones, without a jump where they meet."""

from collections.abc import Collection

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor

from .seams import smooth_seams

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
