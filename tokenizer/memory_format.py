"""Memory format of videos: contiguous or channels last."""

import torch
from jaxtyping import Float
from torch import Tensor

CHANNELS_LAST = torch.channels_last_3d
HAS_AVX512 = torch.backends.cpu.get_cpu_capability() == "AVX512"


def in_fastest_format(video: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b c t h w"]:
    """Convert to the channels last format on a CPU with AVX-512; elsewhere return the video unchanged.

    With AVX-512 the backward pass of convolutions takes a quarter less time in this format, without it 40 % more.
    """
    if video.device.type == "cpu" and HAS_AVX512:
        return video.contiguous(memory_format=CHANNELS_LAST)
    return video


def is_channels_last(video: Float[Tensor, "b c t h w"]) -> bool:
    """Return whether the video is in the channels last format and not also contiguous (some shapes are both)."""
    return video.is_contiguous(memory_format=CHANNELS_LAST) and not video.is_contiguous()
