"""Rotary positions along any number of axes (RoFormer, arXiv 2104.09864): attention sees relative places only."""

import torch
from jaxtyping import Float
from torch import Tensor

LARGEST_WAVELENGTH = 10_000.0


def rotate(x: Float[Tensor, "*b n d"], grid: tuple[int, ...], start: int = 0) -> Float[Tensor, "*b n d"]:
    """Turn pairs of channels by angles that grow along each axis of `grid`, whose places are `n` in row-major order.

    Each axis turns its own share of the channels; channels that are left over stay as they are. The places along
    every axis are counted from `start`.
    """
    pairs_per_axis = x.shape[-1] // (2 * len(grid))
    exact = {"dtype": torch.promote_types(x.dtype, torch.float32), "device": x.device}
    rates = LARGEST_WAVELENGTH ** (-torch.arange(pairs_per_axis, **exact) / max(pairs_per_axis, 1))
    places = torch.meshgrid(*(torch.arange(start, start + size, **exact) for size in grid), indexing="ij")
    angles = torch.cat([axis.reshape(-1, 1) * rates for axis in places], dim=-1)
    cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    first, second, rest = x.split([angles.shape[-1], angles.shape[-1], x.shape[-1] - 2 * angles.shape[-1]], dim=-1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin, rest], dim=-1)
