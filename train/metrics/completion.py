"""Filling in hidden pixels without a model, as a yardstick, and how well it was done. True is known."""

import torch
from einops import reduce
from jaxtyping import Bool, Float
from torch import Tensor

from .reconstruction import psnr


def hidden_psnr(
    reference: Float[Tensor, "b c T H W"], video: Float[Tensor, "b c T H W"], known: Bool[Tensor, "b T H W"]
) -> float:
    """The PSNR in dB of the hidden pixels alone, which lie in [0, 1].

    Raises:
        ValueError: everything is known.
    """
    if known.all():
        raise ValueError("every pixel is known: there is nothing to judge")
    hidden = ~known[:, None].expand_as(video)
    return psnr(reference[hidden], video[hidden])


def repeat_last(videos: Float[Tensor, "b c T H W"], num_known: int) -> Float[Tensor, "b c T H W"]:
    """The first `num_known` frames, the last of which stands for all that follow."""
    frames = torch.arange(videos.shape[2], device=videos.device).clamp(max=num_known - 1)
    return videos[:, :, frames]


def blend_ends(videos: Float[Tensor, "b c T H W"]) -> Float[Tensor, "b c T H W"]:
    """From the first to the last frame, each pixel in a straight line."""
    shares = torch.linspace(0, 1, videos.shape[2], device=videos.device)[:, None, None]
    return torch.lerp(videos[:, :, :1], videos[:, :, -1:], shares)


def fill_with_mean(videos: Float[Tensor, "b c T H W"], known: Bool[Tensor, "b T H W"]) -> Float[Tensor, "b c T H W"]:
    """Each video's known pixels, and their mean colour for all others.

    Raises:
        ValueError: a video of which nothing is known.
    """
    num_known = reduce(known, "b T H W -> b 1 1 1 1", "sum")
    if not num_known.all():
        raise ValueError("the mean of the known pixels needs some of every video")
    of_known = reduce(videos.double() * known[:, None], "b c T H W -> b c 1 1 1", "sum")
    return torch.where(known[:, None], videos, (of_known / num_known).to(videos.dtype))
