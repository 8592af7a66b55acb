"""How much fine detail a reconstruction keeps, and how much of it is made up."""

import math

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

LUMINANCE = (0.299, 0.587, 0.114)  # of red, green and blue (Rec. 601)
LAPLACIAN = ((0.0, 1.0, 0.0), (1.0, -4.0, 1.0), (0.0, 1.0, 0.0))


def sharpness_ratio(reference: Float[Tensor, "b c T H W"], reconstruction: Float[Tensor, "b c T H W"]) -> float:
    """The sharpness of a reconstruction over that of its original: 1 is right, less is blur, more is noise.

    Sharpness is the variance of the Laplacian of each frame's luminance, summed over all frames before the ratio is
    taken, so that flat frames count for nothing. It looks at amounts alone, not at where the detail lies: beside a
    distance (PSNR) it tells invented texture from kept texture, by itself it does not. The unit of pixels cancels out.

    Args:
        reference: of 1, 3 or 4 channels (the fourth is left out), at least 3 x 3 pixels.

    Returns:
        From 0 upwards; NaN where all originals are flat.

    Raises:
        ValueError: another number of channels, or frames too small.
    """
    original = sharpness(reference)
    return sharpness(reconstruction) / original if original > 0 else math.nan


def sharpness(videos: Float[Tensor, "b c T H W"]) -> float:
    """The mean over frames of the variance of the Laplacian of the luminance, in squared units of the pixels.

    Raises:
        ValueError: not 1, 3 or 4 channels, or frames of less than 3 x 3 pixels.
    """
    channels, height, width = videos.shape[1], *videos.shape[3:]
    if channels not in (1, 3, 4):
        raise ValueError(f"sharpness is that of videos of 1, 3 or 4 channels, got {channels}")
    if min(height, width) < 3:
        raise ValueError(f"sharpness needs frames of at least 3 x 3 pixels, got {height} x {width}")
    shares = videos.new_tensor([1.0] if channels == 1 else LUMINANCE)
    luminance = torch.einsum("bcthw,c->bthw", videos[:, : len(shares)], shares)
    frames = rearrange(luminance, "b T H W -> (b T) 1 H W").double()
    laplacian = F.conv2d(frames, frames.new_tensor(LAPLACIAN)[None, None])  # where all neighbours are inside the frame
    return laplacian.var(dim=(1, 2, 3), correction=0).mean().item()
