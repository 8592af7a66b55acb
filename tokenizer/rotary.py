"""Rotary positions along any number of axes (RoFormer, arXiv 2104.09864): attention sees relative places only."""

from typing import Any

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
    return Rotation.apply(x, angles.cos().to(x.dtype), angles.sin().to(x.dtype))  # type: ignore[no-any-return]


class Rotation(torch.autograd.Function):
    """The first channels and as many after them, as pairs, turned by angles; its gradient is turned back.

    It turns a copy in place and keeps nothing for the backward pass but the angles.
    """

    @staticmethod
    def forward(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:  # type: ignore[override]
        pairs = cos.shape[-1]
        first, second = x[..., :pairs], x[..., pairs : 2 * pairs]
        turned = x.clone()
        turned[..., :pairs].mul_(cos).addcmul_(second, sin, value=-1)
        turned[..., pairs : 2 * pairs].mul_(cos).addcmul_(first, sin)
        return turned

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:  # type: ignore[override]
        _, cos, sin = inputs
        ctx.save_for_backward(cos, sin)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        cos, sin = ctx.saved_tensors
        return Rotation.apply(grad, cos, -sin), None, None
