"""Amount of fine detail."""

import math

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

LUMINANCE = (0.299, 0.587, 0.114)  # of red, green and blue (Rec. 601)
LAPLACIAN = ((0.0, 1.0, 0.0), (1.0, -4.0, 1.0), (0.0, 1.0, 0.0))


def sharpness_ratio(reference: Float[Tensor, "b c T H W"], reconstruction: Float[Tensor, "b c T H W"]) -> float:
    """Return the sharpness of a reconstruction divided by that of the original: below 1 for blur, above 1 for noise.

    The sharpness is averaged over all frames before the division, so that flat frames have no influence. It does not
    depend on where the detail is: only together with PSNR does it distinguish kept texture from invented texture.

    Args:
        reference: has 1, 3 or 4 channels (the fourth is ignored), and at least 3 x 3 pixels.

    Returns:
        At least 0; NaN if all originals are flat.

    Raises:
        ValueError: if the number of channels is not 1, 3 or 4, or if the frames are too small.
    """
    original = sharpness(reference)
    return sharpness(reconstruction) / original if original > 0 else math.nan


def sharpness(videos: Float[Tensor, "b c T H W"]) -> float:
    """Return the variance of the Laplacian of the luminance, averaged over frames, in squared units of the pixels.

    Raises:
        ValueError: if there are not 1, 3 or 4 channels, or if frames have fewer than 3 x 3 pixels.
    """
    channels, height, width = videos.shape[1], *videos.shape[3:]
    if channels not in (1, 3, 4):
        raise ValueError(f"videos must have 1, 3 or 4 channels, got {channels}")
    if min(height, width) < 3:
        raise ValueError(f"frames must have at least 3 x 3 pixels, got {height} x {width}")
    shares = videos.new_tensor([1.0] if channels == 1 else LUMINANCE)
    luminance = torch.einsum("bcthw,c->bthw", videos[:, : len(shares)], shares)
    frames = rearrange(luminance, "b T H W -> (b T) 1 H W").double()
    laplacian = F.conv2d(frames, frames.new_tensor(LAPLACIAN)[None, None])  # without padding
    return laplacian.var(dim=(1, 2, 3), correction=0).mean().item()
