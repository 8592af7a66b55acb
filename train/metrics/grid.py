"""Visibility of the grid of codes in a reconstruction."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor


def grid_energy(videos: Float[Tensor, "b c T H W"], strides: Sequence[int]) -> float:
    """Return the energy of the pixel differences at the spatial frequencies of the strides, relative to their mean.

    Steps between neighboring blocks make the differences across the edges of blocks larger than those inside. The
    absolute differences of neighboring rows, and of neighboring columns, are averaged over all videos, frames and
    channels. The result is the energy of this profile at the harmonics of `1 / max(strides)` divided by the energy of
    its mean, averaged over both axes: 0 if edges of blocks look like any other place. That of originals is not exactly
    0, since there are only finitely many of them.

    Args:
        videos: frames whose first row and column begin a block.
        strides: rows and columns of a block, for example `VideoTokenizer.spatial_stride`.

    Raises:
        ValueError: if frames have fewer than two blocks along an axis.
    """
    energies = []
    for axis, stride in zip((-2, -1), strides, strict=True):
        if videos.shape[axis] < 2 * stride:
            raise ValueError(f"frames must have at least two blocks of {stride}, got {videos.shape[axis]} pixels")
        differences = videos.double().diff(dim=axis).abs().transpose(axis, -1)
        # Whole periods: the difference at the edge of the frame is missing.
        whole = differences[..., : (differences.shape[-1] + 1) // stride * stride - stride]
        profile = whole.mean(dim=tuple(range(whole.ndim - 1))).unflatten(0, (-1, stride)).mean(dim=0)
        spectrum = torch.fft.fft(profile).abs().square()
        energies.append((spectrum[1:].sum() / spectrum[0]).item())
    return sum(energies) / len(energies)
