import math

import pytest
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from magvit2_pytorch.train.metrics.seams import (
    REACH,
    colour_drift,
    compare_seams,
    extrapolate,
    extrapolation_errors,
    frame_differences,
)

SEAMS = (17, 29, 41, 53)
NUM_FRAMES = 65


def texture(height: int, width: int) -> Float[Tensor, "c H W"]:
    """Soft random blobs in [0, 1]."""
    noise = torch.rand(1, 3, height // 4 + 2, width // 4 + 2)
    return F.interpolate(noise, (height, width), mode="bicubic", align_corners=True)[0].clamp(0, 1)


def pan(places: list[int], *, size: int = 24) -> Float[Tensor, "c T H W"]:
    """A camera over a texture, so many pixels from its left end at each frame."""
    first = min(places)
    wide = texture(size, max(places) - first + size)
    return torch.stack([wide[..., place - first : place - first + size] for place in places], dim=1)


def walk(steps: list[int]) -> list[int]:
    return torch.tensor([0, *steps]).cumsum(0).tolist()


def walks(num_videos: int = 4) -> list[list[int]]:
    """Places of cameras that take a step of 1, 2 or 3 pixels with each frame."""
    return [walk(torch.randint(1, 4, (NUM_FRAMES - 1,)).tolist()) for _ in range(num_videos)]


def test_a_figure_tells_how_a_frame_follows_those_before_it() -> None:
    brightness = torch.tensor([0.1, 0.1, 0.4, 0.2])
    videos = brightness[None, None, :, None, None].expand(2, 3, 4, 16, 16)

    expected = torch.tensor([math.nan, 0.0, 0.3, 0.2]).expand(2, 4)
    torch.testing.assert_close(frame_differences(videos), expected, equal_nan=True)
    torch.testing.assert_close(extrapolation_errors(videos)[:, 2:], expected[:, 2:])
    assert extrapolation_errors(videos)[:, :2].isnan().all()


@pytest.mark.parametrize("motion", [(0, 0), (2, -1), (-4, 3), (4, 4)])
def test_a_motion_of_whole_pixels_is_gone_on_with(motion: tuple[int, int]) -> None:
    wide = texture(48, 48)[None]
    down, right = motion
    before, now, after = (
        wide[..., 12 - time * down : 36 - time * down, 12 - time * right : 36 - time * right] for time in range(3)
    )

    inner = (..., slice(REACH, -REACH), slice(REACH, -REACH))
    torch.testing.assert_close(extrapolate(before, now)[inner], after[inner])


def test_two_parts_of_a_picture_may_move_apart() -> None:
    halves = [pan(places) for places in ([0, 2, 4], [6, 3, 0])]
    video = torch.cat(halves, dim=2)

    guessed = extrapolate(video[None, :, 0], video[None, :, 1])[0]

    errors = (guessed - video[:, 2]).abs().mean(dim=(0, 2))
    edge = 24  # where the halves meet a block sees both
    assert errors[REACH : edge - 6].max() < 0.05 > errors[edge + 6 : -REACH].max()
    assert (video[:, 1] - video[:, 2]).abs().mean() > 0.1


def test_what_is_still_stays_where_it_is() -> None:
    frame = texture(16, 16)[None]

    assert torch.equal(extrapolate(frame, frame), frame)


def test_a_video_without_seams_passes() -> None:
    videos = torch.stack([pan(places) for places in walks()])

    for figures in (frame_differences(videos), extrapolation_errors(videos)):
        comparison = compare_seams(figures, SEAMS)
        assert (comparison.num_seams, comparison.num_inside) == (16, 4 * figures[0].isfinite().sum() - 16)
        assert not comparison.is_missed


def test_a_hard_cut_is_found() -> None:
    videos = torch.stack([pan(places) for places in walks()])
    others = torch.stack([pan(places) for places in walks()])
    is_other = torch.zeros(NUM_FRAMES, dtype=torch.bool)
    for first, last in ((17, 29), (41, 53)):
        is_other[first:last] = True
    cut = torch.where(is_other[:, None, None], others, videos)

    for figures in (frame_differences(cut), extrapolation_errors(cut)):
        comparison = compare_seams(figures, SEAMS)
        assert comparison.is_missed
        assert comparison.share_outside > 0.9


def test_a_pause_is_found() -> None:
    paused = [step for frame in range(1, NUM_FRAMES) for step in ([0] if frame in SEAMS else [2])]
    videos = torch.stack([pan(walk(paused)) for _ in range(4)])

    assert compare_seams(frame_differences(videos), SEAMS).is_missed
    assert compare_seams(extrapolation_errors(videos), SEAMS).is_missed


def test_a_motion_that_turns_back_is_found_by_extrapolation_alone() -> None:
    steps, direction = [], 2
    for frame in range(1, NUM_FRAMES):
        direction = -direction if frame in SEAMS else direction
        steps.append(direction)
    videos = torch.stack([pan(walk(steps)) for _ in range(12)])

    assert not compare_seams(frame_differences(videos), SEAMS).is_missed
    assert compare_seams(extrapolation_errors(videos), SEAMS).is_missed


def test_seams_are_compared_by_the_percentiles_of_all_other_frames() -> None:
    inside = torch.arange(101.0)
    figures = torch.cat([torch.tensor([math.nan, 4.9, 40.0, 95.1, 1000.0]), inside])[None]

    comparison = compare_seams(figures, [1, 2, 3], left_out=[4])

    assert comparison.inside == pytest.approx((5, 25, 50, 75, 95))
    assert (comparison.num_seams, comparison.num_inside, comparison.median) == (3, 101, 40)
    assert comparison.share_outside == pytest.approx(2 / 3)
    assert comparison.is_missed


@pytest.mark.parametrize(
    ("seams", "is_missed"), [([24], True), ([25], False), ([75], False), ([76], True), ([50, 50, 50, 50, 99], True)]
)
def test_seams_keep_the_bounds_up_to_their_ends(seams: list[int], is_missed: bool) -> None:
    figures = torch.cat([torch.tensor(seams).float(), torch.arange(101.0)])[None]

    assert compare_seams(figures, range(len(seams))).is_missed == is_missed


@pytest.mark.parametrize(
    ("seams", "message"), [([], "one or more"), ([9], r"frames in \[0, 5\)"), (range(5), "10 and 0")]
)
def test_what_cannot_be_compared_is_refused(seams: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        compare_seams(torch.rand(2, 5), seams)


def test_the_drift_of_a_fade_is_the_distance_that_the_colour_has_come() -> None:
    red = torch.linspace(0, 0.64, 65)
    videos = torch.full((2, 3, 65, 4, 4), 0.5)
    videos[1, 0] = red[:, None, None]

    torch.testing.assert_close(colour_drift(videos), torch.tensor([0.0, 0.57]))


def test_the_two_ends_may_not_overlap() -> None:
    with pytest.raises(ValueError, match="at least 16 frames, got 15"):
        colour_drift(torch.rand(1, 3, 15, 4, 4))
