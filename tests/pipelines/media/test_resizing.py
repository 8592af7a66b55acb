import numpy as np
import pytest
from einops import reduce

from magvit2_pytorch.pipelines.media.resizing import resize, stored_size


def picture(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_half_the_size_is_the_mean_of_two_by_two_blocks() -> None:
    frame = picture(128, 96)

    expected = reduce(frame.astype(np.float64), "(h i) (w j) c -> h w c", "mean", i=2, j=2).round()

    assert np.array_equal(resize(frame, 64, 48), expected)


def test_a_pixel_on_a_border_counts_for_both_sides() -> None:
    frame = picture(6, 9)
    repeated = frame.repeat(4, axis=0).repeat(5, axis=1)

    expected = reduce(repeated.astype(np.float64), "(h i) (w j) c -> h w c", "mean", i=6, j=9)

    assert np.abs(resize(frame, 4, 5) - expected).max() <= 0.5 + 1e-4


def test_enlarging_is_smooth() -> None:
    ramp = np.linspace(0, 255, 8).astype(np.uint8)[None, :, None].repeat(8, axis=0).repeat(3, axis=2)

    enlarged = resize(ramp, 16, 16)

    steps = np.diff(enlarged[0, :, 0].astype(int))
    assert steps.min() >= 0
    assert steps.max() <= 19


def test_a_frame_of_the_same_size_is_unchanged() -> None:
    frame = picture(8, 11)

    assert np.array_equal(resize(frame, 8, 11), frame)


@pytest.mark.parametrize(("size", "expected"), [((240, 320), (64, 85)), ((320, 240), (85, 64)), ((30, 30), (64, 64))])
def test_the_short_side_becomes_the_resolution(size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert stored_size(*size, resolution=64) == expected
