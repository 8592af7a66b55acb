"""Conversion of pixel values between files and results ([0, 1]) and the models ([-1, 1])."""

import torch
from jaxtyping import Float
from torch import Tensor

LARGEST_PIXEL = 16.0  # larger values are those of a video in 0...255


def to_model_range(video: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Convert from [0, 1] to [-1, 1]."""
    return video * 2 - 1


def to_unit_range(video: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Convert from [-1, 1] to [0, 1]. Values outside, as in reconstructions, are clipped."""
    return ((video + 1) / 2).clamp(0, 1)


def check_pixels(video: Tensor) -> None:
    """Check that pixel values are finite and at most 16 in magnitude. Nearly all videos in 0...255 are refused.

    Raises:
        ValueError: if a value is NaN, infinite or greater in magnitude.
    """
    if video.device.type == "meta" or torch.compiler.is_compiling():
        return
    low, high = (float(bound) for bound in torch.aminmax(video.detach()))
    if not (low >= -LARGEST_PIXEL and high <= LARGEST_PIXEL):  # false for NaN, too
        raise ValueError(
            f"pixel values must be finite and in [-1, 1] (convert 0...255 by x / 127.5 - 1), "
            f"got values from {low:g} to {high:g}"
        )
