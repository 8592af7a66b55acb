import math

import pytest
import torch

from magvit2_pytorch.train.metrics.completion import blend_ends, fill_with_mean, hidden_psnr, repeat_last


def test_the_psnr_of_hidden_pixels_knows_nothing_of_the_others() -> None:
    known = torch.rand(2, 4, 6, 6) < 0.7
    reference = torch.rand(2, 3, 4, 6, 6)
    video = reference + torch.where(known[:, None], torch.randn(()), 0.1)

    assert hidden_psnr(reference, video, known) == pytest.approx(20)
    assert hidden_psnr(reference, torch.where(known[:, None], -1, reference), known) == math.inf


def test_where_everything_is_known_there_is_nothing_to_judge() -> None:
    videos = torch.rand(1, 3, 2, 4, 4)

    with pytest.raises(ValueError, match="known must contain hidden pixels"):
        hidden_psnr(videos, videos, torch.ones(1, 2, 4, 4, dtype=torch.bool))


@pytest.mark.parametrize("num_known", [1, 3, 5])
def test_the_last_known_frame_stands_for_all_that_follow(num_known: int) -> None:
    videos = torch.rand(2, 3, 5, 4, 4)

    repeated = repeat_last(videos, num_known)

    assert torch.equal(repeated[:, :, :num_known], videos[:, :, :num_known])
    for frame in range(num_known, 5):
        assert torch.equal(repeated[:, :, frame], videos[:, :, num_known - 1])


def test_blending_gives_back_a_steady_fade_from_its_ends() -> None:
    fade = torch.linspace(0.2, 0.8, 5)[:, None, None] * torch.rand(2, 3, 1, 4, 4)
    hidden_between = fade.clone()
    hidden_between[:, :, 1:-1] = 0

    torch.testing.assert_close(blend_ends(hidden_between), fade)


def test_the_mean_is_that_of_each_video_and_of_its_known_pixels() -> None:
    known = torch.rand(3, 4, 6, 6) < 0.5
    colours = torch.rand(3, 3)
    videos = torch.where(known[:, None], colours[:, :, None, None, None], 7.0)
    expected = colours[:, :, None, None, None].expand_as(videos)

    torch.testing.assert_close(fill_with_mean(videos, known), expected)
    changed = torch.where(known[:, None], torch.rand_like(videos), 7.0)
    assert torch.equal(fill_with_mean(changed, known)[known[:, None].expand_as(videos)], changed[changed < 7])


def test_nothing_known_has_no_mean() -> None:
    known = torch.ones(2, 2, 4, 4, dtype=torch.bool)
    known[1] = False

    with pytest.raises(ValueError, match="True in every video, got only False in 1 of 2 videos"):
        fill_with_mean(torch.rand(2, 3, 2, 4, 4), known)
