import math

import pytest
import torch

from magvit2_pytorch.tokenizer import VideoTokenizer
from magvit2_pytorch.train.data import Clips, DataConfig, VideoData, load_data
from magvit2_pytorch.train.metrics import (
    bits_per_pixel,
    evaluate_tokenizer,
    psnr,
    psnr_first_frame,
    psnr_mean_colour,
)
from magvit2_pytorch.train.metrics.reconstruction import joined


@pytest.fixture
def tokenizer() -> VideoTokenizer:
    return VideoTokenizer(
        image_size=16, init_dim=8, layers=("residual", "compress_space", "compress_time"), codebook_size=64
    ).eval()


@pytest.fixture
def clips(stripes_data: VideoData) -> Clips:
    return stripes_data.heldout


def unit_videos(clips: Clips) -> torch.Tensor:
    return torch.stack([clips.video(index) for index in range(len(clips))]) / 2 + 0.5


def test_the_psnr_of_a_known_error() -> None:
    video = torch.full((2, 3, 5, 4, 4), 0.5)

    assert psnr(video, video + 0.1) == pytest.approx(20, abs=1e-4)
    assert psnr(video, video) == math.inf


def test_errors_are_pooled_before_the_logarithm() -> None:
    reference = torch.zeros(2, 3, 1, 4, 4)
    video = torch.stack([torch.full_like(reference[0], error) for error in (0.1, 0.3)])

    assert psnr(reference, video) == pytest.approx(10 * math.log10(1 / 0.05), abs=1e-4)


def test_the_mean_colour_leaves_the_variance_of_each_clip_and_channel(clips: Clips) -> None:
    variance = unit_videos(clips).double().var(dim=(2, 3, 4), correction=0).mean()

    assert psnr_mean_colour(clips) == pytest.approx(-10 * math.log10(variance), abs=1e-6)


def test_the_first_frame_is_compared_with_every_frame(clips: Clips) -> None:
    videos = unit_videos(clips).double()
    errors = [(videos[:, :, frame] - videos[:, :, 0]).square().mean() for frame in range(videos.shape[2])]

    assert psnr_first_frame(clips) == pytest.approx(-10 * math.log10(sum(errors) / len(errors)), abs=1e-6)


def test_scores_do_not_depend_on_the_batch_size(tokenizer: VideoTokenizer, clips: Clips) -> None:
    scores = [evaluate_tokenizer(tokenizer, clips, batch_size=size) for size in (1, 7, 20)]

    assert scores[0].psnr == pytest.approx(scores[1].psnr, abs=1e-4)
    assert scores[0].psnr == pytest.approx(scores[2].psnr, abs=1e-4)
    assert all(torch.equal(score.codes, scores[0].codes) for score in scores)


@pytest.mark.parametrize("num_parts", [2, 3, 30])
def test_parts_together_have_the_scores_of_all_clips(tokenizer: VideoTokenizer, clips: Clips, num_parts: int) -> None:
    whole = evaluate_tokenizer(tokenizer, clips)

    parts = [
        evaluate_tokenizer(tokenizer, clips.select(range(part, len(clips), num_parts))) for part in range(num_parts)
    ]

    assert joined(parts).psnr == pytest.approx(whole.psnr, abs=1e-4)
    assert torch.equal(joined(parts).codes, whole.codes)


def test_scores_are_those_of_the_clipped_reconstruction(tokenizer: VideoTokenizer, clips: Clips) -> None:
    videos = unit_videos(clips)
    with torch.no_grad():
        for parameter in tokenizer.decoder[-1].parameters():
            parameter *= 3
        reconstruction = tokenizer(videos * 2 - 1) / 2 + 0.5
        codes = tokenizer.encode(videos * 2 - 1)

    scores = evaluate_tokenizer(tokenizer, clips)

    assert reconstruction.min() < 0 or reconstruction.max() > 1
    assert scores.psnr == pytest.approx(psnr(videos, reconstruction.clamp(0, 1)), abs=1e-4)
    assert torch.equal(scores.codes, codes)


def test_bits_per_pixel_count_every_code_of_a_clip(tokenizer: VideoTokenizer) -> None:
    assert bits_per_pixel(tokenizer, 17, 16, 16) == 9 * 8 * 8 * 6 / (17 * 16 * 16)
    assert bits_per_pixel(tokenizer, 1, 16, 16) == 8 * 8 * 6 / (16 * 16)


def test_the_yardsticks_of_the_shipped_clips() -> None:
    heldout = load_data(DataConfig(), progress=False).heldout

    assert psnr_mean_colour(heldout) == pytest.approx(14.70, abs=0.01)
    assert psnr_first_frame(heldout) == pytest.approx(21.29, abs=0.01)
