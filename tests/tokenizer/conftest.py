"""A tokenizer of every layer kind, small enough for a test."""

import pytest
import torch

from magvit2_pytorch import VideoTokenizer

ALL_KINDS = (
    "residual",
    ("compress_space", 24),
    "attend_space",
    ("compress_time", 32),
    "attend_time",
    "compress_space",
    "compress_time",
    "residual",
)


def lively(tokenizer: VideoTokenizer) -> VideoTokenizer:
    """The same tokenizer with branches that matter: at the start they are scaled down to next to nothing."""
    with torch.no_grad():
        for parameter in tokenizer.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return tokenizer.eval()


@pytest.fixture
def tokenizer() -> VideoTokenizer:
    """Strides of 4 in time and in space; 2^8 codes."""
    return lively(VideoTokenizer(image_size=16, init_dim=16, layers=ALL_KINDS, codebook_size=2**8))


@pytest.fixture
def folding_tokenizer() -> VideoTokenizer:
    """Frames and pixels folded into channels: strides of 4 in time, 4 x 8 in space."""
    layers = ("residual", ("compress_space", 24), "compress_time", "residual")
    return lively(VideoTokenizer(image_size=16, init_dim=16, layers=layers, codebook_size=2**8, patch_size=(2, 2, 4)))
