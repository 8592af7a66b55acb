"""Pixel values: [0, 1] in files and results, [-1, 1] in the models. Nothing else converts between them."""

import torch
from jaxtyping import Float
from torch import Tensor

LARGEST_PIXEL = 16.0  # a value beyond this must come from a 0...255 video


def to_model_range(video: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """[0, 1] to [-1, 1]."""
    return video * 2 - 1


def to_unit_range(video: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """[-1, 1] to [0, 1]; what lies outside, as a reconstruction may, is clipped."""
    return ((video + 1) / 2).clamp(0, 1)


def check_pixels(video: Tensor) -> None:
    """Refuse what cannot be a video in [-1, 1]; a little outside is allowed.

    Raises:
        ValueError: NaN or infinite values, or values so large that they must be 0...255.
    """
    if video.device.type == "meta" or torch.compiler.is_compiling():
        return
    low, high = (float(bound) for bound in torch.aminmax(video.detach()))
    if not (low >= -LARGEST_PIXEL and high <= LARGEST_PIXEL):  # false for NaN, too
        raise ValueError(
            f"pixel values must be finite and in [-1, 1] (0...255 is divided by 127.5, minus 1), "
            f"got values from {low:g} to {high:g}"
        )
