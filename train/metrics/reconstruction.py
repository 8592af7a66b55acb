"""Quality of reconstructions, and the size of their codes."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from einops import reduce
from jaxtyping import Float, Int
from torch import Tensor

from ...pipelines.media.squared_error import SquaredError
from ...tokenizer import VideoTokenizer
from ...tokenizer.pixels import to_model_range, to_unit_range
from ..data import Clips

BATCH_SIZE = 7  # clips; the result does not depend on it


class ReconstructionScores(NamedTuple):
    error: SquaredError
    codes: Int[Tensor, "b t h w"]
    """On the CPU, in the order of the clips."""

    @property
    def psnr(self) -> float:
        """In dB, of the mean squared error over all clips."""
        return self.error.psnr


@torch.inference_mode()
def evaluate_tokenizer(
    tokenizer: VideoTokenizer, clips: Clips, *, batch_size: int = BATCH_SIZE
) -> ReconstructionScores:
    """Encode and decode every clip."""
    error, codes = SquaredError(), [torch.zeros(0, 1, 1, 1, dtype=torch.int64)]
    for videos in batches(clips, batch_size):
        codes.append(encode(tokenizer, videos))
        error.add(videos, decode(tokenizer, codes[-1], videos.shape[2:]))
    return ReconstructionScores(error, torch.cat(codes[1:] or codes))


def joined(parts: Sequence[ReconstructionScores]) -> ReconstructionScores:
    """Return the scores of clips of which part number i has every `len(parts)`-th one, from number i on."""
    error = SquaredError()
    for part in parts:
        error.total += part.error.total
        error.num_values += part.error.num_values
    in_order = [
        part.codes[row]
        for row in range(max(len(part.codes) for part in parts))
        for part in parts
        if row < len(part.codes)
    ]
    return ReconstructionScores(error, torch.stack(in_order))


def psnr(reference: Float[Tensor, "*shape"], video: Float[Tensor, "*shape"]) -> float:
    """Return the peak signal-to-noise ratio in dB of pixels in [0, 1].

    It is computed from the mean squared error over all values; the mean of the PSNRs of the clips would be higher.
    """
    error = SquaredError()
    error.add(reference, video)
    return error.psnr


def psnr_mean_colour(clips: Clips) -> float:
    """Return the PSNR of a baseline that replaces all pixels of a clip by their mean colour."""
    return _psnr_of(lambda videos: reduce(videos, "b c T H W -> b c 1 1 1", "mean").expand_as(videos), clips)


def psnr_first_frame(clips: Clips) -> float:
    """Return the PSNR of a baseline that repeats the first frame of each clip."""
    return _psnr_of(lambda videos: videos[:, :, :1].expand_as(videos), clips)


def bits_per_pixel(tokenizer: VideoTokenizer, num_frames: int, height: int, width: int) -> float:
    """Return the bits of all codes of a clip divided by frames x height x width. Uncompressed RGB has 24."""
    bits = math.prod(tokenizer.code_shape(num_frames, height, width)) * tokenizer.config.code_bits
    return bits / (num_frames * height * width)


def batches(clips: Clips, batch_size: int = BATCH_SIZE) -> Iterator[Float[Tensor, "b 3 T H W"]]:
    """Yield the clips in order, in [0, 1]."""
    for start in range(0, len(clips), batch_size):
        indexes = range(start, min(start + batch_size, len(clips)))
        yield to_unit_range(torch.stack([clips.video(index) for index in indexes]))


def encode(tokenizer: VideoTokenizer, videos: Float[Tensor, "b 3 T H W"]) -> Int[Tensor, "b t h w"]:
    """Return the codes of videos in [0, 1], on the CPU."""
    return tokenizer.encode(to_model_range(videos).to(next(tokenizer.parameters()))).cpu()


def decode(
    tokenizer: VideoTokenizer, codes: Int[Tensor, "b t h w"], sizes: Sequence[int]
) -> Float[Tensor, "b 3 T H W"]:
    """Return the videos of codes, in [0, 1], on the CPU.

    Args:
        sizes: frames, height and width of the videos.
    """
    device = next(tokenizer.parameters()).device
    return to_unit_range(tokenizer.decode(codes.to(device), *sizes).float()).cpu()


def _psnr_of(guess: Callable[[Float[Tensor, "b c T H W"]], Float[Tensor, "b c T H W"]], clips: Clips) -> float:
    error = SquaredError()
    for videos in batches(clips):
        error.add(videos, guess(videos))
    return error.psnr
