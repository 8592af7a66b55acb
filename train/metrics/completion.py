"""Baselines without a model for the completion of hidden pixels, and their PSNR. In masks, True means known."""

import torch
from einops import reduce
from jaxtyping import Bool, Float
from torch import Tensor

from .reconstruction import psnr


def hidden_psnr(
    reference: Float[Tensor, "b c T H W"], video: Float[Tensor, "b c T H W"], known: Bool[Tensor, "b T H W"]
) -> float:
    """Return the PSNR in dB of the hidden pixels of videos in [0, 1].

    Raises:
        ValueError: if all pixels are known.
    """
    if known.all():
        raise ValueError("known must contain hidden pixels (False), got only True")
    hidden = ~known[:, None].expand_as(video)
    return psnr(reference[hidden], video[hidden])


def repeat_last(videos: Float[Tensor, "b c T H W"], num_known: int) -> Float[Tensor, "b c T H W"]:
    """Repeat the last of the first `num_known` frames in all later frames."""
    frames = torch.arange(videos.shape[2], device=videos.device).clamp(max=num_known - 1)
    return videos[:, :, frames]


def blend_ends(videos: Float[Tensor, "b c T H W"]) -> Float[Tensor, "b c T H W"]:
    """Interpolate linearly between the first and the last frame."""
    shares = torch.linspace(0, 1, videos.shape[2], device=videos.device)[:, None, None]
    return torch.lerp(videos[:, :, :1], videos[:, :, -1:], shares)


def fill_with_mean(videos: Float[Tensor, "b c T H W"], known: Bool[Tensor, "b T H W"]) -> Float[Tensor, "b c T H W"]:
    """Replace the hidden pixels of each video by the mean colour of its known pixels.

    Raises:
        ValueError: if no pixel of a video is known.
    """
    num_known = reduce(known, "b T H W -> b 1 1 1 1", "sum")
    if not num_known.all():
        count = int((num_known == 0).sum())
        raise ValueError(f"known must contain True in every video, got only False in {count} of {len(videos)} videos")
    of_known = reduce(videos.double() * known[:, None], "b c T H W -> b c 1 1 1", "sum")
    return torch.where(known[:, None], videos, (of_known / num_known).to(videos.dtype))
