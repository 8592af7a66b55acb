import math

import pytest
import torch
from torch import Tensor

from magvit2_pytorch.tokenizer import VideoTokenizer
from magvit2_pytorch.train.metrics.reconstruction import encode
from magvit2_pytorch.train.metrics.stability import codes_kept_under_noise, equal_codes_where_still

GRID = (3, 2, 2)  # of 9 x 8 x 8 pixels: the first frame, frames 1 to 4, frames 5 to 8; blocks of 4 x 4


@pytest.fixture
def still() -> Tensor:
    return torch.rand(1, 3, 1, 8, 8).repeat(1, 1, 9, 1, 1)


@pytest.fixture
def codes() -> Tensor:
    """Only the two codes of the upper right block are equal to those before, in the last latent frame."""
    codes = torch.arange(12).view(1, *GRID)
    codes[:, 2, 0, 1] = codes[:, 1, 0, 1]
    return codes


def test_all_blocks_of_a_still_video_count(still: Tensor, codes: Tensor) -> None:
    assert equal_codes_where_still(codes, still, 4) == 1 / 8


def test_a_block_that_changes_does_not_count(still: Tensor, codes: Tensor) -> None:
    still[:, 2, 8, 0, 0] += 0.1  # the upper left block, between the last two latent frames
    assert equal_codes_where_still(codes, still, 4) == 1 / 7

    still[:, 0, 6, 3, 4] += 0.1  # the upper right one, inside the last latent frame
    assert equal_codes_where_still(codes, still, 4) == 0 / 6


def test_the_frames_of_both_latent_frames_count(still: Tensor, codes: Tensor) -> None:
    still[:, 0, 1:, 3, 4] += 0.1  # from the first latent frame to the second only
    assert equal_codes_where_still(codes, still, 4) == 1 / 7

    still[:, 0, 3:, 7, 7] += 0.1  # inside the second latent frame, which is also part of the last pair
    assert equal_codes_where_still(codes, still, 4) == 1 / 5


def test_small_noise_stands_still(still: Tensor, codes: Tensor) -> None:
    assert equal_codes_where_still(codes, still + 0.01 * torch.rand(still.shape), 4) == 1 / 8


def test_there_is_no_share_of_nothing(codes: Tensor) -> None:
    assert math.isnan(equal_codes_where_still(codes, torch.rand(1, 3, 9, 8, 8), 4))


def test_codes_far_from_the_middle_between_levels_are_kept() -> None:
    tokenizer = VideoTokenizer(image_size=16, init_dim=8, layers=("residual", "compress_space"), codebook_size=64)
    videos = torch.rand(20, 3, 5, 16, 16)
    codes = encode(tokenizer.eval(), videos)
    share = codes_kept_under_noise(tokenizer, videos, codes)
    assert 0 < share < 1

    with torch.no_grad():
        list(tokenizer.encoder.parameters())[-1].add_(100)  # the bias of the latents
    assert codes_kept_under_noise(tokenizer, videos, encode(tokenizer, videos)) == 1
