import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from magvit2_pytorch.train.metrics.artefacts import (
    block_pattern,
    plain_colours,
    relative_steps,
    share_of_repeated_frames,
)


@pytest.fixture
def moving() -> Tensor:
    """Two videos in which a soft pattern moves by a pixel from frame to frame."""
    wide = F.avg_pool2d(torch.rand(2, 3, 32, 50), 5, stride=1, padding=2)
    return torch.stack([wide[..., time : time + 40] for time in range(9)], dim=2)


def test_plain_colours_differ_and_are_plain() -> None:
    colours = plain_colours((3, 16, 24))

    assert colours.shape == (27, 3, 3, 16, 24)
    assert len(colours[:, :, 0, 0, 0].unique(dim=0)) == 27
    assert torch.equal(colours, colours[:, :, :1, :1, :1].expand_as(colours))


def test_the_pattern_of_blocks_is_the_amplitude_of_what_they_share() -> None:
    plain = plain_colours((2, 32, 48))
    checkers = (torch.arange(32)[:, None] + torch.arange(48)) % 2 * 0.02 - 0.01

    assert block_pattern(plain, (8, 8)) == pytest.approx(0, abs=1e-6)
    assert block_pattern(plain + checkers, (8, 8)) == pytest.approx(0.01, rel=1e-3)


def test_what_blocks_do_not_share_is_no_pattern() -> None:
    plain = plain_colours((1, 64, 64))
    of_blocks = (0.1 * torch.randn(8, 8)).repeat_interleave(8, dim=0).repeat_interleave(8, dim=1)
    padding = torch.zeros(64, 64)
    padding[0] = padding[:, -1] = 0.2

    assert block_pattern(plain + of_blocks + padding, (8, 8)) == pytest.approx(0, abs=1e-6)


def test_the_pattern_needs_blocks_inside() -> None:
    with pytest.raises(ValueError, match=r"at least four blocks of \(8, 8\), got \(24, 64\) pixels"):
        block_pattern(plain_colours((1, 24, 64)), (8, 8))


def test_steps_at_seams_are_compared_with_those_at_other_blocks() -> None:
    like_everywhere = torch.arange(64).repeat(1, 3, 2, 16, 1) * 0.01
    at_the_seam = like_everywhere + 0.02 * (torch.arange(64) >= 32)
    inside_blocks = like_everywhere + 0.02 * (torch.arange(64) % 8 >= 4)

    assert relative_steps(like_everywhere, [32], 8) == pytest.approx(1)
    assert relative_steps(at_the_seam, [32], 8) == pytest.approx(3, rel=1e-4)
    assert relative_steps(inside_blocks, [32], 8) == pytest.approx(1, rel=1e-4)


def test_repeated_frames_are_counted_where_the_original_moves(moving: Tensor) -> None:
    still = moving[:, :, :1].expand_as(moving)
    repeated = moving.clone()
    repeated[0, :, 4] = repeated[0, :, 3]

    assert share_of_repeated_frames(moving, moving) == 0
    assert share_of_repeated_frames(repeated, moving) == pytest.approx(1 / 16)
    assert share_of_repeated_frames(still, moving) == 1
    assert share_of_repeated_frames(still, torch.cat([still[:1], moving[1:]])) == 1  # what stands still does not count
