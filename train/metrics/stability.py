"""Stability of codes: whether codes change where the video does not."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ...tokenizer import VideoTokenizer
from .reconstruction import encode

LARGEST_CHANGE = 0.02  # of a pixel in [0, 1] that stands still; about the noise of a compressed video
NOISE = 0.02  # standard deviation, for pixels in [0, 1]
BATCH_SIZE = 8  # clips


def equal_codes_where_still(
    codes: Int[Tensor, "b t h w"], videos: Float[Tensor, "b 3 T H W"], temporal_stride: int
) -> float:
    """Return the share of codes that are equal to the code one latent frame before, among those that stand still.

    A code stands still if no pixel of its block changes in the frames of both latent frames. Since other blocks are in
    the receptive field of a code, it may change nevertheless. A transformer can hardly predict such changes.

    Args:
        codes: of `videos`, by a tokenizer whose first latent frame holds the first frame, and each later one
            `temporal_stride` frames.
        videos: pixels in [0, 1].

    Returns:
        A value in [0, 1]; NaN if nothing stands still.
    """
    is_still = still_codes(videos, (codes.shape[1], codes.shape[2], codes.shape[3]), temporal_stride)
    return (codes[:, 1:] == codes[:, :-1])[is_still].double().mean().item()


def still_codes(
    videos: Float[Tensor, "b 3 T H W"], grid: tuple[int, int, int], temporal_stride: int
) -> Bool[Tensor, "b pairs h w"]:
    """Return True for each code after the first latent frame whose block of pixels stands still."""
    num_latent, *blocks = grid
    pixels = videos.unflatten(4, (blocks[1], -1)).unflatten(3, (blocks[0], -1))  # b 3 T h y w x
    is_still = []
    for latent in range(1, num_latent):
        last = latent * temporal_stride
        frames = pixels[:, :, max(last + 1 - 2 * temporal_stride, 0) : last + 1]
        spread = frames.amax(dim=2) - frames.amin(dim=2)  # b 3 h y w x
        is_still.append((spread <= LARGEST_CHANGE).all(dim=1).all(dim=4).all(dim=2))
    return torch.stack(is_still, dim=1)


@torch.inference_mode()
def codes_kept_under_noise(
    tokenizer: VideoTokenizer, videos: Float[Tensor, "b 3 T H W"], codes: Int[Tensor, "b t h w"], seed: int = 0
) -> float:
    """Return the share of codes that Gaussian noise on the pixels leaves as they are, in [0, 1].

    Args:
        videos: pixels in [0, 1].
        codes: of `videos`.
        seed: of the noise.
    """
    generator = torch.Generator().manual_seed(seed)
    kept = [
        encode(tokenizer, part + NOISE * torch.randn(part.shape, generator=generator)) == of_part
        for part, of_part in zip(videos.split(BATCH_SIZE), codes.split(BATCH_SIZE), strict=True)
    ]
    return torch.cat(kept).double().mean().item()
