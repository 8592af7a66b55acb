import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from magvit2_pytorch.train.metrics.sharpness import sharpness, sharpness_ratio


@pytest.fixture
def videos() -> Tensor:
    return torch.rand(2, 3, 3, 12, 16)


def test_a_copy_is_as_sharp_blur_is_less_and_noise_is_more(videos: Tensor) -> None:
    blurred = F.avg_pool3d(videos, (1, 3, 3), stride=1, padding=(0, 1, 1))

    assert sharpness_ratio(videos, videos) == 1
    assert sharpness_ratio(videos, blurred) < 0.5
    assert sharpness_ratio(blurred, videos) > 2


def test_the_variance_of_white_noise_is_that_of_the_laplacians_coefficients() -> None:
    noise = torch.randn(1, 1, 4, 200, 200)

    assert sharpness(noise) == pytest.approx(4 * 1 + 4**2, rel=0.03)


def test_neither_contrast_unit_nor_brightness_of_a_copy_matters(videos: Tensor) -> None:
    assert sharpness_ratio(videos * 2 - 1, (videos + 0.1) * 2 - 1) == pytest.approx(1, rel=1e-5)
    assert sharpness_ratio(videos, videos * 0.5) == pytest.approx(0.25, rel=1e-5)


def test_a_slope_is_not_sharp_not_even_at_the_border() -> None:
    slope = torch.linspace(0, 1, 16).expand(1, 3, 2, 16, 16)

    assert sharpness(slope) == pytest.approx(0, abs=1e-10)


def test_colours_count_by_their_luminance() -> None:
    grey = torch.rand(1, 1, 1, 8, 8)
    in_channel = [torch.cat([grey * (channel == place) for place in range(3)], dim=1) for channel in range(3)]

    roots = [math.sqrt(sharpness(video) / sharpness(grey)) for video in in_channel]

    assert roots == pytest.approx([0.299, 0.587, 0.114], rel=1e-4)
    assert sharpness(grey.expand(-1, 3, -1, -1, -1)) == pytest.approx(sharpness(grey), rel=1e-5)


def test_frames_are_pooled_before_the_ratio_so_that_flat_ones_count_for_nothing(videos: Tensor) -> None:
    flat = torch.zeros_like(videos)
    halved = videos * 0.5

    assert sharpness_ratio(torch.cat([videos, flat]), torch.cat([halved, flat])) == pytest.approx(0.25)
    assert sharpness_ratio(torch.cat([videos, videos]), torch.cat([videos, halved])) == pytest.approx(0.625)
    assert math.isnan(sharpness_ratio(flat, videos))


def test_a_jump_between_frames_is_no_sharpness() -> None:
    blinking = torch.tensor([0.0, 1.0]).view(1, 1, 2, 1, 1).expand(1, 3, 2, 8, 8)

    assert sharpness(blinking) == 0


def test_what_cannot_be_judged_is_refused() -> None:
    with pytest.raises(ValueError, match="1, 3 or 4 channels, got 2"):
        sharpness(torch.zeros(1, 2, 1, 8, 8))
    with pytest.raises(ValueError, match="at least 3 x 3 pixels, got 2 x 8"):
        sharpness(torch.zeros(1, 3, 1, 2, 8))
