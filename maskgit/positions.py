"""Position encodings, which have the same meaning in grids of any size."""

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from ..devices import built_once

MIN_HEAD_SIZE = 6  # one pair of channels for each axis
RATES_PER_AXIS = 16
NUM_POSITION_FEATURES = 3 * 2 * RATES_PER_AXIS


@built_once
def position_features(grid: tuple[int, int, int], device: torch.device) -> Float[Tensor, "n f"]:
    """Return sines and cosines of the t, h and w of each position, at several frequencies.

    They are needed in addition to rotary positions: in a grid of hidden codes only, all positions have the same vector,
    and attention to equal vectors gives the same result for all rotations of queries and keys.
    """
    angles = _angles(grid, (RATES_PER_AXIS, RATES_PER_AXIS, RATES_PER_AXIS), device)
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


@built_once
def rotary_turns(grid: tuple[int, int, int], head_size: int, device: torch.device) -> Complex[Tensor, "n pairs"]:
    """Return the rotations exp(i angle) of pairs of channels in attention (rotary position embedding).

    The pairs of a head are divided among t, h and w, with slightly fewer for t.
    """
    num_pairs = head_size // 2
    in_plane = num_pairs * 3 // 8
    angles = _angles(grid, (num_pairs - 2 * in_plane, in_plane, in_plane), device)
    return torch.polar(torch.ones_like(angles), angles)


def _angles(grid: tuple[int, int, int], num_rates: tuple[int, int, int], device: torch.device) -> Float[Tensor, "n r"]:
    """Return t, h and w of each position, times frequencies from 1 to 1 / 100 radian per position, in float32."""
    axes = torch.meshgrid(*(torch.arange(size, device=device) for size in grid), indexing="ij")
    rates = [torch.logspace(0, -2, count, device=device, dtype=torch.float32) for count in num_rates]
    return torch.cat([axis.reshape(-1, 1) * rate for axis, rate in zip(axes, rates, strict=True)], dim=-1)
