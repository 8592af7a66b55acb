"""Where a code lies in its grid, as numbers that mean the same in a grid of any size."""

import torch
from jaxtyping import Complex, Float
from torch import Tensor

MIN_HEAD_SIZE = 6  # one pair of channels for each axis
RATES_PER_AXIS = 16
NUM_POSITION_FEATURES = 3 * 2 * RATES_PER_AXIS


def position_features(grid: tuple[int, int, int], device: torch.device) -> Float[Tensor, "n f"]:
    """Sines and cosines of each place's t, h and w, at several rates.

    They tell places apart where rotary positions cannot: in a grid that is hidden throughout every place holds
    the same vector, and attention to equal vectors is equal whatever turns the queries and keys.
    """
    angles = _angles(grid, (RATES_PER_AXIS, RATES_PER_AXIS, RATES_PER_AXIS), device)
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


def rotary_turns(grid: tuple[int, int, int], head_size: int, device: torch.device) -> Complex[Tensor, "n pairs"]:
    """The turns that attention gives to pairs of channels, so that it sees how far apart places are: exp(i angle).

    The pairs of a head are dealt to t, h and w, a little fewer to t.
    """
    num_pairs = head_size // 2
    in_plane = num_pairs * 3 // 8
    angles = _angles(grid, (num_pairs - 2 * in_plane, in_plane, in_plane), device)
    return torch.polar(torch.ones_like(angles), angles)


def _angles(grid: tuple[int, int, int], num_rates: tuple[int, int, int], device: torch.device) -> Float[Tensor, "n r"]:
    """Each place's t, h and w, times rates from 1 down to 1 / 100 radian a place."""
    axes = torch.meshgrid(*(torch.arange(size, device=device) for size in grid), indexing="ij")
    rates = [torch.logspace(0, -2, count, device=device, dtype=torch.float32) for count in num_rates]
    return torch.cat([axis.reshape(-1, 1) * rate for axis, rate in zip(axes, rates, strict=True)], dim=-1)
