"""Rotary position embeddings along any number of axes (RoFormer, arXiv 2104.09864)."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

LARGEST_WAVELENGTH = 10_000.0


def rotate(x: Float[Tensor, "*b n d"], grid: tuple[int, ...], start: int = 0) -> Float[Tensor, "*b n d"]:
    """Rotate pairs of channels by angles that grow along each axis of `grid`.

    Each axis rotates its own share of the channels; remaining channels do not change.

    Args:
        x: vectors of the `n` positions of `grid` in row-major order.
        start: index of the first position along every axis.
    """
    pairs_per_axis = x.shape[-1] // (2 * len(grid))
    exact = {"dtype": torch.promote_types(x.dtype, torch.float32), "device": x.device}
    rates = LARGEST_WAVELENGTH ** (-torch.arange(pairs_per_axis, **exact) / max(pairs_per_axis, 1))
    positions = torch.meshgrid(*(torch.arange(start, start + size, **exact) for size in grid), indexing="ij")
    angles = torch.cat([axis.reshape(-1, 1) * rates for axis in positions], dim=-1)
    return Rotation.apply(x, angles.cos().to(x.dtype), angles.sin().to(x.dtype))  # type: ignore[no-any-return]


class Rotation(torch.autograd.Function):
    """Rotation of pairs of channels: channel i with channel i + pairs. The backward pass rotates in reverse.

    Only cosines and sines are saved for the backward pass.
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
