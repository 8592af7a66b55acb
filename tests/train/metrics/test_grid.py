import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from magvit2_pytorch.train.metrics.grid import grid_energy


@pytest.fixture
def smooth() -> Tensor:
    return F.avg_pool2d(torch.rand(200, 2, 70, 70), 7, stride=1).unsqueeze(1).expand(-1, 3, -1, -1, -1)


def blocks_of(videos: Tensor, size: int) -> Tensor:
    """Videos whose blocks have one colour."""
    means = F.avg_pool3d(videos, (1, size, size))
    return means.repeat_interleave(size, dim=3).repeat_interleave(size, dim=4)


def test_blocks_have_more_energy_than_any_smooth_picture(smooth: Tensor) -> None:
    assert grid_energy(smooth, (8, 8)) < 1e-3
    assert grid_energy(blocks_of(smooth, 8), (8, 8)) == pytest.approx(7)  # a difference at one of eight places
    assert grid_energy(blocks_of(smooth, 4), (8, 8)) == pytest.approx(3, rel=0.01)


def test_a_grid_half_as_strong_has_less_energy(smooth: Tensor) -> None:
    half = (smooth + blocks_of(smooth, 8)) / 2

    assert 0.01 < grid_energy(half, (8, 8)) < 3


def test_a_grid_of_another_period_is_none(smooth: Tensor) -> None:
    assert grid_energy(blocks_of(smooth, 5)[..., :60, :60], (4, 4)) < 0.05


def test_one_axis_alone_counts_half(smooth: Tensor) -> None:
    stripes = blocks_of(smooth, 8)[..., :1, :].expand(-1, -1, -1, 64, -1)

    assert grid_energy(stripes + 1e-5 * torch.rand_like(stripes), (8, 8)) == pytest.approx(3.5, rel=0.1)


def test_contrast_does_not_matter(smooth: Tensor) -> None:
    blocks = (smooth + blocks_of(smooth, 8)) / 2

    assert grid_energy(0.3 * blocks, (8, 8)) == pytest.approx(grid_energy(blocks, (8, 8)), rel=1e-5)


def test_one_block_is_refused() -> None:
    with pytest.raises(ValueError, match="at least two blocks of 8, got 15 pixels"):
        grid_energy(torch.rand(1, 3, 1, 15, 16), (8, 8))
